// The API behind the gateway: small, real, and with a memory of what it was sent.
import { createHash } from "node:crypto";
import { EventEmitter } from "node:events";
import http from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { WebSocketServer } from "ws";

import { listen } from "./servers.mjs";

const json = (response, status, value) => {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { "content-type": "application/json", "content-length": body.length }).end(body);
};

/** Bytes that no proxy could invent: block after block of a counter's hash. */
export function* blocks(total) {
  for (let sent = 0, counter = 0; sent < total; counter += 1) {
    const seed = createHash("sha256").update(String(counter)).digest();
    const block = Buffer.alloc(Math.min(65536, total - sent), seed);
    sent += block.length;
    yield block;
  }
}

export function digestOf(total) {
  const hash = createHash("sha256");
  for (const block of blocks(total)) hash.update(block);
  return hash.digest("hex");
}

export async function startUpstream() {
  /** What came in: `{method, target, headers: [[name, value], …], body: Promise<Buffer>}`, in the order of arrival. */
  const requests = [];
  const events = new EventEmitter();
  const held = new Set();

  const record = (request, body) => {
    const headers = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      headers.push([request.rawHeaders[at].toLowerCase(), request.rawHeaders[at + 1]]);
    }
    const entry = { method: request.method, target: request.url, headers, body, aborted: false };
    requests.push(entry);
    events.emit("request", entry);
    return entry;
  };

  const server = http.createServer({ maxHeaderSize: 1 << 20, keepAliveTimeout: 60_000 }, (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://upstream.test");
    if (pathname === "/sink") return sink(request, response, record(request, null));

    let entry;
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    const body = new Promise((resolve) => {
      request.once("end", () => {
        entry.trailers = request.rawTrailers;
        resolve(Buffer.concat(chunks));
      });
      request.once("error", () => resolve(Buffer.concat(chunks)));
    });
    entry = record(request, body);
    response.once("close", () => {
      entry.aborted = !response.writableFinished;
      events.emit("close", entry);
    });
    const handler = routes[`${request.method} ${pathname}`] ?? (pathname.startsWith("/admin/storage/") ? store : fallback);
    body.then((bytes) => handler(response, { bytes, searchParams, request }));
  });
  server.maxHeadersCount = 0;

  async function sink(request, response, entry) {
    const hash = createHash("sha256");
    let size = 0;
    request.once("close", () => {
      entry.aborted = !request.complete;
      events.emit("close", entry);
    });
    try {
      for await (const chunk of request) {
        hash.update(chunk);
        size += chunk.length;
        events.emit("progress", size);
      }
      json(response, 200, { size, sha256: hash.digest("hex") });
    } catch {
      // The sender broke off; whoever waits for it hears of it by `close`.
    }
  }

  const fallback = (response) => json(response, 200, { from: "upstream" });

  const store = (response, { bytes }) => json(response, 201, { size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });

  const completion = (extra) => ({ id: "chatcmpl-1", created: 1767225600, model: "test-model", ...extra });

  const routes = {
    "GET /v1/models": (response) =>
      json(response, 200, { object: "list", data: [{ id: "test-model", object: "model", created: 1767225600, owned_by: "test" }] }),

    "POST /v1/chat/completions": (response, { bytes }) => {
      if (!JSON.parse(bytes.toString()).stream) {
        const message = { role: "assistant", content: "Hello, world" };
        const choices = [{ index: 0, message, finish_reason: "stop" }];
        const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
        return json(response, 200, completion({ object: "chat.completion", choices, usage }));
      }
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const content of ["Hello", ", ", "world"]) {
        const choices = [{ index: 0, delta: { content }, finish_reason: null }];
        response.write(`data: ${JSON.stringify(completion({ object: "chat.completion.chunk", choices }))}\n\n`);
      }
      response.end("data: [DONE]\n\n");
    },

    "GET /admin/collections": (response) => json(response, 200, { collections: [{ name: "test" }] }),

    // An event goes out when the test says so, and never before.
    "GET /events": (response) => {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
      response.flushHeaders();
      const send = (text) => (text === null ? response.end() : response.write(`data: ${text}\n\n`));
      events.on("push", send);
      response.once("close", () => events.off("push", send));
    },

    "GET /source": async (response, { searchParams }) => {
      const total = Number(searchParams.get("bytes"));
      response.writeHead(200, { "content-type": "application/octet-stream", "content-length": total });
      // Whoever leaves hears no more of it.
      await pipeline(Readable.from(blocks(total)), response).catch(() => {});
    },

    // Answers when the test lets go.
    "GET /held": (response) => {
      held.add(() => json(response, 200, { from: "upstream", held: true }));
      events.emit("held");
    },

    "GET /hang": () => {},

    "GET /die": (response) => {
      response.writeHead(200, { "content-type": "application/octet-stream", "content-length": 1000 });
      response.write(Buffer.alloc(500, "x"), () => response.destroy());
    },

    "GET /die-chunked": (response) => {
      response.writeHead(200, { "content-type": "application/octet-stream" });
      response.write(Buffer.alloc(500, "x"), () => response.destroy());
    },

    "GET /die-at-once": (response) => response.destroy(),

    "GET /gzip": (response) => {
      const body = gzipSync("compressed once, and once only");
      response.writeHead(200, { "content-type": "text/plain", "content-encoding": "gzip", "content-length": body.length }).end(body);
    },

    "GET /redirect": (response) => response.writeHead(302, { location: "/elsewhere" }).end(),

    "GET /teapot": (response) =>
      response.writeHead(418, { "x-one": "1", "set-cookie": ["a=1", "b=2"], "content-type": "text/plain", "www-authenticate": "Basic" }).end("short and stout"),
  };

  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => offered.values().next().value ?? false });
  server.on("upgrade", (request, socket, head) => {
    record(request, Promise.resolve(Buffer.alloc(0)));
    if (request.url === "/no-websockets-here") return socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      events.emit("websocket", webSocket);
      webSocket.on("message", (data, isBinary) => {
        if (!isBinary && data.toString() === "close me") webSocket.close(4321, "as you wish");
        else webSocket.send(data, { binary: isBinary });
      });
    });
  });

  return {
    ...(await listen(server)),
    requests,
    events,
    /** What has come since the last call. */
    take: () => requests.splice(0),
    push: (text) => events.emit("push", text),
    release() {
      for (const answer of held) answer();
      held.clear();
    },
  };
}

/** A port at which nobody listens. */
export async function deadPort() {
  const { port, stop } = await listen(http.createServer());
  await stop();
  return port;
}
