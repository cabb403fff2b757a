// Gateways whose upstream leads back to them, and chains of gateways that do not.
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { carriesMessages } from "./support/clients.mjs";
import { AUTHORIZATION, HOSTS, STATIC, spawnNative, startHost, startNative } from "./support/hosts.mjs";
import { descriptors } from "./support/process.mjs";
import { WEBSOCKET, ask, request } from "./support/raw.mjs";
import { listen } from "./support/servers.mjs";
import { startUpstream } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

const HOST = ["Host", "gateway.example"];
const HOPS = "x-nodetool-auth-hops";
const LOOP = { status: 508, body: { detail: "Request loop detected" } };
const told = ({ status, body }) => ({ status, body: JSON.parse(body) });

/** What is alive at the end of a test, in the order in which it is to stop. */
async function scope(body) {
  const running = [];
  const started = async (starting) => {
    const one = await starting;
    running.unshift(one);
    return one;
  };
  try {
    await body(started);
  } finally {
    for (const one of running) await one.stop();
  }
}

/** Passes connections on to a port that is not known yet: how a gateway comes to have itself behind it. */
async function startRelay() {
  let port;
  const seen = { connections: 0 };
  const server = net.createServer((socket) => {
    seen.connections += 1;
    const onward = net.connect(port, "127.0.0.1");
    for (const [from, to] of [[socket, onward], [onward, socket]]) from.on("error", () => to.destroy()).pipe(to);
  });
  return { ...(await listen(server)), seen, leadTo: (there) => (port = there) };
}

const forwarding = (name, url, settings) => startHost(name, { settings: { ...STATIC, UPSTREAM_URL: url, ...settings } });

describe("a request that comes back", () => {
  for (const names of [["native"], ["edge"], ["native", "native"], ["native", "edge"], ["edge", "native"], ["edge", "edge"], ["native", "native", "native"]]) {
    test(`to the first of ${names.join(", ")} is refused on its first pass`, () =>
      scope(async (started) => {
        const relay = await started(startRelay());
        let { url } = relay;
        let first;
        // From the last to the first.
        for (const name of [...names].reverse()) {
          first = await started(forwarding(name, url));
          ({ url } = first);
        }
        relay.leadTo(first.port);
        const cases = [
          ["GET", "/health", []],
          ["GET", "/v1/models", [AUTHORIZATION]],
          ["POST", "/v1/models", [AUTHORIZATION]],
          ["GET", "/ws", [AUTHORIZATION, ...WEBSOCKET]],
          ["GET", "/v1/models", [AUTHORIZATION, [HOPS, "nonsense"]]],
          ["GET", "/v1/models", [AUTHORIZATION, ["X_Nodetool_Auth_Hops", "0000000000000001"], ["Connection", HOPS]]],
        ];
        for (const [method, target, headers] of cases) {
          const before = relay.seen.connections;
          const answer = await ask(first.port, request({ method, target, headers: [HOST, ...headers] }));
          assert.deepEqual(told(answer), LOOP, `${method} ${target} ${headers}`);
          assert.ok(relay.seen.connections - before <= 1, "one pass");
        }
        if (first.name === "native") assert.ok(descriptors(first.pid) < 60, `${descriptors(first.pid)} descriptors`);
        const line = first.log().split("\n").find((line) => line.includes("request_loop"));
        assert.match(line ?? "", /request loop: .*UPSTREAM_URL/);
      }));
  }
});

describe("a chain of gateways", () => {
  test("of eight passes requests and WebSockets, and one more is a loop", () =>
    scope(async (started) => {
      const upstream = await started(startUpstream());
      let { url } = upstream;
      let first;
      for (let hop = 0; hop < 8; hop += 1) {
        first = await started(forwarding("native", url));
        ({ url } = first);
      }
      const get = request({ target: "/v1/models", headers: [HOST, AUTHORIZATION] });
      assert.equal((await ask(first.port, get)).status, 200);
      const [received] = upstream.take();
      const hops = received.headers.filter(([name]) => name === HOPS).flatMap(([, value]) => value.split(", "));
      assert.equal(new Set(hops).size, 8);
      assert.ok(hops.every((hop) => /^[0-9a-f]{16}$/.test(hop)), hops.join());
      await carriesMessages(new WebSocket(`ws://127.0.0.1:${first.port}/ws`, { headers: Object.fromEntries([AUTHORIZATION]) }));
      const ninth = await started(forwarding("native", url));
      assert.deepEqual(told(await ask(ninth.port, get)), LOOP);
    }));

  for (const names of [["edge", "native"], ["native", "edge"], ["edge", "edge"]]) {
    test(`of ${names.join(" and ")} passes`, () =>
      scope(async (started) => {
        const upstream = await started(startUpstream());
        const behind = await started(forwarding(names[1], upstream.url));
        const front = await started(forwarding(names[0], behind.url));
        assert.equal((await ask(front.port, request({ target: "/v1", headers: [HOST, AUTHORIZATION] }))).status, 200);
        const [received] = upstream.take();
        assert.match(received.headers.find(([name]) => name === HOPS)?.[1] ?? "", /^[0-9a-f]{16}, [0-9a-f]{16}$/);
      }));
  }

  for (const name of HOSTS) {
    test(`${name}: what a client makes up goes no further`, () =>
      scope(async (started) => {
        const upstream = await started(startUpstream());
        const host = await started(forwarding(name, upstream.url));
        for (const made of [[[HOPS, "nonsense"]], [[HOPS, "0000000000000001"], [HOPS, "x"]], [["x_nodetool_auth_hops", "0000000000000001"]]]) {
          assert.equal((await ask(host.port, request({ target: "/v1", headers: [HOST, AUTHORIZATION, ...made] }))).status, 200);
          const [received] = upstream.take();
          const hops = received.headers.filter(([header]) => /nodetool.auth.hops/.test(header));
          assert.equal(hops.length, 1);
          assert.match(hops[0][1], /^[0-9a-f]{16}$/);
        }
      }));
  }
});

describe("a gateway whose upstream is itself", () => {
  const freePort = async () => {
    const server = await listen(net.createServer());
    await server.stop();
    return server.port;
  };
  for (const [listens, upstream] of [
    ["127.0.0.1", "127.0.0.1"],
    ["127.0.0.1", "localhost"],
    ["127.0.0.1", "0.0.0.0"],
    ["0.0.0.0", "127.0.0.1"],
    ["0.0.0.0", "127.0.0.9"],
    ["[::]", "127.0.0.1"],
    ["[::]", "[::1]"],
    ["[::1]", "[::1]"],
  ]) {
    test(`does not start, and check tells why: ${listens} and ${upstream}`, async () => {
      const port = await freePort();
      const settings = { ...STATIC, AUTH_LISTEN: `${listens}:${port}`, UPSTREAM_URL: `http://${upstream}:${port}` };
      const served = await spawnNative({ settings }).exited;
      assert.equal(served.code, 78, served.stderr);
      assert.match(served.stderr, /UPSTREAM_URL: .* is a request loop/);
      const checked = await spawnNative({ settings, args: ["check"] }).exited;
      assert.equal(checked.code, 1, checked.stdout);
      assert.match(checked.stdout, /failed +upstream: UPSTREAM_URL: .* is a request loop/);
    });
  }

  test("starts if only the port is the same", () =>
    scope(async (started) => {
      const port = await freePort();
      await started(startNative({ settings: { ...STATIC, AUTH_LISTEN: `127.0.0.1:${port}`, UPSTREAM_URL: `http://127.0.0.2:${port}` } }));
    }));
});
