// Good, bad, slow and broken clients together, for as long as `NODETOOL_TEST_SOAK` says, in seconds: at the end every one has
// been told the right thing, and nothing of them is left in memory or among the descriptors.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { after, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";

import { certificateFiles, makeCertificate } from "./support/certificates.mjs";
import { until, withGateway } from "./support/gateway.mjs";
import { HOSTILE, HOSTILE_IN_TLS, healthy } from "./support/hostile.mjs";
import { AUTHORIZATION, STATIC, TOKEN } from "./support/hosts.mjs";
import { KEYS, handmade, headerOf, makeKey, userToken } from "./support/jwt.mjs";
import { chance, seed } from "./support/random.mjs";
import { serving } from "./support/serving.mjs";
import { digestOf } from "./support/upstream.mjs";

const SECONDS = Number(process.env.NODETOOL_TEST_SOAK ?? 20);
const SEED = seed();
/** Of each kind at once. */
const WIDTH = 4;
/** What an allocator may keep for later, in KB. */
const SPARE = 16 * 1024;

nodeTest(`native: ${SECONDS} s of all kinds of clients (NODETOOL_TEST_SEED=${SEED})`, { timeout: (SECONDS + 120) * 1000 }, async (context) => {
  // Reading of other processes takes root: the native host shows itself to nobody else.
  const isRoot = process.getuid() === 0;
  const settings = { AUTH_HEADER_TIMEOUT: "2", AUTH_BODY_TIMEOUT: "2", UPSTREAM_TIMEOUT: "2", AUTH_WS_TOKEN_SOURCES: "header,protocol" };
  await withGateway("native", { keys: [KEYS.ES256, KEYS.RS256], settings }, async (gateway) => {
    const { host, upstream } = gateway;
    const dice = chance(SEED);
    const claims = gateway.claims();
    const forger = makeKey("ES256");
    const good = [TOKEN, await userToken(KEYS.ES256, claims), await userToken(KEYS.RS256, claims)];
    const bad = ["wrong-0123456789-abcdefgh", "a.b.c", handmade(forger, headerOf(forger, { kid: KEYS.ES256.kid }), JSON.stringify(claims)), undefined];
    const expectedDigest = digestOf(300_000);
    const counts = {};
    const wrong = [];
    let number = 0;

    const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
    /** A whole exchange by a decent client: status and body. */
    const exchange = (target, { token, method = "GET", body, through = agent } = {}) =>
      new Promise((resolve, reject) => {
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
        const request = http.request({ port: host.port, path: target, method, headers, agent: through, timeout: 20_000 }, async (response) => {
          const chunks = [];
          try {
            for await (const chunk of response) chunks.push(chunk);
            resolve({ status: response.statusCode, body: Buffer.concat(chunks) });
          } catch (error) {
            resolve({ status: response.statusCode, broken: error.code });
          }
        });
        request.on("error", reject).on("timeout", () => request.destroy(new Error("nothing for 20 s")));
        request.end(body);
      });
    const expects = (what, is, shown) => is || wrong.push(`${what}: ${JSON.stringify(shown)}`.slice(0, 300));
    const bytes = (text) => Buffer.from(text.replaceAll("\n", "\r\n"), "latin1");
    const head = `Host: x\n${AUTHORIZATION.join(": ")}\n`;
    /** A socket that is written to, waited on, and left: what comes back is nobody's business but the last word. */
    async function rudely(sent, wait) {
      const socket = net.connect(host.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(sent);
      socket.resume();
      await Promise.race([once(socket, "close"), sleep(wait)]);
      socket.destroy();
    }

    const kinds = {
      async "a good token"() {
        const target = `/v1/good-${(number += 1)}`;
        const { status } = await exchange(target, { token: dice.one(good) });
        expects("good", status === 200, status);
      },
      async "a bad token"() {
        const { status } = await exchange(`/v1/bad-${(number += 1)}`, { token: dice.one(bad) });
        expects("bad", status === 401, status);
      },
      async "an upload"() {
        const body = Buffer.alloc(dice.below(300_000), 7);
        const { status, body: answer } = await exchange("/sink", { token: dice.one(good), method: "POST", body });
        expects("upload", status === 200 && JSON.parse(answer).size === body.length, [status, String(answer)]);
      },
      async "a download"() {
        const { status, body } = await exchange("/source?bytes=300000", { token: dice.one(good) });
        const { createHash } = await import("node:crypto");
        expects("download", status === 200 && createHash("sha256").update(body).digest("hex") === expectedDigest, status);
      },
      async "an upstream that dies"() {
        const target = dice.one(["/die", "/die-chunked", "/die-at-once"]);
        const { status, broken } = await exchange(target, { token: TOKEN, through: undefined });
        expects(target, target === "/die-at-once" ? status === 502 : status === 200 && broken !== undefined, [status, broken]);
      },
      async "an upstream that hangs"() {
        const { status } = await exchange("/hang", { token: TOKEN });
        expects("hang", status === 504, status);
      },
      async "a WebSocket"() {
        const isGood = dice.happens(0.5);
        const socket = new WebSocket(`${host.url.replace("http", "ws")}/ws`, ["bearer", isGood ? dice.one(good) : "wrong-0123456789-abcdefgh"]);
        const refused = once(socket, "unexpected-response").then(([, response]) => {
          response.resume();
          response.socket.destroy();
          return response.statusCode;
        });
        const outcome = await Promise.race([once(socket, "open").then(() => "open"), refused]);
        expects("WebSocket", outcome === (isGood ? "open" : 401), outcome);
        if (outcome !== "open") return;
        const message = once(socket, "message");
        socket.send("hello");
        expects("echo", (await message)[0].toString() === "hello");
        const closed = once(socket, "close");
        if (dice.happens(0.5)) socket.close();
        else socket.terminate();
        await closed;
      },
      async "an event stream that is left"() {
        await rudely(bytes(`GET /events HTTP/1.1\n${head}\n`), 200 + dice.below(300));
      },
      async "a head that never ends"() {
        await rudely(bytes(`GET /v1/bad-slow HTTP/1.1\nHost: x\nX: ${"y".repeat(dice.below(5000))}`), dice.one([50, 3000]));
      },
      async "a body that never ends"() {
        await rudely(bytes(`POST /sink HTTP/1.1\n${head}Content-Length: 100000\n\n${"x".repeat(dice.below(5000))}`), dice.one([50, 3000]));
      },
      async "a reader that leaves"() {
        await rudely(bytes(`GET /source?bytes=5000000 HTTP/1.1\n${head}\n`), 5 + dice.below(50));
      },
      async "a client that never reads"() {
        const socket = net.connect(host.port, "127.0.0.1");
        socket.on("error", () => {});
        socket.pause();
        socket.write(bytes(`GET /source?bytes=50000000 HTTP/1.1\n${head}\n`));
        await sleep(dice.one([500, 3000]));
        socket.destroy();
      },
      async "garbage"() {
        await rudely(Buffer.from(Array.from({ length: 1 + dice.below(2000) }, () => dice.below(256))), 100);
      },
      async "someone who says nothing"() {
        await rudely("", dice.one([10, 2500]));
      },
    };

    const stop = Date.now() + SECONDS * 1000;
    const endless = async (kind, run) => {
      while (Date.now() < stop && wrong.length === 0) {
        const patience = new AbortController();
        const late = sleep(30_000, undefined, { signal: patience.signal }).then(() => wrong.push(`${kind} never came to its end`), () => {});
        await Promise.race([run().catch((error) => wrong.push(`${kind}: ${error.message}`)), late]);
        patience.abort();
        counts[kind] = (counts[kind] ?? 0) + 1;
        // Whoever needs next to nothing is not to crowd out the others.
        await sleep(dice.below(5));
        for (const { target } of upstream.take()) if (target.includes("bad-")) wrong.push(`the upstream got ${target}`);
      }
    };
    const seen = () => {
      if (!isRoot) return { memory: 0, descriptors: 0 };
      const memory = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${host.pid}/status`, "utf8"))[1]);
      return { memory, descriptors: readdirSync(`/proc/${host.pid}/fd`).length };
    };
    const atRest = seen();
    const all = Object.entries(kinds).flatMap(([kind, run]) => Array.from({ length: WIDTH }, () => endless(kind, run)));
    // Everything has been there once: what it takes from here on it takes for good.
    await Promise.race([sleep(SECONDS * 400), Promise.all(all)]);
    const early = seen();
    await Promise.all(all);
    agent.destroy();

    assert.deepEqual(wrong, []);
    for (const kind of Object.keys(kinds)) assert.ok(counts[kind] > 0, `${kind} never came`);
    await until("descriptors are those of the beginning", 30_000, () => seen().descriptors <= atRest.descriptors);
    const late = seen();
    context.diagnostic(JSON.stringify({ counts, memory: { atRest: atRest.memory, early: early.memory, late: late.memory } }));
    assert.ok(late.memory <= early.memory + SPARE, `${early.memory} KB became ${late.memory} KB`);
    await gateway.acceptsStatic();
  });
});

const files = certificateFiles();
const made = makeCertificate();
const ca = made.certificate;
files.put(made);
after(() => files.remove());

/** A request over a connection of its own: its status, and how long it took. */
function once200(module, port) {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const options = { port, host: "127.0.0.1", path: "/v1/models", headers: { authorization: AUTHORIZATION[1] }, agent: false, ca, servername: "localhost", timeout: 5000 };
    const asked = module.get(options, (response) => {
      response.resume();
      response.on("end", () => resolve({ status: response.statusCode, took: performance.now() - began }));
    });
    asked.on("error", reject).on("timeout", () => asked.destroy(new Error("nothing for 5 s")));
  });
}

for (const [what, module, kinds, settings] of [["HTTP", http, HOSTILE, {}], ["HTTPS", https, HOSTILE_IN_TLS, files.settings]]) {
  const seconds = Math.max(4, SECONDS / 4);
  nodeTest(`native: ${seconds} s of ${what} with 1024 open files, under clients that hold connections: a valid token is served within a second`, { timeout: (seconds + 60) * 1000 }, async (context) => {
    const wrap = (command) => ["sh", "-c", 'ulimit -n 1024; exec "$0" "$@"', ...command];
    await serving("native", { settings: { ...STATIC, ...settings }, wrap }, async (host) => {
      const [end, held, took] = [Date.now() + seconds * 1000, [], []];
      const during = async (pause, run) => {
        while (Date.now() < end) {
          await run();
          await sleep(pause);
        }
      };
      const attack = (hold) => during(100, async () => held.push(...(await Promise.all(Array.from({ length: 5 }, () => hold(host.port))))));
      const user = () =>
        during(20, async () => {
          const answer = await once200(module, host.port);
          assert.equal(answer.status, 200);
          took.push(answer.took);
        });
      await Promise.all([...Object.values(kinds).map(attack), user(), user(), during(500, () => healthy(host, settings))]);
      for (const { socket } of held) socket.destroy();
      const slowest = Math.max(...took);
      context.diagnostic(JSON.stringify({ held: held.length, requests: took.length, slowest }));
      assert.ok(held.length > 600 && took.length > 20, `${held.length} connections, ${took.length} requests`);
      assert.ok(slowest < 1000, `${slowest} ms`);
    });
  });
}
