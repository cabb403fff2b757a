// The cap on connections to the upstream: what clients without a credential can hold of them, and what others get meanwhile.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { describe, test as nodeTest } from "node:test";

import { answerTo } from "./support/clients.mjs";
import { AUTHORIZATION, STATIC, startNative } from "./support/hosts.mjs";
import { descriptors, until } from "./support/process.mjs";
import { listen } from "./support/servers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);

const LARGE = Buffer.alloc(100_000, "x");
const AUTHORIZED = Object.fromEntries([AUTHORIZATION]);
const BUSY = { status: 503, body: '{"detail":"Upstream busy"}', retryAfter: "1" };

/** An upstream with a large `/health`, and `/held`, which is answered when `release` is called. */
async function startUpstream() {
  const held = [];
  const connections = { now: 0, most: 0 };
  const server = http.createServer((incoming, outgoing) => {
    incoming.resume();
    if (incoming.url === "/held") return void held.push(outgoing);
    outgoing.end(incoming.url === "/health" ? LARGE : "ok");
  });
  server.on("connection", (socket) => {
    connections.now += 1;
    connections.most = Math.max(connections.most, connections.now);
    socket.once("close", () => (connections.now -= 1));
  });
  const release = () => held.splice(0).forEach((outgoing) => outgoing.end("released"));
  return { ...(await listen(server)), held, release, connections };
}

async function between(settings, body, wrap) {
  const upstream = await startUpstream();
  const agent = new http.Agent({ keepAlive: true });
  const host = await startNative({ settings: { ...STATIC, UPSTREAM_URL: upstream.url, ...settings }, wrap });
  const ask = async (path, { method = "GET", headers = AUTHORIZED, anew = false } = {}) => {
    const outgoing = http.request({ port: host.port, path, method, headers, agent: anew ? false : agent });
    outgoing.end();
    const { status, headers: told, body } = await answerTo(outgoing);
    return { status, body, retryAfter: told["retry-after"] };
  };
  try {
    await body(host, upstream, ask);
  } finally {
    agent.destroy();
    await host.stop();
    await upstream.stop();
  }
}

/** A client of HTTP/2 without a credential that asks for `/health` as often as it may, and takes nothing of the answers. */
async function startHostile(host, streams = 128) {
  const session = http2.connect(host.url, { settings: { initialWindowSize: 0 } });
  session.on("error", () => {});
  await once(session, "connect");
  const answered = [];
  for (let stream = 0; stream < streams; stream += 1) {
    const request = session.request({ ":path": "/health" });
    request.on("error", () => {});
    answered.push(new Promise((resolve) => request.once("response", resolve).once("close", resolve)));
  }
  return { session, answered: Promise.all(answered), stop: () => session.destroy() };
}

describe("UPSTREAM_MAX_CONNECTIONS", () => {
  test("is kept to by all threads together, and requests beyond it wait for their turn", () =>
    between({ UPSTREAM_MAX_CONNECTIONS: "4" }, async (host, upstream, ask) => {
      const answers = Array.from({ length: 40 }, () => ask("/held"));
      let released = 0;
      while (released < 40) {
        await until(() => upstream.held.length === Math.min(4, 40 - released));
        released += upstream.held.length;
        upstream.release();
      }
      for (const { status, body } of await Promise.all(answers)) assert.deepEqual([status, body], [200, "released"]);
      await until(() => upstream.connections.now <= 4);
    }));

  test("is a 503 after UPSTREAM_CONNECT_TIMEOUT, and the place of a request that is over goes to the next", () =>
    between({ UPSTREAM_MAX_CONNECTIONS: "2", UPSTREAM_CONNECT_TIMEOUT: "1" }, async (host, upstream, ask) => {
      const held = [ask("/held"), ask("/held")];
      await until(() => upstream.held.length === 2);
      for (const method of ["GET", "POST"]) assert.deepEqual(await ask("/", { method }), BUSY);
      assert.match(host.log(), /UPSTREAM_MAX_CONNECTIONS/);
      const next = ask("/");
      upstream.release();
      assert.equal((await next).status, 200);
      for (const { status } of await Promise.all(held)) assert.equal(status, 200);
    }));

  test("counts idle connections, which give way to a request that needs a new one", () =>
    between({ UPSTREAM_MAX_CONNECTIONS: "2" }, async (host, upstream, ask) => {
      const held = [ask("/held"), ask("/held")];
      await until(() => upstream.held.length === 2);
      upstream.release();
      await Promise.all(held);
      // Whichever thread keeps the idle ones, and whether or not they are fit for a POST.
      for (let round = 0; round < 50; round += 1) assert.equal((await ask("/", { method: "POST" })).status, 200);
      await until(() => upstream.connections.now <= 2);
    }));

  test("leaves half of its connections to requests with a credential", () =>
    between({ UPSTREAM_MAX_CONNECTIONS: "4", UPSTREAM_CONNECT_TIMEOUT: "1" }, async (host, upstream, ask) => {
      const public_ = Array.from({ length: 6 }, () => ask("/held", { headers: { origin: "https://app.example", "access-control-request-method": "PUT" }, method: "OPTIONS" }));
      // All of them: one that still waited when the others are released would get the turn of these.
      const late = [];
      for (const one of public_) one.then((answer) => late.push(answer));
      await until(() => late.length === 4);
      assert.deepEqual(late, Array(4).fill(BUSY));
      assert.equal(upstream.held.length, 2);
      assert.equal((await ask("/")).status, 200);
      upstream.release();
      assert.equal((await Promise.all(public_)).filter(({ status }) => status === 200).length, 2);
    }));
});

describe("clients of HTTP/2 that take nothing of public answers", () => {
  test("cost a right token no request, and a health check waits a moment at most", () =>
    between(
      {},
      async (host, upstream, ask) => {
        const hostile = await Promise.all(Array.from({ length: 8 }, () => startHostile(host)));
        try {
          for (let round = 0; round < 60; round += 1) {
            assert.equal((await ask("/v1/models", { anew: true })).status, 200);
            assert.equal((await ask("/v1/models", { method: "POST", anew: true })).status, 200);
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          const began = Date.now();
          assert.equal((await ask("/health", { headers: {} })).status, 200);
          assert.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
          assert.ok(descriptors(host.pid) < 700, `${descriptors(host.pid)} descriptors`);
          assert.ok(upstream.connections.most <= 512, `${upstream.connections.most} connections`);
        } finally {
          for (const client of hostile) client.stop();
        }
      },
      (command) => ["/bin/sh", "-c", 'ulimit -n 1024; exec "$0" "$@"', ...command],
    ));

  test("lose their answers when others need the connections, and no sooner", () =>
    between({ UPSTREAM_MAX_CONNECTIONS: "4" }, async (host, upstream, ask) => {
      const few = await startHostile(host, 2);
      await few.answered;
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assert.equal(upstream.connections.now, 2);
      for (let round = 0; round < 3; round += 1) assert.equal((await ask("/health", { headers: {} })).status, 200);
      few.stop();
    }));
});
