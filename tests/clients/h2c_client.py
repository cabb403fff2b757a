"""A client that upgrades its connection to h2c and asks for /admin over it: `h2c_client.py PORT TOKEN HEADERS`, the latter as JSON.

It prints the status of the answer to the upgrade and, if there was one, of that to the second request."""

import json
import socket
import sys

import h2.connection
import h2.events


def main(port: str, token: str, headers: str) -> None:
    connection = h2.connection.H2Connection()
    settings = connection.initiate_upgrade_connection().decode()
    lines = [f"{name}: {value.replace('SETTINGS', settings)}\r\n" for name, value in json.loads(headers)]
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as peer:
        head = f"GET /v1/models HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n{''.join(lines)}\r\n"
        peer.sendall(head.encode())
        received = b""
        while b"\r\n\r\n" not in received and (part := peer.recv(65536)):
            received += part
        status = int(received.split(b" ", 2)[1]) if received else None
        admin = None
        if status == 101:
            received = received.split(b"\r\n\r\n", 1)[1]
            connection.send_headers(3, [(":method", "GET"), (":scheme", "http"), (":authority", "api.example.com"), (":path", "/admin"), ("x-user-id", "root")], end_stream=True)
            peer.sendall(connection.data_to_send())
            while admin is None and (received or (received := peer.recv(65536))):
                for event in connection.receive_data(received):
                    if isinstance(event, h2.events.ResponseReceived) and event.stream_id == 3:
                        admin = int(dict(event.headers)[b":status"])
                received = b""
                peer.sendall(connection.data_to_send())
    print(json.dumps({"status": status, "admin": admin}))


main(*sys.argv[1:])
