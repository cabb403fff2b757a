// A connection of HTTP/2 before a valid credential was shown: what it may hold is bounded, and it is read from all the same.
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { describe, test as nodeTest } from "node:test";

import { until } from "./support/process.mjs";
import { beginning, framesIn, get, reset } from "./support/frames.mjs";
import { AUTHORIZATION, STATIC } from "./support/hosts.mjs";
import { status } from "./support/raw.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";
import { serving as servingBoth } from "./support/serving.mjs";

const test = (title, run) => nodeTest(title, { timeout: 30_000 }, run);
const serving = (settings, answer, body) => servingBoth("native", { settings: { ...STATIC, ...settings }, start: () => startRawUpstream(answer) }, body);
const ok = ({ socket }) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
const LARGE = 20_000_000;

/** `/health` takes its time, and all else answers at once. */
const hanging = (asked) => (asked.target === "/health" ? undefined : ok(asked));

/** The answer to one request of a session, with its whole body; or why there is none. */
function answerTo(session, headers) {
  const stream = session.request(headers);
  let size = 0;
  stream.on("data", (chunk) => (size += chunk.length));
  const answer = new Promise((resolve) => {
    let status;
    stream.once("response", (response) => (status = response[":status"]));
    stream.once("error", (error) => resolve({ status, size, error: error.message }));
    stream.once("end", () => resolve({ status, size }));
  });
  return Object.assign(answer, { stream });
}

async function withSession(host, body) {
  const session = http2.connect(host.url).on("error", () => {});
  try {
    await once(session, "connect");
    return await body(session);
  } finally {
    session.destroy();
  }
}

describe("HTTP/2 before a valid credential was shown", () => {
  const download = ({ target, socket }) => void socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${LARGE}\r\n\r\n`, () => socket.write(Buffer.alloc(LARGE, target)));

  test("a large public answer and many refusals at one time all come to their end", () =>
    serving({}, download, (host) =>
      withSession(host, async (session) => {
        const large = answerTo(session, { ":path": "/health" });
        await new Promise((resolve) => large.stream.once("data", resolve));
        const refusals = await Promise.all(Array.from({ length: 60 }, () => answerTo(session, { ":path": "/v1/models" })));
        assert.deepEqual(refusals.map(({ status }) => status), Array(60).fill(401));
        assert.deepEqual(await large, { status: 200, size: LARGE });
      }),
    ));

  test("a burst of refusals is answered in whole, if the client has room for it", () =>
    serving({}, ok, (host) =>
      withSession(host, async (session) => {
        const refusals = await Promise.all(Array.from({ length: 100 }, () => answerTo(session, { ":path": "/v1/models" })));
        for (const { status, size } of refusals) assert.deepEqual([status, size], [401, '{"detail":"Authorization header required. Use \'Authorization: Bearer YOUR_TOKEN\'"}'.length]);
      }),
    ));

  test("a valid token is served at once beside requests that wait, and what is too much is refused as a stream to repeat", () =>
    serving({}, hanging, (host) =>
      withSession(host, async (session) => {
        const waiting = Array.from({ length: 40 }, () => answerTo(session, { ":path": "/health" }));
        const refused = await Promise.race(waiting);
        assert.match(refused.error, /NGHTTP2_REFUSED_STREAM/);
        const began = performance.now();
        const { status } = await answerTo(session, { ":path": "/v1/models", authorization: AUTHORIZATION[1] });
        assert.equal(status, 200);
        assert.ok(performance.now() - began < 1000, `${performance.now() - began} ms`);
      }),
    ));

  test("requests of a client that is gone end at the upstream", () =>
    serving({}, hanging, async (host, upstream) => {
      const socket = net.connect(host.port, "127.0.0.1");
      socket.write(Buffer.concat([beginning(65_535), ...Array.from({ length: 40 }, (_, number) => get("/health", number))]));
      await until(() => upstream.open.size >= 12);
      socket.resetAndDestroy();
      await until(() => upstream.open.size === 0);
      assert.equal(await status(host, AUTHORIZATION[1].slice(7)), 200);
    }));

  test("a client that takes back request after request is sent away, and costs the upstream few connections", () =>
    serving({}, hanging, async (host, upstream) => {
      for (const size of [1, 100]) {
        const before = upstream.connections();
        const socket = net.connect(host.port, "127.0.0.1").on("error", () => {});
        const closed = new Promise((resolve) => socket.once("close", resolve));
        socket.resume();
        socket.write(beginning(65_535));
        for (let block = 0; block < 2000 / size; block += 1) {
          const numbers = Array.from({ length: size }, (_, at) => block * size + at);
          socket.write(Buffer.concat([...numbers.map((number) => get("/health", number)), ...numbers.map(reset)]));
        }
        await closed;
        assert.ok(upstream.connections() - before < 60, `${upstream.connections() - before} connections in blocks of ${size}`);
      }
      assert.equal(await status(host, AUTHORIZATION[1].slice(7)), 200);
    }));

  test("windows of nothing keep no refusal back: what has no room for a body gets none", () =>
    serving({}, ok, async (host) => {
      const socket = net.connect(host.port, "127.0.0.1");
      let bytes = Buffer.alloc(0);
      socket.on("data", (chunk) => (bytes = Buffer.concat([bytes, chunk])));
      socket.write(Buffer.concat([beginning(0), ...Array.from({ length: 100 }, (_, number) => get("/v1/models", number))]));
      const heads = () => framesIn(bytes).filter(({ type }) => type === 1);
      await until(() => heads().length === 100);
      assert.ok(heads().filter(({ flags }) => flags & 1).length >= 80, "most of them end with their head");
      socket.destroy();
    }));
});
