"""A FastAPI application that raises, breaks off, streams, reads uploads and upgrades, served by uvicorn or hypercorn.

Run as `python fastapi_app.py [uvicorn|hypercorn] [KEEP_ALIVE_SECONDS]`. It prints the port that it listens on.
"""

import asyncio
import hashlib
import socket
import sys

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "healthy"}


@app.api_route("/raise", methods=["GET", "POST", "DELETE"])
async def unhandled_exception():
    raise RuntimeError("this route always raises")


@app.api_route("/status/{code}", methods=["GET", "POST"])
async def status(code: int):
    return JSONResponse({"code": code}, status_code=code)


@app.post("/break-off")
async def break_off():
    async def part_of_an_answer():
        yield b"part"
        raise RuntimeError("the answer ends here")

    return StreamingResponse(part_of_an_answer())


@app.post("/upload")
async def upload(request: Request):
    digest, length = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        length += len(chunk)
    return {"length": length, "sha256": digest.hexdigest(), "user": request.headers.get("x-user-id")}


@app.post("/ignore-upload")
async def ignore_upload():
    return JSONResponse({"detail": "too large"}, status_code=413)


@app.get("/events")
async def events(count: int = 5):
    async def stream():
        for number in range(count):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(websocket.headers.get("x-user-id", ""))
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await websocket.send_bytes(message["bytes"])
            else:
                await websocket.send_text(message["text"])
    except WebSocketDisconnect:
        pass


def main():
    server = sys.argv[1] if len(sys.argv) > 1 else "uvicorn"
    keep_alive = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    if server == "hypercorn":
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.keep_alive_timeout = keep_alive
        asyncio.run(serve(app, config))
    else:
        import uvicorn

        config = uvicorn.Config(app, log_level="critical", timeout_keep_alive=keep_alive, ws_max_size=64 * 1024 * 1024)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
