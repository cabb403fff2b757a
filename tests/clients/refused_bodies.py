"""Clients of Python that post without a token and then ask with one, over the same session: prints what each of them was told.

Arguments: URL, token, client (http.client, requests or httpx).
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

SIZES = [3, 10_000, 100_000, 1_000_000]
ROUNDS = 5


def pieces(size):
    """A body without a length, in several parts."""
    part = max(1, size // 3)
    for start in range(0, size, part):
        yield b"x" * min(part, size - start)


class Plain:
    """The head and the body of a request leave in two packets."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def ask(self, method, path, headers=None, body=None):
        self.connection.request(method, path, body=body, headers=headers or {}, encode_chunked=not isinstance(body, (bytes, type(None))))
        response = self.connection.getresponse()
        response.read()
        return response.status


class Session:
    def __init__(self, url, kind):
        self.url = url
        if kind == "requests":
            import requests

            session = requests.Session()
            session.trust_env = False
            self.send = lambda method, url, headers, body: session.request(method, url, headers=headers, data=body, timeout=10)
        else:
            import httpx

            client = httpx.Client(trust_env=False, timeout=10)
            self.send = lambda method, url, headers, body: client.request(method, url, headers=headers, content=body)

    def ask(self, method, path, headers=None, body=None):
        return self.send(method, self.url + path, headers, body).status_code


def told(ask):
    try:
        return ask()
    except Exception as error:
        return type(error).__name__


url, token, kind = sys.argv[1:]
for size in SIZES:
    for framing in ["length", "chunked"]:
        client = Plain(url) if kind == "http.client" else Session(url, kind)
        for _ in range(ROUNDS):
            body = b"x" * size if framing == "length" else pieces(size)
            refused = told(lambda: client.ask("POST", "/v1/chat", {"Transfer-Encoding": "chunked"} if framing == "chunked" and kind == "http.client" else None, body))
            served = told(lambda: client.ask("GET", "/v1/models", {"Authorization": f"Bearer {token}"}))
            print(json.dumps({"size": size, "framing": framing, "refused": refused, "served": served}))
