// The Worker's requests to the upstream: repeated where a lost connection allows it, and never answered by Cloudflare's cache.
import assert from "node:assert/strict";
import { describe, test as nodeTest } from "node:test";

import { until } from "./support/gateway.mjs";
import { AUTHORIZATION, STATIC, startEdge } from "./support/hosts.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";
import { WEBSOCKET, ask, request } from "./support/raw.mjs";
import { serving } from "./support/serving.mjs";
import { modulesOf, worker } from "./support/workers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const HOST = ["Host", "gateway.example"];
const ok = ({ socket }) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

/** Ways in which a connection is lost before the answer. */
const LOSSES = {
  "ended without a word": ({ socket }) => void socket.end(),
  "reset": ({ socket }) => void socket.resetAndDestroy(),
  "ended within the head": ({ socket }) => void socket.end("HTTP/1.1 200 OK\r\nContent-"),
};

/** A gateway whose upstream loses the connection of as many requests as said, and answers the others. */
const losing = (times, lose, body, settings = {}) => {
  let lost = 0;
  const start = () => startRawUpstream((asked) => (lost++ < times ? lose(asked) : ok(asked)));
  return serving("edge", { start, settings: { ...STATIC, ...settings } }, body);
};
const send = (host, { method = "GET", target = "/v1/models?a=%2F", headers = [], body } = {}) => ask(host.port, request({ method, target, headers: [HOST, AUTHORIZATION, ...headers], body }), { head: method === "HEAD" });
const noted = ({ requests }) => requests.map(({ method, target }) => `${method} ${target}`);

describe("edge: an upstream that loses connections", () => {
  for (const [what, lose] of Object.entries(LOSSES)) {
    test(`a safe request is sent once more if its connection is ${what}`, async () => {
      for (const method of ["GET", "HEAD", "OPTIONS"]) {
        await losing(1, lose, async (host, upstream) => {
          const { status } = await send(host, { method, headers: [["X-Own", "1"]] });
          assert.equal(status, 200);
          assert.deepEqual(noted(upstream), [`${method} /v1/models?a=%2F`, `${method} /v1/models?a=%2F`]);
          const [first, second] = upstream.requests.map(({ headers }) => headers);
          assert.deepEqual(first, second);
          assert.ok(first.some(([name, value]) => name === "x-user-id" && value === "1"), "as the same user");
        });
      }
    });

    test(`twice is an outage: ${what}`, async () => {
      await losing(2, lose, async (host, upstream) => {
        const { status, body } = await send(host);
        assert.deepEqual([status, body.toString()], [502, '{"detail":"Upstream unavailable"}']);
        assert.equal(upstream.requests.length, 2);
        assert.equal((await send(host)).status, 200);
      });
    });

    test(`what may change something is not repeated: ${what}`, async () => {
      for (const [method, body] of [["POST", "{}"], ["POST", ""], ["PUT", "{}"], ["PATCH", "{}"], ["DELETE", undefined], ["POST", undefined]]) {
        await losing(1, lose, async (host, upstream) => {
          assert.equal((await send(host, { method, body })).status, 502, method);
          assert.equal(upstream.requests.length, 1, method);
        });
      }
    });
  }

  test("an upgrade to WebSocket is a safe request", async () => {
    const lose = ({ socket }) => void socket.end();
    await losing(1, lose, async (host, upstream) => {
      assert.equal((await send(host, { target: "/ws", headers: WEBSOCKET })).status, 200);
      assert.deepEqual(noted(upstream), ["GET /ws", "GET /ws"]);
      for (const { headers } of upstream.requests) assert.deepEqual(headers.find(([name]) => name === "upgrade"), ["upgrade", "websocket"]);
    });
  });

  test("an upstream that closes kept connections without notice costs no answer", async () => {
    // Each ends just as it is used again.
    const used = new WeakSet();
    const start = () => startRawUpstream((asked) => (used.has(asked.socket) ? void asked.socket.destroy() : (used.add(asked.socket), ok(asked))));
    await serving("edge", { start, settings: STATIC }, async (host, upstream) => {
      const statuses = [];
      for (let times = 0; times < 200; times += 1) statuses.push((await send(host)).status);
      assert.deepEqual(statuses.filter((status) => status !== 200), []);
      assert.ok(upstream.requests.length > 300, `${upstream.requests.length}`);
    });
  });

  test("a request that took too long is not repeated, and its connection is given up", async () => {
    await losing(1, () => {}, async (host, upstream) => {
      const { status, body } = await send(host);
      assert.deepEqual([status, body.toString()], [504, '{"detail":"Upstream timed out"}']);
      await until("the connection is closed", 5000, () => upstream.open.size === 0);
      assert.equal(upstream.requests.length, 1);
    }, { UPSTREAM_TIMEOUT: "1" });
  });

  test("both attempts have one time limit", async () => {
    let asked = 0;
    const start = () => startRawUpstream(({ socket }) => (asked++ === 0 ? void setTimeout(() => socket.end(), 1500) : undefined));
    await serving("edge", { start, settings: { ...STATIC, UPSTREAM_TIMEOUT: "2" } }, async (host, upstream) => {
      const began = Date.now();
      assert.equal((await send(host)).status, 504);
      assert.ok(Date.now() - began < 3000, `${Date.now() - began} ms`);
      assert.equal(upstream.requests.length, 2);
    });
  });
});

describe("edge: the cache of Cloudflare", () => {
  /** A Worker in the place of the Internet, which tells how it was asked. */
  const observer = worker({
    name: "observer",
    manifest: modulesOf({ "index.js": "export default { fetch: (request) => Response.json({ cf: request.cf ?? null, headers: [...request.headers] }) };" }),
  });
  const observed = { outbound: { type: "worker", worker: "observer" }, others: [observer] };

  /** What the platform makes of `cache: "no-store"`. */
  async function ofNoStore() {
    const manifest = modulesOf({ "index.js": `export default { fetch: () => fetch("http://upstream.example/", { cache: "no-store" }) };` });
    const host = await startEdge({ manifest, ...observed });
    try {
      return JSON.parse((await send(host)).body).cf;
    } finally {
      await host.stop();
    }
  }

  test("is used by no request to the upstream", async () => {
    const noStore = await ofNoStore();
    assert.equal(noStore.cacheLevel, "bypass");
    const host = await startEdge({ settings: { ...STATIC, UPSTREAM_URL: "http://upstream.example", AUTH_FORWARD_AUTHORIZATION: "strip" }, ...observed });
    try {
      for (const sent of [{ target: "/v1/me/avatar.png" }, { method: "HEAD" }, { target: "/health" }, { method: "POST", body: "{}" }, { method: "OPTIONS", headers: [["Origin", "https://app.example"], ["Access-Control-Request-Method", "GET"]] }]) {
        const { status, body } = await send(host, sent);
        assert.equal(status, 200);
        if (sent.method === "HEAD") continue;
        assert.deepEqual(JSON.parse(body).cf, noStore, JSON.stringify(sent));
      }
    } finally {
      await host.stop();
    }
  });

  test("what the client says of caches arrives as it is: an upstream may answer with 304", async () => {
    await losing(0, undefined, async (host, upstream) => {
      const told = async (headers) => {
        upstream.requests.length = 0;
        assert.equal((await send(host, { headers })).status, 200);
        return upstream.requests[0].headers.filter(([name]) => ["cache-control", "pragma", "if-none-match"].includes(name)).sort();
      };
      assert.deepEqual(await told([["If-None-Match", '"a"']]), [["if-none-match", '"a"']]);
      assert.deepEqual(await told([["Cache-Control", "only-if-cached"]]), [["cache-control", "only-if-cached"]]);
    });
  });
});
