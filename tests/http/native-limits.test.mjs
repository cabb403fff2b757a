// Clients and upstreams that are slow, silent, gone, or too many: each costs what is settled, and nobody else notices.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";

import { answerTo } from "./support/clients.mjs";
import { AUTHORIZATION, STATIC } from "./support/hosts.mjs";
import { descriptors, kilobytes, until } from "./support/process.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { echo, startRawUpstream } from "./support/raw-upstream.mjs";
import { serving as servingBoth } from "./support/serving.mjs";

const test = (title, options, run = options) => nodeTest(title, { timeout: 120_000, ...(run === options ? {} : options) }, run);
const LINUX = process.platform === "linux" ? false : "only Linux has /proc";
const head = [["Host", "x"], AUTHORIZATION];
const ok = (host, target = "/v1/models") => ask(host.port, request({ target, headers: head }), { timeout: 60_000 });

/** Runs `body` with a gateway and an upstream, both as they are wanted. */
const serving = (settings, body, options) => servingBoth("native", { settings: { ...STATIC, ...settings }, ...options }, body);

/** A client whose connection tells how it ended, and what it was sent. */
function client(port, ...bytes) {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  const received = [];
  socket.on("error", () => {}).on("data", (chunk) => received.push(chunk));
  const closed = once(socket, "close");
  for (const piece of bytes) socket.write(piece);
  return { socket, closed, text: () => Buffer.concat(received).toString("latin1") };
}

/** Sends a piece now and then, until the connection ends. */
function drip({ socket, closed }, piece, period = 200) {
  const timer = setInterval(() => socket.write(piece), period);
  return closed.finally(() => clearInterval(timer));
}

describe("a slow client", () => {
  test("has AUTH_HEADER_TIMEOUT for its head, however busy it looks, and others are served meanwhile", () =>
    serving({ AUTH_HEADER_TIMEOUT: "1" }, async (host, upstream) => {
      const line = "GET /v1/models HTTP/1.1\r\nHost: x\r\n";
      const dripping = client(host.port, line);
      const [silent, begun] = [client(host.port), client(host.port, "G")];
      // Also for the second request on a connection, from its first byte on.
      const second = client(host.port, request({ target: "/v1/models", headers: head }));
      await until(() => second.text().includes("\r\n\r\n"));
      second.socket.write(line);
      const ended = [drip(dripping, "X-Slow: y\r\n"), silent.closed, begun.closed, drip(second, "X-Slow: y\r\n")];
      assert.equal((await ok(host)).status, 200);
      await Promise.all(ended);
      assert.equal(upstream.requests.length, 2);
    }),
  );

  test("has AUTH_BODY_TIMEOUT for pauses in its body, not for the body", () =>
    serving({ AUTH_BODY_TIMEOUT: "1", AUTH_HEADER_TIMEOUT: "1" }, async (host, upstream) => {
      const upload = (size) => `PUT /sink HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\nContent-Length: ${size}\r\n\r\n`;
      const paused = client(host.port, upload(10), "12345");
      await paused.closed;
      assert.match(paused.text(), /^HTTP\/1\.1 400 /);
      await until(() => upstream.requests[0]?.aborted);
      // Far longer than the limit, but never silent for so long.
      const steady = client(host.port, upload(10));
      for (let sent = 0; sent < 10; sent += 1) {
        steady.socket.write("x");
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      await until(() => steady.text().includes('"size":10'));
      steady.socket.destroy();
    }),
  );

  test("may leave a connection idle for AUTH_IDLE_TIMEOUT, and longer than its head may take", () =>
    serving({ AUTH_IDLE_TIMEOUT: "3", AUTH_HEADER_TIMEOUT: "1" }, async (host) => {
      const one = request({ target: "/v1/models", headers: head });
      const idle = client(host.port, one);
      await until(() => idle.text().includes("\r\n\r\n"));
      await new Promise((resolve) => setTimeout(resolve, 1500));
      idle.socket.write(one);
      await until(() => idle.text().split("HTTP/1.1 200 OK").length === 3);
      await idle.closed;

      const session = http2.connect(host.url);
      const stream = session.request({ ":path": "/v1/models", authorization: AUTHORIZATION[1] });
      const [[answer]] = await Promise.all([once(stream, "response"), once(stream.resume(), "end")]);
      assert.equal(answer[":status"], 200);
      await once(session, "close");
    }),
  );

  test("a WebSocket and an event stream may be silent for longer than anything else", () =>
    serving({ AUTH_IDLE_TIMEOUT: "1", AUTH_HEADER_TIMEOUT: "1", AUTH_BODY_TIMEOUT: "1", UPSTREAM_TIMEOUT: "1" }, async (host, upstream) => {
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: Object.fromEntries([AUTHORIZATION]) });
      await once(socket, "open");
      const events = client(host.port, request({ target: "/events", headers: head }));
      await until(() => events.text().includes("\r\n\r\n"));
      await new Promise((resolve) => setTimeout(resolve, 3000));
      upstream.push("still here");
      await until(() => events.text().includes("still here"));
      const message = once(socket, "message");
      socket.send("and here");
      assert.equal((await message)[0].toString(), "and here");
      socket.terminate();
      events.socket.destroy();
    }),
  );

  for (const [protocol, speaks] of [["HTTP/1.1", "bytes"], ["HTTP/2", "http2"]]) {
    test(`that never reads is cut off after AUTH_BODY_TIMEOUT; memory stays as it is, and others are served: ${protocol}`, { skip: LINUX }, () =>
      serving({ AUTH_BODY_TIMEOUT: "2", AUTH_IDLE_TIMEOUT: "2" }, async (host, upstream) => {
        await ok(host);
        const before = kilobytes(host.pid, "VmRSS");
        const total = 1 << 30;
        const gone = [];
        for (let number = 0; number < 20; number += 1) {
          const { socket, closed } = client(host.port);
          socket.pause();
          if (speaks === "bytes") socket.write(request({ target: `/source?bytes=${total}`, headers: head }));
          else socket.write(HTTP2_GET(`/source?bytes=${total}`));
          gone.push(closed);
        }
        await until(() => upstream.requests.filter(({ target }) => target.startsWith("/source")).length === 20);
        for (let round = 0; round < 20; round += 1) assert.equal((await ok(host)).status, 200);
        const grown = kilobytes(host.pid, "VmRSS") - before;
        // Of the 20 GB that they asked for.
        assert.ok(grown < 100_000, `${grown} KB for 20 clients`);
        // The upstream is let go of.
        await until(() => upstream.requests.filter(({ target, aborted }) => target.startsWith("/source") && aborted).length === 20);
        await until(() => descriptors(host.pid) < 40);
      }),
    );
  }
});

/** The frames of one request with a window that is open wide, by a client that then says nothing more. */
function HTTP2_GET(target) {
  const frame = (type, flags, stream, payload) => {
    const bytes = Buffer.alloc(9 + payload.length);
    bytes.writeUIntBE(payload.length, 0, 3);
    bytes.writeUInt8(type, 3);
    bytes.writeUInt8(flags, 4);
    bytes.writeUInt32BE(stream, 5);
    payload.copy(bytes, 9);
    return bytes;
  };
  const text = (value) => {
    assert.ok(value.length < 127);
    return Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  };
  // Names by their places in the static table of RFC 7541: :method GET, :scheme http, :path, :authority, authorization.
  const block = Buffer.concat([Buffer.from([0x82, 0x86, 0x04]), text(target), Buffer.from([0x01]), text("x"), Buffer.from([0x0f, 0x08]), text(AUTHORIZATION[1])]);
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(4, 0);
  settings.writeUInt32BE(0x7fffffff, 2);
  const window = Buffer.alloc(4);
  window.writeUInt32BE(0x7fffffff - 65_535, 0);
  return Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, settings), frame(8, 0, 0, window), frame(1, 5, 1, block)]);
}

describe("HTTP/2", () => {
  test("a client that never opens its window has AUTH_BODY_TIMEOUT for an answer, whoever made it", () =>
    serving({ AUTH_BODY_TIMEOUT: "2" }, async (host, upstream) => {
      for (const [path, headers] of [["/v1/models", {}], ["/source?bytes=1000000000", { authorization: AUTHORIZATION[1] }]]) {
        const session = http2.connect(host.url, { settings: { initialWindowSize: 0 } }).on("error", () => {});
        const stream = session.request({ ":path": path, ...headers }).on("error", () => {});
        const gone = once(session, "close");
        const [{ ":status": status }] = await once(stream, "response");
        assert.equal(status, headers.authorization ? 200 : 401);
        await gone;
      }
      // The upstream is let go of.
      await until(() => upstream.requests.some(({ target, aborted }) => target.startsWith("/source") && aborted));
    }),
  );

  test("an answer that pauses is no fault of its client", () =>
    serving({ AUTH_BODY_TIMEOUT: "2", AUTH_IDLE_TIMEOUT: "2" }, async (host, upstream) => {
      const session = http2.connect(host.url);
      const stream = session.request({ ":path": "/events", authorization: AUTHORIZATION[1] });
      await once(stream, "response");
      for (const event of ["one", "two"]) {
        await new Promise((resolve) => setTimeout(resolve, 4000));
        const data = once(stream, "data");
        upstream.push(event);
        assert.equal((await data)[0].toString(), `data: ${event}\n\n`);
      }
      session.destroy();
    }),
  );

  test("a client that has nothing to ask is idle, however often it says that it is there", () =>
    serving({ AUTH_IDLE_TIMEOUT: "2" }, async (host) => {
      const session = http2.connect(host.url).on("error", () => {});
      const stream = session.request({ ":path": "/.auth/whoami" });
      stream.resume();
      await once(stream, "end");
      const pings = setInterval(() => session.destroyed || session.ping(() => {}), 300);
      await once(session, "close");
      clearInterval(pings);
    }),
  );

  test("more requests than a connection may have at one time are refused, and a client that takes back too many is sent away", () =>
    serving({}, async (host) => {
      const session = http2.connect(host.url).on("error", () => {});
      await once(session, "remoteSettings");
      assert.equal(session.remoteSettings.maxConcurrentStreams, 128);
      const goaway = once(session, "goaway");
      // Rapid reset: opened and taken back in one go, far more often than anybody would (CVE-2023-44487).
      for (let number = 0; number < 5000 && !session.closed && !session.destroyed; number += 1) {
        const stream = session.request({ ":path": "/hang", authorization: AUTHORIZATION[1] });
        stream.on("error", () => {});
        stream.close(http2.constants.NGHTTP2_CANCEL);
        if (number % 100 === 99) await new Promise(setImmediate);
      }
      const [code] = await goaway;
      assert.equal(code, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
      session.destroy();
      assert.equal((await ok(host)).status, 200);
    }),
  );
});

describe("an upstream", () => {
  test("that never reads does not fill the memory, and is given up in time", { skip: LINUX }, async () => {
    const start = () => startRawUpstream(async ({ socket }) => socket.pause(), { readsBody: () => false });
    await serving({ UPSTREAM_TIMEOUT: "2" }, async (host) => {
      const before = kilobytes(host.pid, "VmRSS");
      const uploads = Array.from({ length: 10 }, () => client(host.port, `POST /upload HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\nContent-Length: 100000000\r\n\r\n`, Buffer.alloc(30 << 20)));
      await Promise.all(uploads.map((upload) => until(() => upload.text().includes("\r\n\r\n"))));
      const grown = kilobytes(host.pid, "VmRSS") - before;
      for (const { socket, text } of uploads) {
        assert.match(text(), /^HTTP\/1\.1 504 /);
        socket.destroy();
      }
      assert.ok(grown < 40_000, `${grown} KB for 10 uploads`);
    }, { start });
  });

  test("has the whole of its time for each request on a kept connection", () => {
    const start = () =>
      startRawUpstream(async (request) => {
        if (request.target === "/never") return;
        // Longer than what is left of the time of the request before, shorter than its own.
        if (request.target === "/late") await sleep(1300);
        request.socket.write(echo(request));
      });
    return serving({ UPSTREAM_TIMEOUT: "2" }, async (host, upstream) => {
      // Over one connection, since each thread of the gateway has its own to the upstream.
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const statuses = [];
      for (const path of ["/first", "/late", "/late", "/never"]) {
        const outgoing = http.request({ port: host.port, host: "127.0.0.1", path, agent, headers: Object.fromEntries([AUTHORIZATION]) });
        statuses.push((await answerTo(outgoing.end())).status);
      }
      agent.destroy();
      assert.deepEqual(statuses, [200, 200, 200, 504]);
      assert.equal(new Set(upstream.requests.map(({ socket }) => socket)).size, 1, "they shared a connection");
    }, { start });
  });

  test("that dies in the middle of an answer leaves a broken one", () =>
    serving({}, async (host) => {
      for (const target of ["/die", "/die-chunked"]) {
        const { answers } = await exchange(host.port, request({ target, headers: head }));
        assert.deepEqual([answers[0].status, answers[0].complete], [200, false], target);
        const session = http2.connect(host.url);
        const stream = session.request({ ":path": target, authorization: AUTHORIZATION[1] }).resume();
        const [error] = await once(stream, "error");
        assert.match(error.message, /INTERNAL_ERROR|CANCEL|closed with error/i, target);
        session.destroy();
      }
    }),
  );

  test("that pauses for longer than UPSTREAM_IDLE_TIMEOUT leaves a broken one; one that goes on in time does not", () =>
    serving({ UPSTREAM_IDLE_TIMEOUT: "2" }, async (host, upstream) => {
      const paused = client(host.port, request({ target: "/events", headers: head }));
      await until(() => paused.text().includes("\r\n\r\n"));
      for (let number = 0; number < 6; number += 1) {
        upstream.push(`${number}`);
        await until(() => paused.text().includes(`data: ${number}\n`));
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      await paused.closed;
      assert.ok(!paused.text().endsWith("0\r\n\r\n"), "it does not look complete");
      await until(() => host.log().includes("the upstream paused too long within its answer"));
    }),
  );

  test("is not blamed for a client that is slow to read", () =>
    serving({ UPSTREAM_IDLE_TIMEOUT: "1" }, async (host) => {
      const total = 50 << 20;
      const slow = client(host.port, request({ target: `/source?bytes=${total}`, headers: head }));
      let size = 0;
      slow.socket.on("data", (chunk) => (size += chunk.length));
      await once(slow.socket, "data");
      slow.socket.pause();
      await new Promise((resolve) => setTimeout(resolve, 2500));
      slow.socket.resume();
      await until(() => size > total || slow.socket.destroyed);
      assert.ok(size > total, `${size}`);
      slow.socket.destroy();
    }),
  );
});

describe("at a stop", () => {
  test("what takes longer than AUTH_DRAIN_TIMEOUT is cut", () =>
    serving({ AUTH_DRAIN_TIMEOUT: "1" }, async (host, upstream) => {
      const hanging = client(host.port, request({ target: "/hang", headers: head }));
      await once(upstream.events, "request");
      const { code, stderr } = await host.stop("SIGTERM");
      assert.equal(code, 0);
      assert.match(stderr, /connections still open after 1 s were cut/);
      await hanging.closed;
    }),
  );

  test("a second signal cuts what the first one left time", () =>
    serving({ AUTH_DRAIN_TIMEOUT: "0" }, async (host, upstream) => {
      const hanging = client(host.port, request({ target: "/hang", headers: head }));
      await once(upstream.events, "request");
      host.child.kill("SIGINT");
      await until(() => host.log().includes("stopping"));
      assert.equal((await host.stop("SIGINT")).code, 0);
      await hanging.closed;
    }),
  );

  test("a WebSocket has the same time", () =>
    serving({}, async (host) => {
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: Object.fromEntries([AUTHORIZATION]) });
      await once(socket, "open");
      host.child.kill("SIGTERM");
      await until(() => host.log().includes("stopping"));
      const message = once(socket, "message");
      socket.send("to the end");
      assert.equal((await message)[0].toString(), "to the end");
      socket.close();
      assert.equal((await host.exited).code, 0);
    }),
  );

  test("a client that has said nothing yet does not hold it up", () =>
    serving({ AUTH_DRAIN_TIMEOUT: "0", AUTH_HEADER_TIMEOUT: "0" }, async (host) => {
      const silent = client(host.port);
      await once(silent.socket, "connect");
      assert.equal((await ok(host)).status, 200);
      assert.equal((await host.stop("SIGTERM")).code, 0);
      await silent.closed;
    }),
  );

  test("a client of HTTP/2 that has asked nothing yet is told", () =>
    serving({ AUTH_DRAIN_TIMEOUT: "0", AUTH_HEADER_TIMEOUT: "0" }, async (host) => {
      const session = http2.connect(host.url).on("error", () => {});
      await once(session, "remoteSettings");
      const told = once(session, "goaway");
      assert.equal((await host.stop("SIGTERM")).code, 0);
      await told;
    }),
  );

  test("a client that keeps its connection after an upload, and does not hear that it is over, does not hold it up", () =>
    serving({ AUTH_DRAIN_TIMEOUT: "3" }, async (host) => {
      const deaf = net.connect({ port: host.port, host: "127.0.0.1", allowHalfOpen: true });
      deaf.on("error", () => {});
      deaf.write(request({ method: "PUT", target: "/sink", headers: head, body: "hello" }));
      await once(deaf, "data");
      host.child.kill("SIGTERM");
      const { code } = await host.exited;
      deaf.destroy();
      assert.deepEqual([code, host.log().includes("were cut")], [0, false], host.log());
    }),
  );

  test("a kept connection is answered once more, and told that it was the last time", () =>
    serving({}, async (host) => {
      const one = request({ target: "/v1/models", headers: head });
      const kept = client(host.port, one);
      await until(() => kept.text().includes("\r\n\r\n"));
      host.child.kill("SIGTERM");
      await until(() => host.log().includes("stopping"));
      kept.socket.write(one);
      await kept.closed;
      const [, first, second] = kept.text().split("HTTP/1.1 200 OK");
      assert.ok(!/^connection: close/im.test(first) && /^connection: close/im.test(second), kept.text());
      assert.equal((await host.exited).code, 0);
    }),
  );
});

describe("many connections", { skip: LINUX }, () => {
  test("the limit of open files is raised as far as it goes", () => {
    const limit = Number(spawnSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).stdout);
    return serving({}, ({ pid }) => {
      assert.match(readFileSync(`/proc/${pid}/limits`, "utf8"), new RegExp(`^Max open files +${limit} +${limit} `, "m"));
    }, { wrap: (command) => ["sh", "-c", 'ulimit -Sn 256; exec "$0" "$@"', ...command] });
  });

  const MANY = 10_000;
  const soft = Number(spawnSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }).stdout.replace("unlimited", "1000000"));
  const hard = Number(spawnSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).stdout.replace("unlimited", "1000000"));
  const fits = soft > MANY + 500 && hard / 2 > MANY + 200;
  test(`${MANY} idle ones cost little each, nobody else notices, and nothing of them is left`, { skip: !fits && `the limit of open files is ${soft}` }, () =>
    serving({}, async (host) => {
      for (let round = 0; round < 50; round += 1) await ok(host, "/.auth/whoami");
      const before = { fds: descriptors(host.pid), rss: kilobytes(host.pid, "VmRSS") };
      const bytes = request({ target: "/.auth/whoami", headers: head });
      const sockets = [];
      while (sockets.length < MANY) {
        const some = Array.from({ length: 250 }, () => client(host.port, bytes));
        for (const { text } of some) await until(() => text().includes("\r\n\r\n"));
        sockets.push(...some);
      }
      assert.ok(descriptors(host.pid) >= MANY);
      const each = (kilobytes(host.pid, "VmRSS") - before.rss) / MANY;
      assert.equal((await ok(host)).status, 200);
      for (const { socket } of sockets) socket.destroy();
      await until(() => descriptors(host.pid) <= before.fds + 10);
      assert.equal((await ok(host)).status, 200);
      // Two buffers of hyper's, 8 KB each, of which a system with small pages gives half.
      assert.ok(each <= 22, `${each} KB for each`);
    }),
  );
});
