// A native host that is full closes connections without a valid credential, whatever they are doing, and serves new clients.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";

import { certificateFiles, makeCertificate } from "./support/certificates.mjs";
import { beginning, get, roomFor } from "./support/frames.mjs";
import { HEALTH, HOSTILE, healthy, stalled } from "./support/hostile.mjs";
import { AUTHORIZATION, STATIC } from "./support/hosts.mjs";
import { kilobytes, until } from "./support/process.mjs";
import { ask, request } from "./support/raw.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";
import { serving as servingBoth } from "./support/serving.mjs";

const test = (title, options, run = options) => nodeTest(title, { timeout: 15_000, ...(run === options ? {} : options) }, run);
const serving = (settings, body, options) => servingBoth("native", { settings: { ...STATIC, ...settings }, ...options }, body);
const head = [["Host", "x"], AUTHORIZATION];
const LIMIT = 8;
/** More than the limit and the few connections that are let in beyond it. */
const MANY = LIMIT + 20;

const files = certificateFiles();
const made = makeCertificate();
const ca = made.certificate;
files.put(made);
after(() => files.remove());

/** Served within a second, over a new connection. */
async function served(host, target = "/v1/models") {
  const began = performance.now();
  const { status } = await ask(host.port, request({ target, headers: head }), { timeout: 5000 });
  const took = performance.now() - began;
  assert.equal(status, 200);
  assert.ok(took < 1000, `${took} ms`);
}

/** HTTP/2 clients that ask many times without a token, and take no answer: by their windows of 0 bytes, or since they never read. */
const asks = (target) => Array.from({ length: 128 }, (_, number) => get(target, number));
const GREEDY = Buffer.concat([beginning(0), ...asks("/v1/models")]);
const DEAF = Buffer.concat([beginning(2 ** 31 - 1), roomFor(2 ** 30), ...asks("/health")]);

/** An upstream whose answers have so many bytes. */
const answering = (size) => () => startRawUpstream(({ socket }) => void socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`), Buffer.alloc(size)])));
const silent = () => startRawUpstream(() => {});
/** Many fields, to a public path. */
const LARGE_HEAD = ["GET /health HTTP/1.1\r\nHost: x\r\n", ...Array.from({ length: 90 }, (_, number) => `X-${number}: ${"y".repeat(300)}\r\n`), "\r\n"];

describe("memory that a connection without a valid credential holds", { skip: process.platform !== "linux" && "only Linux has /proc" }, () => {
  const cases = [
    ["a head that does not end", ["GET / HTTP/1.1\r\nHost: x\r\nX: ", "y".repeat(31_000)], 64],
    ["a head that is too long", ["GET / HTTP/1.1\r\nHost: x\r\nX: ", "y".repeat(100_000)], 64],
    ["a refused body that does not end", ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", "y".repeat(50_000)], 64],
    ["a large head to a public path, whose answer does not come", LARGE_HEAD, 64, silent],
    ["large public answers that are not read", Array(20).fill(HEALTH), 64, answering(200_000)],
    ["answers in HTTP/2 that are not taken", [GREEDY], 160],
    ["public answers in HTTP/2 that are not read", [DEAF], 160, answering(30_000)],
    ["large public answers in HTTP/2 that are not read", [DEAF], 160, answering(200_000)],
  ];
  for (const [what, pieces, limit, start] of cases) {
    // Connections to the upstream count too, of which there are no more for more clients.
    const COUNT = start ? 1000 : 300;
    test(`${what}: at most ${limit} KB`, { timeout: 60_000 }, () =>
      serving({}, async (host) => {
        const held = [];
        const open = async (total) => {
          while (held.length < total) held.push(await stalled(host.port, { reads: false }, ...pieces));
        };
        // What is allocated once is not counted.
        await open(20);
        await sleep(500);
        const before = kilobytes(host.pid, "VmRSS");
        await open(20 + COUNT);
        // What is free again goes back to the system a little later.
        let each;
        for (let round = 0; round < 10; round += 1) {
          await sleep(round === 0 ? 4000 : 1000);
          each = (kilobytes(host.pid, "VmRSS") - before) / COUNT;
          if (each <= limit) break;
        }
        for (const { socket } of held) socket.destroy();
        assert.ok(each <= limit, `${each} KB each`);
      }, { start }));
  }
});

describe("a native host that is full", () => {
  for (const [what, hold] of Object.entries(HOSTILE)) {
    test(`serves a valid token at once, and answers its own health check: ${what}`, () =>
      serving({ AUTH_MAX_CONNECTIONS: `${LIMIT}` }, async (host) => {
        const held = await Promise.all(Array.from({ length: MANY }, () => hold(host.port)));
        for (let round = 0; round < 5; round += 1) await served(host);
        await healthy(host);
        // A socket that does not read does not learn of its end either.
        for (const { socket } of held) socket.resume?.();
        await until(() => held.filter(({ isClosed }) => isClosed).length >= 4);
        for (const { socket } of held) socket.destroy();
      }));
  }

  test("does so with TLS handshakes that stall", () =>
    serving({ AUTH_MAX_CONNECTIONS: `${LIMIT}`, ...files.settings }, async (host) => {
      const held = await Promise.all(Array.from({ length: LIMIT }, () => stalled(host.port, Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]))));
      const began = performance.now();
      const socket = tls.connect({ port: host.port, host: "127.0.0.1", ca, servername: "localhost", ALPNProtocols: ["http/1.1"] });
      socket.write(request({ target: "/v1/models", headers: head }));
      const [data] = await once(socket, "data");
      assert.match(data.toString("latin1"), /^HTTP\/1\.1 200 /);
      assert.ok(performance.now() - began < 1000);
      await healthy(host, files.settings);
      for (const client of [...held, { socket }]) client.socket.destroy();
    }));

  test("closes the longest idle first, one with a valid credential only after all others, and none that is in use", () =>
    serving({ AUTH_MAX_CONNECTIONS: "4" }, async (host, upstream) => {
      const busy = await stalled(host.port, request({ target: "/hang", headers: head }));
      await until(() => upstream.requests.some(({ target }) => target === "/hang"));
      const known = await stalled(host.port, request({ target: "/v1/models", headers: head }));
      await until(() => known.text.includes("200 OK"));
      const strangers = [];
      for (let number = 0; number < 2; number += 1) {
        strangers.push(await stalled(host.port, HEALTH));
        await until(() => strangers[number].text.includes("200 OK"));
      }
      const later = [await stalled(host.port, "G")];
      const late = sleep(600);
      await until(() => strangers[0].isClosed);
      assert.deepEqual([busy.isClosed, known.isClosed, strangers[1].isClosed], [false, false, false]);
      later.push(await stalled(host.port, request({ target: "/hang", headers: head })));
      await until(() => strangers[1].isClosed);
      // Before that it may have been about to show a credential.
      await late;
      later.push(await stalled(host.port, request({ target: "/hang", headers: head })));
      await until(() => later[0].isClosed);
      await until(() => upstream.requests.filter(({ target }) => target === "/hang").length === 3);
      assert.deepEqual([busy.isClosed, known.isClosed], [false, false]);
      await served(host);
      await until(() => known.isClosed);
      await healthy(host);
      assert.deepEqual([busy, later[1], later[2]].map(({ isClosed }) => isClosed), [false, false, false]);
      for (const { socket } of [busy, ...later]) socket.destroy();
    }));

  test("answers its own health check while as many requests with a valid token are in flight as it has room for", () =>
    serving({ AUTH_MAX_CONNECTIONS: "4" }, async (host, upstream) => {
      const busy = await Promise.all(Array.from({ length: 4 }, () => stalled(host.port, request({ target: "/hang", headers: head }))));
      await until(() => upstream.requests.length === 4);
      for (let round = 0; round < 3; round += 1) await healthy(host);
      assert.ok(busy.every(({ isClosed }) => !isClosed));
      for (const { socket } of busy) socket.destroy();
    }));

  test("serves every client of a burst that is larger than its room, and keeps what has a valid credential", () =>
    serving({ AUTH_MAX_CONNECTIONS: "4" }, async (host) => {
      const known = await stalled(host.port, request({ target: "/v1/models", headers: head }));
      await until(() => known.text.includes("200 OK"));
      const silent = await Promise.all(Array.from({ length: 30 }, () => stalled(host.port)));
      const statuses = await Promise.all(Array.from({ length: 30 }, async () => (await ask(host.port, request({ target: "/v1/models", headers: [...head, ["Connection", "close"]] }))).status));
      assert.deepEqual([new Set(statuses), known.isClosed], [new Set([200]), false]);
      for (const { socket } of [known, ...silent]) socket.destroy();
    }));

  test("of memory: AUTH_MEMORY_BUDGET closes what has no valid credential, not what has", () =>
    serving({ AUTH_MEMORY_BUDGET: "1MB" }, async (host) => {
      const known = await stalled(host.port, request({ target: "/v1/models", headers: head }));
      await until(() => known.text.includes("200 OK"));
      const held = await Promise.all(Array.from({ length: 40 }, () => stalled(host.port, "GET / HTTP/1.1\r\nX: ")));
      await sleep(600);
      await served(host);
      await until(() => held.filter(({ isClosed }) => isClosed).length >= 24);
      assert.ok(!known.isClosed);
      for (const { socket } of [known, ...held]) socket.destroy();
    }));
});
