// An HTTP/1.1 client that sends exactly the bytes it is given, as no decent library would.
import net from "node:net";

import { secretsOfRequest } from "./transcripts.mjs";

/**
 * Sends bytes and reads `count` answers, or as many as come before the connection ends.
 * With `drain` it then says that it has no more to send, and reads on until the host ends the connection: whatever
 * else the host took for a request has been answered by then. `spoiled`: what looks like a credential in it may be anything.
 * @returns {Promise<{answers: Answer[], rest: Buffer, closed: boolean}>} `closed`: the host ended the connection
 */
export function exchange(port, bytes, { count = 1, head = false, end = false, drain = false, spoiled = false, timeout = 10_000 } = {}) {
  if (!spoiled) secretsOfRequest(bytes);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    let received = Buffer.alloc(0);
    const answers = [];
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no complete answer in ${timeout} ms; so far: ${JSON.stringify(received.toString("latin1").slice(0, 300))}`));
    }, timeout);
    const done = (closed) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ answers, rest: received, closed });
    };
    const finish = () => {
      if (!drain) return done(false);
      count = Number.POSITIVE_INFINITY;
      socket.end();
    };
    const parse = (ended) => {
      for (;;) {
        const parsed = parseAnswer(received, { head, ended });
        if (!parsed) return false;
        received = received.subarray(parsed.length);
        if (parsed.answer.status >= 200 || parsed.answer.status === 101) answers.push(parsed.answer);
        if (answers.length === count) return true;
      }
    };
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (parse(false)) finish();
    });
    socket.on("end", () => {
      parse(true);
      done(true);
    });
    // A host may refuse by cutting the connection while the request is still being written.
    socket.on("error", () => {
      parse(true);
      done(true);
    });
    // `end` says that no more will come: for requests that are never complete.
    socket[end ? "end" : "write"](Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes, "latin1"));
  });
}

/** One answer; an error if none came. */
export async function ask(port, bytes, options) {
  const { answers, rest } = await exchange(port, bytes, options);
  if (answers.length === 0) throw new Error(`the connection ended without an answer: ${JSON.stringify(rest.toString("latin1"))}`);
  return answers[0];
}

/** The header lines of a WebSocket handshake (RFC 6455, section 4.1). */
export const WEBSOCKET = [["Connection", "Upgrade"], ["Upgrade", "websocket"], ["Sec-WebSocket-Version", "13"], ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="]];

/** The bytes of a request, its lines exactly as given. A body is framed by `Content-Length`. */
export function request({ method = "GET", target = "/", headers = [], body }) {
  const lines = [`${method} ${target} HTTP/1.1`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  const payload = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
  if (body !== undefined) lines.push(`Content-Length: ${payload.length}`);
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), payload]);
}

/** What a client with this token, or with none, is answered. */
export async function status(host, token, target = "/v1/models") {
  const headers = [["Host", "127.0.0.1"], ...(token === undefined ? [] : [["Authorization", `Bearer ${token}`]])];
  return (await ask(host.port, request({ target, headers }))).status;
}

/** @typedef {{status: number, headers: [string, string][], header(name: string): string | undefined, body: Buffer, complete: boolean}} Answer */

function parseAnswer(bytes, { head, ended }) {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [statusLine, ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const status = Number(statusLine.split(" ")[1]);
  const headers = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  const header = (name) => {
    const values = headers.filter(([other]) => other === name).map(([, value]) => value);
    return values.length === 0 ? undefined : values.join(", ");
  };
  const make = (body, length, complete = true) => ({ answer: { status, headers, header, body, complete }, length });

  const start = end + 4;
  const rest = bytes.subarray(start);
  if (head || status < 200 || status === 204 || status === 304) return make(Buffer.alloc(0), start);
  if (header("transfer-encoding") === "chunked") {
    const chunks = unchunk(rest);
    if (chunks.complete || ended) return make(chunks.body, start + chunks.length, chunks.complete);
    return null;
  }
  if (header("content-length") !== undefined) {
    const length = Number(header("content-length"));
    if (rest.length >= length) return make(rest.subarray(0, length), start + length);
    return ended ? make(rest, bytes.length, false) : null;
  }
  return ended ? make(rest, bytes.length) : null;
}

function unchunk(bytes) {
  const chunks = [];
  let at = 0;
  for (;;) {
    const line = bytes.indexOf("\r\n", at);
    const size = line < 0 ? Number.NaN : Number.parseInt(bytes.subarray(at, line).toString("latin1"), 16);
    if (Number.isNaN(size) || bytes.length < line + 2 + size + 2) {
      return { body: Buffer.concat(chunks), length: bytes.length, complete: false };
    }
    chunks.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
    if (size === 0) return { body: Buffer.concat(chunks), length: at, complete: true };
  }
}
