"""A server that upgrades connections to h2c: `h2c_server.py`. Hypercorn serves an application that tells what it was asked, and prints it."""

import asyncio
import json

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
    asked = {"path": scope["path"], "version": scope["http_version"], "user": headers.get("x-user-id")}
    print(json.dumps(asked), flush=True)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(asked).encode()})


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "INFO"
    await serve(application, config)


asyncio.run(main())
