// Clients without a token that hold a connection of the native host, each in its way.
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";

import { spawnNative } from "./hosts.mjs";
import { until } from "./process.mjs";
import { request } from "./raw.mjs";

export const HEALTH = request({ target: "/health", headers: [["Host", "x"]] });

/** More than a socket takes of the answers. */
const MANY_REQUESTS = Buffer.concat(Array(20_000).fill(request({ target: "/v1/models", headers: [["Host", "x"]] })));

/** A connection that sends this and then does nothing; `{ reads: false }` before it: it does not read either. */
export function stalled(port, ...pieces) {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  if (pieces[0]?.reads !== false) return holding(socket, "connect", pieces);
  const opened = holding(socket, "connect", pieces.slice(1));
  socket.pause();
  return opened;
}

/** The same inside of TLS, whose handshake is complete. */
const stalledInTls = (port, ...pieces) =>
  holding(tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] }), "secureConnect", pieces);

async function holding(socket, opened, pieces) {
  const state = { socket, isClosed: false, text: "" };
  socket.on("error", () => {}).on("close", () => (state.isClosed = true)).on("data", (chunk) => (state.text += chunk.toString("latin1")));
  // A host that is full may close it before.
  await Promise.race([once(socket, opened), once(socket, "close")]).catch(() => {});
  for (const piece of pieces) socket.write(piece);
  return state;
}

/** Clients without a token that hold their connections, each in its way. */
export const HOSTILE = {
  "nothing at all": (port) => stalled(port),
  "part of a head": (port) => stalled(port, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX: "),
  "an idle connection after /health": async (port) => {
    const client = await stalled(port, HEALTH);
    await until(() => client.isClosed || client.text.includes("200 OK"));
    return client;
  },
  "a refused body that does not come": (port) => stalled(port, "POST /v1/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
  "answers that are not read": async (port) => {
    const client = await stalled(port);
    client.socket.pause();
    client.socket.write(MANY_REQUESTS);
    return client;
  },
  "HTTP/2 with a window of nothing": async (port) => {
    const state = { isClosed: false };
    const session = http2.connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
    session.on("error", () => {}).on("close", () => (state.isClosed = true));
    state.socket = session;
    for (let number = 0; number < 20; number += 1) session.request({ ":path": "/health" }).on("error", () => {});
    await Promise.race([once(session, "remoteSettings"), once(session, "close")]).catch(() => {});
    return state;
  },
};

/** The same where the host speaks TLS. */
export const HOSTILE_IN_TLS = {
  "nothing at all": (port) => stalled(port),
  "part of a handshake": (port) => stalled(port, Buffer.from([22, 3, 1, 2, 0, 1, 0, 1])),
  "nothing after the handshake": (port) => stalledInTls(port),
  "part of a head": (port) => stalledInTls(port, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX: "),
  "a refused body that does not come": (port) => stalledInTls(port, "POST /v1/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
};

/** The host's own health check succeeds within a second. */
export async function healthy(host, settings = {}) {
  const { exited } = spawnNative({ settings: { AUTH_LISTEN: `127.0.0.1:${host.port}`, ...settings }, args: ["health", "--timeout", "1s"] });
  const { code, stderr } = await exited;
  assert.equal(code, 0, stderr);
}
