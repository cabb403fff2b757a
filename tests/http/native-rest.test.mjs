// A connection of HTTP/1.1 that nobody uses for a second comes to rest: the native host keeps its socket, and next to nothing
// else. Nobody but its memory shows it.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, test as nodeTest } from "node:test";
import tls from "node:tls";
import { WebSocket } from "ws";

import { ADMIN_LISTEN, metrics } from "./support/admin.mjs";
import { certificateFiles, makeCertificate } from "./support/certificates.mjs";
import { echoes } from "./support/clients.mjs";
import { AUTHORIZATION, STATIC, startNative } from "./support/hosts.mjs";
import { descriptors, kilobytes, oneCore, until } from "./support/process.mjs";
import { request } from "./support/raw.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";
import { startUpstream } from "./support/upstream.mjs";

const test = (title, options, run = options) => nodeTest(title, { timeout: 60_000, ...(run === options ? {} : options) }, run);
const LINUX = process.platform === "linux" ? false : "only Linux has /proc";
const head = [["Host", "x"], AUTHORIZATION];
const GET = request({ target: "/v1/models", headers: head });
const POST = request({ method: "POST", target: "/sink", headers: head, body: "x".repeat(20_000) });

const files = certificateFiles();
const made = makeCertificate();
const ca = made.certificate;
files.put(made);
after(() => files.remove());

const rests = (host) => host.log().split("a connection rests").length - 1;
const resident = (pid) => kilobytes(pid, "VmRSS");

/** Runs `body` with a gateway that tells of connections at rest, and an upstream. */
async function serving(settings, body, { start = startUpstream, ...options } = {}) {
  const upstream = await start();
  let host;
  try {
    host = await startNative({ settings: { ...STATIC, LOG_LEVEL: "debug", UPSTREAM_URL: upstream.url, ...settings }, ...options });
    return await body(host, upstream);
  } finally {
    await host?.stop();
    await upstream.stop();
  }
}

/** A connection that counts the answers it gets. */
async function connect(host, more = {}) {
  const options = { port: host.port, host: "127.0.0.1", ...more };
  const socket = host.url.startsWith("https") ? tls.connect({ ...options, ca, servername: "localhost", ALPNProtocols: ["http/1.1"] }) : net.connect({ ...options, noDelay: true });
  const ends = { closed: once(socket, "close"), isEnded: false };
  let text = "";
  socket.on("error", () => {}).on("data", (chunk) => (text += chunk.toString("latin1"))).on("end", () => (ends.isEnded = true));
  await once(socket, host.url.startsWith("https") ? "secureConnect" : "connect");
  const answers = () => text.split("HTTP/1.1 200 OK").length - 1;
  return {
    socket,
    ends,
    answers,
    text: () => text,
    /** Sends these bytes, whole, and waits for so many answers to them. */
    async ask(bytes = GET, count = 1) {
      const expected = answers() + count;
      socket.write(bytes);
      await until(() => answers() >= expected || socket.destroyed);
      assert.equal(answers(), expected, text);
    },
  };
}

/** A connection that was used, and has come to rest. */
async function resting(host) {
  const connection = await connect(host);
  const before = rests(host);
  await connection.ask();
  await until(() => rests(host) > before);
  return connection;
}

/** How many have come to rest after more time than that takes. */
async function restedMeanwhile(host) {
  const before = rests(host);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return rests(host) - before;
}

for (const [name, settings] of [["TCP", {}], ["TLS", files.settings]]) {
  describe(`a connection at rest: ${name}`, () => {
    let upstream, host;
    before(async () => {
      upstream = await startUpstream();
      host = await startNative({ settings: { ...STATIC, ...ADMIN_LISTEN, LOG_LEVEL: "debug", UPSTREAM_URL: upstream.url, ...settings } });
    });
    after(async () => {
      await host?.stop();
      await upstream?.stop();
    });

    test("serves the next request, over and over, one or several at a time, with a body or without", async () => {
      const connection = await connect(host);
      for (const [bytes, count] of [[GET, 1], [Buffer.concat([GET, GET]), 2], [POST, 1], [Buffer.concat([GET, POST, POST, GET]), 4], [GET, 1]]) {
        const before = rests(host);
        await connection.ask(bytes, count);
        await until(() => rests(host) > before);
      }
      connection.socket.destroy();
    });

    test("is woken by part of a head, and does not rest before the whole is answered", async () => {
      const connection = await resting(host);
      for (const piece of ["G", GET.subarray(1, 20)]) {
        connection.socket.write(piece);
        assert.equal(await restedMeanwhile(host), 0);
      }
      const before = rests(host);
      await connection.ask(GET.subarray(20));
      await until(() => rests(host) > before);
      connection.socket.destroy();
    });

    test("loses nothing of a head whose first part came along with the request before", async () => {
      const connection = await connect(host);
      const before = rests(host);
      await connection.ask(Buffer.concat([GET, GET.subarray(0, 20)]));
      await until(() => rests(host) > before);
      await connection.ask(GET.subarray(20));
      connection.socket.destroy();
    });

    test("can become a WebSocket", async () => {
      const { socket } = await resting(host);
      socket.removeAllListeners("data");
      const webSocket = new WebSocket("ws://localhost/ws", { headers: Object.fromEntries([AUTHORIZATION]), createConnection: () => socket });
      await once(webSocket, "open");
      await echoes(webSocket);
      // A tunnel is no connection that rests, however silent.
      assert.equal(await restedMeanwhile(host), 0);
      await echoes(webSocket);
      webSocket.terminate();
    });

    test("is over when its client leaves, in whichever way", { skip: LINUX }, async () => {
      const open = async () => (await metrics(host)).value("nodetool_auth_connections_open");
      await until(async () => (await open()) === 0);
      const before = descriptors(host.pid);
      const leaving = await Promise.all(Array.from({ length: 9 }, () => connect(host)));
      const rested = rests(host);
      for (const connection of leaving) await connection.ask();
      await until(() => rests(host) >= rested + leaving.length);
      assert.equal(await open(), leaving.length);
      for (const [index, { socket }] of leaving.entries()) [() => socket.end(), () => socket.destroy(), () => (name === "TCP" ? socket.resetAndDestroy() : socket.destroy())][index % 3]();
      await until(async () => (await open()) === 0);
      await until(() => descriptors(host.pid) <= before + 2);
    });
  });

  describe(`the end of a connection at rest: ${name}`, () => {
    test("comes after AUTH_IDLE_TIMEOUT, in good manners", () =>
      serving({ ...settings, AUTH_IDLE_TIMEOUT: "3" }, async (host) => {
        const began = performance.now();
        const { ends } = await resting(host);
        await ends.closed;
        assert.ok(ends.isEnded && performance.now() - began > 2900);
      }));

    test("comes after AUTH_HEADER_TIMEOUT when the rest of a head does not come, wherever it began", () =>
      serving({ ...settings, AUTH_HEADER_TIMEOUT: "2" }, async (host) => {
        const [woken, ahead] = [await resting(host), await connect(host)];
        woken.socket.write("G");
        ahead.socket.write(Buffer.concat([GET, Buffer.from("G")]));
        await Promise.all([woken.ends.closed, ahead.ends.closed]);
        assert.deepEqual([woken.answers(), ahead.answers()], [1, 1]);
      }));

    test("comes with a stop, in good manners, and holds nothing up", () =>
      serving({ ...settings, AUTH_DRAIN_TIMEOUT: "0" }, async (host) => {
        const { ends } = await resting(host);
        assert.equal((await host.stop("SIGTERM")).code, 0);
        await ends.closed;
        assert.ok(ends.isEnded);
      }));

    test("comes after one more answer, if its client did not know of the stop", () =>
      serving(settings, async (host) => {
        const connection = await resting(host);
        host.child.kill("SIGTERM");
        await until(() => host.log().includes("stopping"));
        await connection.ask();
        await connection.ends.closed;
        const [, first, second] = connection.text().split("HTTP/1.1 200 OK");
        assert.ok(!/^connection: close/im.test(first) && /^connection: close/im.test(second), connection.text());
        assert.equal((await host.exited).code, 0);
      }));
  });
}

describe("a connection that only looks idle", () => {
  test("whose answer is over and whose body is not: the rest of it is no request", async () => {
    const bodies = [];
    const start = () =>
      startRawUpstream(async ({ socket, input, headers }) => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        bodies.push(await input.body(headers));
      }, { readsBody: () => false });
    await serving({}, async (host, upstream) => {
      const smuggled = request({ target: "/smuggled", headers: head });
      const connection = await connect(host);
      await connection.ask(`POST /upload HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\nContent-Length: ${smuggled.length + 1}\r\n\r\n.`);
      assert.equal(await restedMeanwhile(host), 0);
      await connection.ask(Buffer.concat([smuggled, GET]));
      assert.deepEqual(upstream.requests.map(({ target }) => target), ["/upload", "/v1/models"]);
      assert.ok(bodies[0].equals(Buffer.concat([Buffer.from("."), smuggled])));
      connection.socket.destroy();
    }, { start });
  });

  test("whose refused body nobody reads: what comes of it is no request", () =>
    serving({}, async (host, upstream) => {
      const connection = await connect(host, { allowHalfOpen: true });
      connection.socket.write("POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
      await until(() => connection.ends.isEnded);
      assert.equal(await restedMeanwhile(host), 0);
      connection.socket.write(GET);
      await restedMeanwhile(host);
      assert.deepEqual([connection.answers(), upstream.requests], [0, []]);
      connection.socket.destroy();
    }));

  for (const [name, settings] of [["TCP", {}], ["TLS", files.settings]]) {
    test(`whose client does not take its answers: it gets all when it does: ${name}`, () =>
      serving(settings, async (host) => {
        // More than the system takes, and each as large as hyper holds, so that one is over and not sent.
        const count = 600;
        const connection = await connect(host);
        connection.socket.pause();
        const asked = request({ target: "/source?bytes=20000", headers: head });
        connection.socket.write(Buffer.concat(Array.from({ length: count }, () => asked)));
        assert.equal(await restedMeanwhile(host), 0);
        connection.socket.resume();
        await connection.ask(GET, count + 1);
        connection.socket.destroy();
      }));
  }
});

describe("the memory of a burst that comes to rest", { skip: LINUX }, () => {
  // One thread, and nobody else who has the allocator look around.
  const wrap = (command) => ["taskset", "--cpu-list", oneCore(), ...command];
  test("goes back to the system, though nothing happens afterwards", () =>
    serving({ LOG_LEVEL: "info" }, async (host) => {
      const sockets = [];
      // Answered by the gateway itself: that a connection to the upstream is closed later would be something that happens.
      const own = request({ target: "/.auth/whoami", headers: head });
      const openTo = async (total) => {
        while (sockets.length < total) {
          const socket = net.connect(host.port, "127.0.0.1");
          sockets.push(socket);
          socket.write(own);
          await once(socket, "data");
        }
      };
      await openTo(50);
      const before = resident(host.pid);
      await openTo(2050);
      await until(() => (resident(host.pid) - before) / 2000 <= 4);
      for (const socket of sockets) socket.destroy();
    }, { wrap }));
});

describe("the memory of connections at rest", { skip: LINUX }, () => {
  const cases = [
    ["TCP", {}, GET, 4000, 8],
    ["TCP, before the first request", {}, undefined, 4000, 4],
    ["TLS", files.settings, GET, 500, 16],
    ["TLS, before the first request", files.settings, undefined, 500, 16],
  ];
  for (const [name, settings, bytes, count, limit] of cases) {
    test(`${name}: at most ${limit} KB for each`, { timeout: 120_000 }, () =>
      serving({ ...settings, LOG_LEVEL: "info" }, async (host) => {
        const open = async () => {
          const connection = await connect(host);
          if (bytes) await connection.ask(bytes);
          return connection.socket;
        };
        const sockets = [];
        const openTo = async (total) => {
          while (sockets.length < total) sockets.push(...(await Promise.all(Array.from({ length: 100 }, open))));
        };
        // What is allocated once, for however many, is not counted.
        await openTo(100);
        const before = resident(host.pid);
        await openTo(count + 100);
        let each;
        await until(async () => {
          // What a handshake leaves lies between what stays, and is free for others before it is the system's again. Without TLS
          // nothing else happens meanwhile.
          if (settings.AUTH_TLS_CERT) (await open()).destroy();
          each = (resident(host.pid) - before) / count;
          return each <= limit;
        });
        for (const socket of sockets) socket.destroy();
      }),
    );
  }
});
