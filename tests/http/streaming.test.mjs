// Bodies and WebSockets pass as they come, both ways, and what breaks is seen to be broken.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { Readable } from "node:stream";
import { after, before, describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { WebSocket } from "ws";

import { answerTo, echoes } from "./support/clients.mjs";
import { until } from "./support/gateway.mjs";
import { AUTHORIZATION, HOSTS, STATIC, TOKEN, startHost } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { startServing } from "./support/serving.mjs";
import { blocks, deadPort, digestOf } from "./support/upstream.mjs";

/** What waits for ever has failed. */
const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const headers = Object.fromEntries([AUTHORIZATION]);
const MIB = 1024 * 1024;
const BIG = 50 * MIB;
const patience = () => AbortSignal.timeout(60_000);
const get = (target) => request({ target, headers: [["Host", "x"], AUTHORIZATION] });

for (const name of HOSTS) {
  describe(name, () => {
    let host, upstream, stop;
    const onlyNative = (title, run) => name === "native" && test(title, run);
    before(async () => ({ host, upstream, stop } = await startServing(name)));
    after(() => stop?.());

    test("an event is with the client before the next one exists", async () => {
      const response = await fetch(`${host.url}/events`, { headers, signal: patience() });
      assert.equal(response.headers.get("content-type"), "text/event-stream");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (const event of ["one", "two", "three"]) {
        upstream.push(event);
        assert.deepEqual(await reader.read(), { done: false, value: `data: ${event}\n\n` });
      }
      upstream.push(null);
      assert.equal((await reader.read()).done, true);
    });

    test("50 MiB down, byte for byte, without being gathered", async () => {
      const peak = await growth(host, async () => {
        const response = await fetch(`${host.url}/source?bytes=${BIG}`, { headers, signal: patience() });
        assert.equal(response.headers.get("content-length"), String(BIG));
        const hash = createHash("sha256");
        for await (const chunk of response.body) hash.update(chunk);
        assert.equal(hash.digest("hex"), digestOf(BIG));
      });
      assert.ok(peak < 20 * MIB, `memory grew by ${peak / MIB} MiB`);
    });

    for (const framing of ["chunked", "a length"]) {
      test(`50 MiB up with ${framing}, byte for byte, without being gathered`, async () => {
        const peak = await growth(host, async () => {
          const answer = await upload(host.port, framing);
          assert.deepEqual(answer, { size: BIG, sha256: digestOf(BIG) });
        });
        assert.ok(peak < 20 * MIB, `memory grew by ${peak / MIB} MiB`);
      });
    }

    test("an upload reaches the upstream before it ends", async () => {
      let more;
      const body = new ReadableStream({ start: (controller) => (more = controller) });
      const answer = fetch(`${host.url}/sink`, { method: "PUT", headers, body, duplex: "half", signal: patience() });
      const progress = once(upstream.events, "progress");
      more.enqueue(Buffer.from("first"));
      assert.deepEqual(await progress, [5]);
      more.enqueue(Buffer.from(" second"));
      more.close();
      assert.equal((await (await answer).json()).size, 12);
    });

    test("a compressed body is passed on as it is", async () => {
      const answer = await ask(host.port, request({ target: "/gzip", headers: [["Host", "x"], AUTHORIZATION, ["Accept-Encoding", "gzip"]] }));
      assert.equal(answer.header("content-encoding"), "gzip");
      assert.equal(gunzipSync(answer.body).toString(), "compressed once, and once only");
    });

    test("the upstream's answer is the client's: status, cookies, its own challenge", async () => {
      const answer = await ask(host.port, get("/teapot"));
      assert.equal(answer.status, 418);
      assert.deepEqual(answer.headers.filter(([header]) => header === "set-cookie").map(([, value]) => value).sort(), ["a=1", "b=2"]);
      assert.deepEqual([answer.header("x-one"), answer.header("www-authenticate"), answer.body.toString()], ["1", "Basic", "short and stout"]);
    });

    test("a redirect is for the client to follow", async () => {
      upstream.take();
      const answer = await ask(host.port, get("/redirect"));
      assert.deepEqual([answer.status, answer.header("location")], [302, "/elsewhere"]);
      assert.deepEqual(upstream.take().map(({ target }) => target), ["/redirect"]);
    });

    test("a WebSocket echoes text and binary, and closes with the code of either side", async () => {
      for (const closer of ["upstream", "client"]) {
        const accepted = once(upstream.events, "websocket");
        const socket = new WebSocket(`${host.url.replace("http", "ws")}/ws?room=1`, ["chat.v1"], { headers });
        const [theirs] = await accepted;
        await once(socket, "open");
        assert.equal(socket.protocol, "chat.v1");
        await echoes(socket, [["héllo", false], [Buffer.alloc(200_000, 7), true], ["", false], [Buffer.from([0, 255]), true]]);
        if (closer === "upstream") {
          const closed = once(socket, "close");
          socket.send("close me");
          const [code, reason] = await closed;
          assert.deepEqual([code, reason.toString()], [4321, "as you wish"]);
        } else {
          const closed = once(theirs, "close");
          socket.close(4004, "enough");
          const [code, reason] = await closed;
          assert.deepEqual([code, reason.toString()], [4004, "enough"]);
        }
      }
    });

    test("a WebSocket's upgrade carries one identity, that of the gateway", async () => {
      upstream.take();
      const socket = new WebSocket(`${host.url.replace("http", "ws")}/ws`, { headers: { ...headers, "X-User-Id": "root", X_User_Id: "root", "X-Auth-Role": "admin" } });
      await once(socket, "open");
      const identity = upstream.take()[0].headers.filter(([header]) => /^x[-_](user|auth)/.test(header)).sort();
      assert.deepEqual(identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
      socket.terminate();
    });

    test("an upgrade that the upstream refuses", async () => {
      const socket = new WebSocket(`${host.url.replace("http", "ws")}/no-websockets-here`, { headers });
      const [, response] = await once(socket, "unexpected-response");
      assert.equal(response.statusCode, 403);
      response.resume();
    });

    for (const [title, sent, challenge] of [["no token", {}, "Bearer"], ["a wrong token", { Authorization: "Bearer wrong" }, 'Bearer error="invalid_token"']]) {
      test(`an upgrade with ${title} is refused, and nothing stays open`, async () => {
        upstream.take();
        // The native host shows its descriptors to nobody but root.
        const descriptors = name === "native" && process.getuid() === 0 ? () => readdirSync(`/proc/${host.pid}/fd`).length : () => 0;
        const before = descriptors();
        for (let round = 0; round < 20; round += 1) {
          const socket = new WebSocket(`${host.url.replace("http", "ws")}/ws`, ["chat.v1"], { headers: sent });
          const [, response] = await once(socket, "unexpected-response");
          assert.deepEqual([response.statusCode, response.headers["www-authenticate"]], [401, challenge]);
          response.resume();
          response.socket.destroy();
        }
        assert.deepEqual(upstream.take(), []);
        await until("descriptors of refused upgrades are closed", 10_000, () => descriptors() <= before);
      });
    }

    test("a client that goes away is gone for the upstream too: download", async () => {
      const leaving = new AbortController();
      const response = await fetch(`${host.url}/events`, { headers, signal: leaving.signal });
      const closed = once(upstream.events, "close");
      leaving.abort();
      await assert.rejects(response.text());
      // workerd notices when it next has something to send.
      if (name === "edge") for (const event of ["into", "the", "void"]) upstream.push(event);
      const [entry] = await closed;
      assert.deepEqual([entry.target, entry.aborted], ["/events", true]);
    });

    // A Worker is told of a client that left by its platform, of which workerd on its own is only a part.
    onlyNative("a client that goes away is gone for the upstream too: before the answer", async () => {
      const socket = net.connect(host.port, "127.0.0.1");
      const arrived = once(upstream.events, "request");
      socket.write(get("/hang"));
      await arrived;
      const closed = once(upstream.events, "close");
      socket.destroy();
      const [entry] = await closed;
      assert.deepEqual([entry.target, entry.aborted], ["/hang", true]);
    });

    test("a client that goes away is gone for the upstream too: upload", async () => {
      const socket = net.connect(host.port, "127.0.0.1");
      const progress = once(upstream.events, "progress");
      socket.write(`PUT /sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: 1000\r\n\r\nhalf of it`);
      await progress;
      const closed = once(upstream.events, "close");
      socket.destroy();
      const [entry] = await closed;
      assert.deepEqual([entry.target, entry.aborted], ["/sink", true]);
    });

    onlyNative("a refusal is there to be read by a client that first sends all it has", async () => {
      const body = Buffer.alloc(8 * MIB, "x");
      const post = (headers) => [`POST /sink HTTP/1.1`, "Host: x", ...headers].join("\r\n") + "\r\n\r\n";
      const chunk = Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n0\r\n\r\n")]);
      for (const [head, rest, status] of [
        [post(["Authorization: Bearer wrong", `Content-Length: ${body.length}`]), body, 401],
        [post(["Authorization: Bearer wrong", "Transfer-Encoding: chunked"]), chunk, 401],
        [post([AUTHORIZATION.join(": "), `X: ${"y".repeat(MIB)}`]), body, 431],
      ]) {
        // Chance has a part in what arrives when.
        for (let round = 0; round < 5; round += 1) assert.match(await sendsFirst(host.port, head, rest), new RegExp(`^HTTP/1\\.1 ${status} `));
      }
    });

    for (const target of ["/die", "/die-chunked"]) {
      // workerd ends a chunked answer cleanly even where a Worker only passes it on.
      const runs = target === "/die" ? test : onlyNative;
      runs(`an upstream that dies in mid-body leaves a broken answer: ${target}`, async () => {
        const answer = await ask(host.port, get(target));
        assert.deepEqual([answer.status, answer.complete], [200, false]);
        const response = await fetch(`${host.url}${target}`, { headers, signal: patience() });
        await assert.rejects(response.arrayBuffer());
      });
    }

    test("an upstream that dies before its answer is unavailable", async () => {
      assert.deepEqual(own(await ask(host.port, get("/die-at-once"))), [502, "Upstream unavailable"]);
    });

    test("an upstream that is not there is unavailable, and a refusal does not need it", async () => {
      const alone = await startHost(name, { settings: { ...STATIC, UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` } });
      try {
        assert.deepEqual(own(await ask(alone.port, get("/v1/models"))), [502, "Upstream unavailable"]);
        assert.equal((await ask(alone.port, request({ target: "/v1/models", headers: [["Host", "x"]] }))).status, 401);
      } finally {
        await alone.stop();
      }
    });

    test("UPSTREAM_TIMEOUT limits the wait for an answer, not the answer", async () => {
      const hasty = await startHost(name, { settings: { ...STATIC, UPSTREAM_URL: upstream.url, UPSTREAM_TIMEOUT: "1" } });
      try {
        const [late, response] = await Promise.all([ask(hasty.port, get("/hang")), fetch(`${hasty.url}/events`, { headers, signal: patience() })]);
        assert.deepEqual(own(late), [504, "Upstream timed out"]);
        // The time itself is what is tested: longer than the limit, with nothing sent.
        await sleep(1200);
        const reader = response.body.getReader();
        upstream.push("late");
        assert.equal(Buffer.from((await reader.read()).value).toString(), "data: late\n\n");
        upstream.push(null);
      } finally {
        await hasty.stop();
      }
    });
  });
}

function own(answer) {
  assert.deepEqual([answer.header("content-type"), answer.header("cache-control")], ["application/json", "no-store"]);
  assert.equal(answer.header("www-authenticate"), undefined);
  return [answer.status, JSON.parse(answer.body).detail];
}

async function upload(port, framing) {
  const all = framing === "chunked" ? { "Transfer-Encoding": "chunked" } : { "Content-Length": String(BIG) };
  const outgoing = http.request({ port, host: "127.0.0.1", path: "/sink", method: "PUT", headers: { ...headers, ...all } });
  Readable.from(blocks(BIG)).pipe(outgoing);
  return JSON.parse((await answerTo(outgoing)).body);
}

/** All that is answered to a client that reads nothing before it has sent everything. */
async function sendsFirst(port, ...pieces) {
  const socket = net.connect(port, "127.0.0.1");
  const chunks = [];
  const closed = new Promise((resolve) => socket.on("close", resolve).on("error", (error) => chunks.push(Buffer.from(error.code))));
  // A listener would let it read, and so does none.
  socket.on("data", (chunk) => chunks.push(chunk)).pause();
  for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve));
  socket.resume();
  socket.end();
  await closed;
  return Buffer.concat(chunks).toString("latin1");
}

/** By how many bytes the most memory that the native host ever held has grown. What workerd holds is not ours to say. */
async function growth(host, run) {
  const peak = () => (host.pid ? Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${host.pid}/status`, "utf8"))[1]) * 1024 : 0);
  const before = peak();
  await run();
  return peak() - before;
}
