// WebSockets: where their token may be, whose pages may open them, and that a refused one leaves nothing behind.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import net from "node:net";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { echoes } from "./support/clients.mjs";
import { until, withGateway } from "./support/gateway.mjs";
import { AUTHORIZATION, HOSTS, STATIC, TOKEN, startHost } from "./support/hosts.mjs";
import { KEYS, userToken } from "./support/jwt.mjs";
import { startUpstream } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const PAGE = "https://app.example";
const NO_CREDENTIAL = "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'";
const MALFORMED = "Invalid authorization header format. Use 'Authorization: Bearer YOUR_TOKEN'";
const INVALID = "Invalid authentication token";
const header = Object.fromEntries([AUTHORIZATION]);

for (const name of HOSTS) {
  describe(`${name}: sources of a token`, () => {
    const hosts = {};
    let upstream;
    const settings = { all: { AUTH_WS_TOKEN_SOURCES: "header,protocol,query" }, byDefault: {}, page: { AUTH_WS_TOKEN_SOURCES: "protocol", CORS_ORIGINS: PAGE } };
    before(async () => {
      upstream = await startUpstream();
      for (const [key, set] of Object.entries(settings)) hosts[key] = await startHost(name, { settings: { ...STATIC, UPSTREAM_URL: upstream.url, ...set } });
    });
    after(async () => {
      for (const host of Object.values(hosts)) await host.stop();
      await upstream?.stop();
    });

    const open = (key, target, protocols, headers) => new WebSocket(hosts[key].url.replace("http", "ws") + target, protocols, { headers });

    /** The upgrade passes, and this is what the upstream sees of it. */
    async function passes(key, target, protocols = [], headers = {}) {
      upstream.take();
      const socket = open(key, target, protocols, headers);
      await once(socket, "open");
      const [entry, ...others] = upstream.take();
      assert.deepEqual(others, []);
      const identity = entry.headers.filter(([header]) => /^x[-_](user|auth)/.test(header)).sort();
      assert.deepEqual(identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
      // That it is a connection and not only an answer.
      const echo = once(socket, "message");
      socket.send("hello");
      assert.equal((await echo)[0].toString(), "hello");
      socket.terminate();
      const offered = entry.headers.filter(([header]) => header === "sec-websocket-protocol").map(([, value]) => value);
      const authorization = entry.headers.filter(([header]) => header === "authorization").map(([, value]) => value);
      const rest = entry.headers.filter(([header]) => header !== "authorization");
      return { target: entry.target, offered, protocol: socket.protocol, authorization, rest: JSON.stringify({ ...entry, headers: rest }) };
    }

    async function refused(key, target, protocols, headers, status, detail) {
      upstream.take();
      const [, response] = await once(open(key, target, protocols, headers), "unexpected-response");
      const body = Buffer.concat(await response.toArray()).toString();
      assert.deepEqual([response.statusCode, body], [status, JSON.stringify({ detail })]);
      assert.deepEqual(upstream.take(), []);
      return response;
    }

    test("in the header", async () => {
      assert.deepEqual((await passes("byDefault", "/ws?token=of-the-api", ["chat"], header)).target, "/ws?token=of-the-api");
      assert.deepEqual((await passes("all", "/ws", [], header)).offered, []);
    });

    test("among the subprotocols: only its marker is answered, and the upstream sees the token in its header", async () => {
      for (const [others, offered] of [[[], []], [["chat", "superchat"], ["chat, superchat"]]]) {
        const seen = await passes("all", "/ws", ["bearer", TOKEN, ...others]);
        assert.deepEqual([seen.protocol, seen.offered], ["bearer", offered]);
        assert.deepEqual(seen.authorization, [`Bearer ${TOKEN}`]);
        assert.ok(!seen.rest.includes(TOKEN), "the token is nowhere else");
      }
    });

    test("subprotocols of the API's own are between client and API", async () => {
      const seen = await passes("all", "/ws", ["chat", "superchat"], header);
      assert.deepEqual([seen.protocol, seen.offered.join()], ["chat", "chat,superchat"]);
    });

    test("in the query: it is gone there when the upstream sees it, and nothing else is", async () => {
      for (const [target, rest] of [
        [`/ws?token=${TOKEN}`, "/ws"],
        [`/ws?a=%2F&api_key=${TOKEN}&b=c%20d&b`, "/ws?a=%2F&b=c%20d&b"],
        [`/ws?%74oken=${TOKEN.replaceAll("-", "%2D")}&x=1`, "/ws?x=1"],
      ]) {
        const seen = await passes("all", target);
        assert.equal(seen.target, rest);
        assert.deepEqual(seen.authorization, [`Bearer ${TOKEN}`]);
        assert.ok(!seen.rest.includes(TOKEN), "the token is nowhere else");
      }
    });

    test("nowhere else than the settings say, nor in two places", async () => {
      await refused("byDefault", `/ws?token=${TOKEN}`, [], {}, 401, NO_CREDENTIAL);
      await refused("byDefault", "/ws", ["bearer", TOKEN], {}, 401, NO_CREDENTIAL);
      await refused("page", "/ws", [], header, 401, NO_CREDENTIAL);
      await refused("all", `/ws?token=${TOKEN}`, ["bearer", TOKEN], {}, 401, MALFORMED);
      await refused("all", `/ws?token=${TOKEN}&token=${TOKEN}`, [], {}, 401, MALFORMED);
      await refused("all", "/ws", ["bearer"], {}, 401, MALFORMED);
      await refused("all", "/ws?api_key=wrong-0123456789", [], {}, 401, INVALID);
      const response = await refused("all", "/ws", ["bearer", "wrong-0123456789"], {}, 401, INVALID);
      assert.equal(response.headers["sec-websocket-protocol"], undefined);
      for (const host of Object.values(hosts)) assert.ok(!host.log().includes("wrong-0123456789"), "no token in the log");
    });

    test("a page that may, a page that may not, and no page", async () => {
      assert.equal((await passes("page", "/ws", ["bearer", TOKEN], { Origin: PAGE })).protocol, "bearer");
      await passes("page", "/ws", ["bearer", TOKEN]);
      for (const origin of ["https://evil.example", "null", `${PAGE}.evil.example`, "http://app.example"]) {
        await refused("page", "/ws", ["bearer", TOKEN], { Origin: origin }, 403, "Origin not allowed");
      }
      await passes("all", "/ws", ["bearer", TOKEN], { Origin: "https://evil.example" });
    });

    test("a thousand refused upgrades leave nothing open", async () => {
      // The native host shows its descriptors to nobody but root.
      const descriptors = name === "native" && process.getuid() === 0 ? () => readdirSync(`/proc/${hosts.page.pid}/fd`).length : () => 0;
      const before = descriptors();
      upstream.take();
      for (let round = 0; round < 50; round += 1) {
        const refusals = Array.from({ length: 20 }, async (_, at) => {
          const refusable = [[["bearer", "wrong-0123456789"], {}], [[], {}], [["bearer"], {}], [["bearer", TOKEN], { Origin: "https://evil.example" }]];
          const [, response] = await once(open("page", "/ws", ...refusable[at % refusable.length]), "unexpected-response");
          assert.ok([401, 403].includes(response.statusCode));
          response.resume();
          response.socket.destroy();
        });
        await Promise.all(refusals);
      }
      assert.deepEqual(upstream.take(), []);
      await until("descriptors are closed", 20_000, () => descriptors() <= before);
    });

    test("both sides close, ping, and send binary through it, whatever brought the token", async () => {
      const accepted = once(upstream.events, "websocket");
      const socket = open("all", `/ws?token=${TOKEN}`, []);
      const [theirs] = await accepted;
      await once(socket, "open");
      await echoes(socket, [[Buffer.alloc(100_000, 3), true]]);
      const [ping, pong] = [once(theirs, "ping"), once(socket, "pong")];
      socket.ping("are you there");
      assert.equal((await ping)[0].toString(), "are you there");
      assert.equal((await pong)[0].toString(), "are you there");
      const closed = once(theirs, "close");
      socket.close(4004, "enough");
      const [code, reason] = await closed;
      assert.deepEqual([code, reason.toString()], [4004, "enough"]);
    });
  });
}

test("native: an upstream that has said its last word still gets all that the client sends, in its own time", async () => {
  const LAST = 64 * 1024 * 1024;
  let heard = 0;
  let theirs;
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    theirs = socket.on("error", () => {}).once("data", () => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
      socket.on("data", (chunk) => (heard += chunk.length)).once("data", () => socket.end("farewell").pause());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const host = await startHost("native", { settings: { ...STATIC, UPSTREAM_URL: `http://127.0.0.1:${server.address().port}` } });
  const client = net.connect({ port: host.port, host: "127.0.0.1", allowHalfOpen: true });
  try {
    let text = "";
    client.setEncoding("latin1").on("data", (piece) => (text += piece));
    client.write(`GET /ws HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
    await once(client, "data");
    client.write("first");
    await once(client, "end");
    assert.match(text, /^HTTP\/1\.1 101 [^]*\r\n\r\nfarewell$/);
    client.end(Buffer.alloc(LAST));
    // What nobody reads waits with the client.
    let before;
    await until("nothing more goes", 10_000, () => before === (before = client.bytesWritten - client.writableLength));
    theirs.resume();
    await until("all of it has arrived", 20_000, () => heard === "first".length + LAST);
  } finally {
    client.destroy();
    theirs?.destroy();
    server.close();
    await host.stop();
  }
});

describe("native: the end of a token", () => {
  const seconds = () => Math.floor(Date.now() / 1000);

  /** A WebSocket of a user whose token ends in about two seconds, and its other end. */
  async function opened(gateway, body) {
    const exp = seconds() + 3;
    const token = await userToken(KEYS.ES256, gateway.claims({ exp }));
    const accepted = once(gateway.upstream.events, "websocket");
    const socket = new WebSocket(`${gateway.host.url.replace("http", "ws")}/ws`, { headers: { Authorization: `Bearer ${token}` } });
    const [theirs] = await accepted;
    await once(socket, "open");
    try {
      await body({ socket, theirs, exp: exp * 1000 });
    } finally {
      socket.terminate();
    }
  }
  const inTime = (exp) => until("the token has ended", 10_000, () => Date.now() > exp + 500);
  const echoes = async (socket, text) => {
    const message = once(socket, "message");
    socket.send(text);
    assert.equal((await message)[0].toString(), text);
  };
  const settings = { AUTH_WS_CLOSE_ON_EXPIRY: "yes" };

  test("is the end of its WebSocket: 4401", async () => {
    await withGateway("native", { keys: [KEYS.ES256], settings }, async (gateway) => {
      await opened(gateway, async ({ socket, theirs, exp }) => {
        await echoes(socket, "hello");
        const [gone, ended] = [once(theirs, "close"), once(socket, "close")];
        const [code, reason] = await ended;
        assert.deepEqual([code, reason.toString()], [4401, "Token expired"]);
        assert.ok(Date.now() >= exp, "not before its time");
        await gone;
      });
    });
  });

  test("waits for the end of a frame of the upstream's", async () => {
    await withGateway("native", { keys: [KEYS.ES256], settings }, async (gateway) => {
      await opened(gateway, async ({ socket, theirs, exp }) => {
        const ended = once(socket, "close");
        const message = once(socket, "message");
        let isOver = false;
        socket.once("close", () => (isOver = true));
        theirs._socket.write(Buffer.from([0x82, 10, 0, 1, 2, 3, 4]));
        await inTime(exp);
        assert.ok(!isOver, "a frame is not cut");
        // And one that begins after it does not come any more.
        theirs._socket.write(Buffer.from([5, 6, 7, 8, 9, 0x81, 2, 0x6e, 0x6f]));
        const heard = [];
        socket.on("message", (data) => heard.push([...data]));
        assert.deepEqual([...(await message)[0]], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert.equal((await ended)[0], 4401);
        assert.deepEqual(heard, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]);
      });
    });
  });

  test("lets nothing of the client's pass any more", async () => {
    await withGateway("native", { keys: [KEYS.ES256], settings }, async (gateway) => {
      await opened(gateway, async ({ socket, theirs, exp }) => {
        // The last frame never ends, so that the connection stays for its patience.
        theirs._socket.write(Buffer.from([0x82, 10, 0]));
        const heard = [];
        theirs.on("message", (data) => heard.push(data.toString()));
        await inTime(exp);
        const gone = once(theirs, "close");
        socket.send("too late");
        await gone;
        assert.deepEqual(heard, []);
      });
    });
  });

  test("is no end by default, nor for a token without one", async () => {
    await withGateway("native", { keys: [KEYS.ES256] }, async (gateway) => {
      await opened(gateway, async ({ socket, exp }) => {
        await inTime(exp);
        await echoes(socket, "still here");
      });
    });
    await withGateway("native", { keys: [KEYS.ES256], settings }, async (gateway) => {
      const socket = new WebSocket(`${gateway.host.url.replace("http", "ws")}/ws`, { headers: header });
      await once(socket, "open");
      await inTime(Date.now());
      await echoes(socket, "still here");
      socket.terminate();
    });
  });
});
