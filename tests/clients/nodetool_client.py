"""A client of NodeTool's worker: `nodetool_client.py URL BYTES`, with a credential for `Authorization` in CREDENTIAL, if any.

Prints one line of JSON: the status of the refusal, or what came back over the WebSocket.
"""

import asyncio
import json
import os
import sys

import msgpack
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def ask(websocket, message: dict) -> dict:
    await websocket.send(msgpack.packb(message))
    return msgpack.unpackb(await asyncio.wait_for(websocket.recv(), 30))


async def main(url: str, size: int) -> dict:
    credential = os.environ.get("CREDENTIAL")
    headers = {"Authorization": credential} if credential else {}
    try:
        async with connect(url, additional_headers=headers, max_size=None) as websocket:
            status = await ask(websocket, {"type": "worker.status", "request_id": "1"})
            # The worker repeats the type of a message that it does not know.
            unknown = await ask(websocket, {"type": "x" * size, "request_id": "2"})
            return {
                "status": status["data"]["transport"],
                "ids": [status["request_id"], unknown["request_id"]],
                "repeated": unknown["data"]["error"].count("x" * 1000) * 1000,
            }
    except InvalidStatus as refusal:
        return {"refused": refusal.response.status_code, "body": refusal.response.body.decode(errors="replace")}


print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
