// Gateway and upstream must agree on where each request and each answer ends, and a client gets the answer to its own
// request: however careless the upstream is, and however rudely clients break off. And what looks like no protection at
// all must not come about by accident.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { AUTHORIZATION, HOSTS, TOKEN, temporaryFolder, withHost, writeFile } from "./support/hosts.mjs";
import { whyNotNginx, withNginx } from "./support/nginx.mjs";
import { WEBSOCKET, ask, exchange, request } from "./support/raw.mjs";
import { ONLY_OF_POST, echo, startRawUpstream } from "./support/raw-upstream.mjs";
import { serving, startServing } from "./support/serving.mjs";
import { startEcho, stress } from "./support/stress.mjs";
import { namespace, service } from "./support/workers.mjs";

/** What waits for ever has failed. */
const test = (title, options, run) =>
  run ? nodeTest(title, { timeout: 60_000, ...options }, run) : nodeTest(title, { timeout: 60_000 }, options);
const SECRET = "GET /admin/secret HTTP/1.1\r\nHost: x\r\nx-user-id: 1\r\n\r\n";
const HOST = ["Host", "x"];
const PREFLIGHT = [["Origin", "http://app.test"], ["Access-Control-Request-Method", "GET"]];
const headers = Object.fromEntries([AUTHORIZATION]);

/** The same request with its body in each framing that HTTP/1.1 has. */
const framings = ({ method, target, headers, body }) => {
  const chunked = [`${method} ${target} HTTP/1.1`, ...headers.map((pair) => pair.join(": ")), "Transfer-Encoding: chunked"].join("\r\n");
  return {
    "Content-Length": request({ method, target, headers, body }),
    chunked: `${chunked}\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
  };
};

/** Runs a host in front of this upstream for as long as `body` takes, and then stops both. */
const between = (name, upstream, body) => serving(name, { start: () => upstream }, body);

/** One request over HTTP/2, with the body in DATA frames and no other word about it. */
async function askHttp2(host, fields, body) {
  const session = http2.connect(host.url);
  try {
    const stream = session.request(fields, { endStream: false });
    stream.end(body);
    const [answer] = await once(stream, "response");
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return { status: answer[":status"], body: Buffer.concat(chunks) };
  } finally {
    session.destroy();
  }
}

const only = (name, entries) => entries.filter(([header]) => header === name);

for (const name of HOSTS) {
  describe(`${name}: an upstream that takes the body of a GET for the next request`, () => {
    let host, upstream, stop;
    before(async () => {
      // It works on a stolen request for as long as it takes somebody else to come along on the same connection.
      const answer = async (request) => {
        if (request.target === "/admin/secret") await request.input.more();
        request.socket.write(echo(request));
      };
      const start = () => startRawUpstream(answer, { readsBody: ONLY_OF_POST });
      ({ host, upstream, stop } = await startServing(name, { start }));
    });
    after(() => stop?.());
    const targets = () => upstream.requests.splice(0).map(({ target }) => target);

    for (const [title, stranger] of [
      ["GET of a public path", { method: "GET", target: "/health", headers: [HOST] }],
      ["HEAD of a public path", { method: "HEAD", target: "/ping", headers: [HOST] }],
      ["preflight", { method: "OPTIONS", target: "/v1/models", headers: [HOST, ...PREFLIGHT] }],
    ]) {
      test(`a stranger's ${title} passes`, async () => {
        const { status } = await ask(host.port, request(stranger), { head: stranger.method === "HEAD" });
        assert.equal(status, 200);
        assert.deepEqual(targets(), [stranger.target]);
      });

      for (const [framing, bytes] of Object.entries(framings({ ...stranger, body: SECRET }))) {
        test(`a stranger's ${title} with a body does not: ${framing}`, async () => {
          const { answers } = await exchange(host.port, bytes, { drain: true, head: stranger.method === "HEAD" });
          assert.deepEqual(answers.map(({ status }) => status), [400]);
          assert.deepEqual(targets(), []);
        });
      }
    }

    for (const [title, fields] of [
      ["GET of a public path", { ":path": "/health" }],
      ["preflight", { ":path": "/v1/models", ":method": "OPTIONS", origin: "http://app.test", "access-control-request-method": "GET" }],
    ]) {
      test(`a stranger's ${title} with a body does not: HTTP/2`, { skip: name === "edge" && "workerd by itself speaks no HTTP/2" }, async () => {
        assert.equal((await askHttp2(host, fields, SECRET)).status, 400);
        assert.deepEqual(targets(), []);
      });
    }

    for (const method of ["GET", "OPTIONS"]) {
      for (const [framing, bytes] of Object.entries(framings({ method, target: "/v1/first", headers: [HOST, AUTHORIZATION], body: SECRET }))) {
        test(`an authorized ${method} with a body does not pass either: ${framing}`, async () => {
          const { answers } = await exchange(host.port, bytes, { drain: true });
          assert.deepEqual(answers.map(({ status }) => status), [400]);
          assert.deepEqual(targets(), []);
        });
      }
    }

    const todo = name === "edge" && "workerd gives the connection to the next client all the same";
    for (const method of ["DELETE"]) {
      for (const [framing, bytes] of Object.entries(framings({ method, target: "/v1/first", headers: [HOST, AUTHORIZATION], body: SECRET }))) {
        test(`an authorized ${method} with a body leaves the next clients their answers: ${framing}`, { todo }, async () => {
          assert.equal((await ask(host.port, bytes)).body.toString(), "/v1/first");
          // Connections are kept by each thread for itself: enough clients for every thread to serve one.
          for (let client = 0; client < 20; client += 1) {
            const answer = await ask(host.port, request({ target: `/v1/${client}`, headers: [HOST, AUTHORIZATION] }));
            assert.equal(answer.body.toString(), `/v1/${client}`);
          }
        });
      }
    }
  });

  describe(`${name}: what the upstream says of its connection`, () => {
    const get = request({ target: "/", headers: [HOST, AUTHORIZATION] });

    test("the headers that it names are dropped, on however many lines", { todo: name === "edge" && "the Worker gives back the answer as it came" }, async () => {
      const lines = ["Connection: keep-alive, X-One", "X-One: 1", "X-Two: 2", "connection: x-two", "Connection: ,, X-THREE ,", "X-Three: 3", "Keep-Alive: timeout=9", "X-Kept: 4"];
      const upstream = await startRawUpstream(({ socket }) => void socket.write(`HTTP/1.1 200 OK\r\n${lines.join("\r\n")}\r\nContent-Length: 2\r\n\r\nok`));
      await between(name, upstream, async (host) => {
        const answer = await ask(host.port, get);
        assert.deepEqual([answer.status, answer.body.toString(), answer.header("x-kept")], [200, "ok", "4"]);
        for (const header of ["x-one", "x-two", "x-three", "keep-alive"]) assert.equal(answer.header(header), undefined, header);
      });
    });

    for (const length of [3, 500]) {
      test(`a chunked body that has a length of ${length} as well is whole`, async () => {
        const bytes = `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n`;
        await between(name, await startRawUpstream(({ socket }) => void socket.write(bytes)), async (host) => {
          const [first, second] = (await exchange(host.port, Buffer.concat([get, get]), { count: 2 })).answers;
          for (const answer of [first, second]) {
            assert.deepEqual([answer.status, answer.body.toString(), answer.complete], [200, "hello world", true]);
          }
        });
      });
    }
  });

  describe(`${name}: what is no upgrade`, () => {
    let host, upstream, stop;
    before(async () => ({ host, upstream, stop } = await startServing(name)));
    after(() => stop?.());

    const KEY = [["Sec-WebSocket-Version", "13"], ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="]];
    for (const [title, method, fields] of [
      ["Upgrade without Connection", "GET", [["Upgrade", "websocket"]]],
      ["Upgrade with a Connection that names others", "GET", [["Connection", "keep-alive, x-upgrade"], ["Upgrade", "websocket"]]],
      ["POST", "POST", [["Connection", "Upgrade"], ["Upgrade", "websocket"]]],
      ["PUT", "PUT", [["Connection", "Upgrade"], ["Upgrade", "websocket"]]],
      ["OPTIONS", "OPTIONS", [["Connection", "Upgrade"], ["Upgrade", "websocket"]]],
    ]) {
      test(`${title} is not switched`, async () => {
        upstream.take();
        const answer = await ask(host.port, request({ method, target: "/ws", headers: [HOST, AUTHORIZATION, ...fields, ...KEY] }));
        assert.equal(answer.status, 200);
        const [received, ...others] = upstream.take();
        assert.deepEqual([received.method, received.target, others], [method, "/ws", []]);
        assert.deepEqual(only("upgrade", received.headers), []);
        assert.ok(!/upgrade/i.test(only("connection", received.headers).join()));
      });
    }
  });

  describe(`${name}: a switch of protocols`, () => {
    const upgrade = request({ target: "/ws", headers: [HOST, AUTHORIZATION, ...WEBSOCKET] });
    const accept = ({ headers }) => createHash("sha1").update(`${Object.fromEntries(headers)["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    const switched = (...lines) => startRawUpstream((request) => void request.socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\nSec-WebSocket-Accept: ${accept(request)}\r\n\r\n`));

    for (const [title, lines] of [
      ["to another one", ["Connection: Upgrade", "Upgrade: h2c"]],
      ["to two of them", ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"]],
      ["to none", ["Connection: Upgrade"]],
    ]) {
      test(`${title} is none`, { todo: name === "edge" && title === "to two of them" && "workerd takes the first of them" }, async () => {
        await between(name, await switched(...lines), async (host) => {
          assert.equal((await ask(host.port, upgrade)).status, 502);
        });
      });
    }

    test("is between each pair: what the upstream's Connection names stays behind", { todo: name === "edge" && "the Worker gives back the answer as it came" }, async () => {
      await between(name, await switched("Connection: x-one, Upgrade", "X-One: 1", "Keep-Alive: timeout=9", "Upgrade: WebSocket", "X-Kept: 4"), async (host) => {
        const answer = await ask(host.port, upgrade);
        const { "x-one": one, "keep-alive": keep, "x-kept": kept, connection, upgrade: to } = Object.fromEntries(answer.headers);
        assert.deepEqual([answer.status, one, keep, kept, connection, to], [101, undefined, undefined, "4", "Upgrade", "websocket"]);
      });
    });
  });

  test(`${name}: every answer is the one to its own request, however clients break off`, async (context) => {
    await between(name, await startEcho(), async (host) => {
      const { wrong, completed, attempted, seed } = await stress(host.port, { clients: 24, rounds: name === "native" ? 60 : 25 });
      context.diagnostic(`seed ${seed}: ${completed} of ${attempted} completed`);
      assert.deepEqual(wrong, [], `seed ${seed}`);
      assert.ok(completed > attempted * 0.9, `seed ${seed}: only ${completed} of ${attempted} completed`);
    });
  });
}

describe("native: bodies where few expect them", () => {
  let host, upstream, stop;
  before(async () => ({ host, upstream, stop } = await startServing("native")));
  after(() => stop?.());
  const received = async () => {
    const [entry, ...others] = upstream.take();
    assert.deepEqual(others, []);
    return { ...entry, body: (await entry.body).toString() };
  };

  for (const method of ["DELETE", "PROPFIND"]) {
    for (const [framing, bytes] of Object.entries(framings({ method, target: "/v1/x", headers: [HOST, AUTHORIZATION], body: '{"query":1}' }))) {
      test(`the upstream is sent the body of a ${method}: ${framing}`, async () => {
        upstream.take();
        assert.equal((await ask(host.port, bytes)).status, 200);
        const { method: sent, body } = await received();
        assert.deepEqual([sent, body], [method, '{"query":1}']);
      });
    }

    test(`the upstream is sent the body of a ${method}: HTTP/2 without a length`, async () => {
      upstream.take();
      const { status } = await askHttp2(host, { ":method": method, ":path": "/v1/x", authorization: AUTHORIZATION[1] }, '{"query":1}');
      assert.equal(status, 200);
      const { method: sent, body } = await received();
      assert.deepEqual([sent, body], [method, '{"query":1}']);
    });
  }

  for (const method of ["POST", "PUT", "PATCH"]) {
    test(`an empty ${method} is said to be empty`, async () => {
      upstream.take();
      assert.equal((await ask(host.port, request({ method, target: "/v1/x", headers: [HOST, AUTHORIZATION], body: "" }))).status, 200);
      const { headers: sent, body } = await received();
      assert.deepEqual([only("content-length", sent), only("transfer-encoding", sent), body], [[["content-length", "0"]], [], ""]);
    });
  }

  test("a chunk that is none, in the middle of an upload, is the client's fault", async () => {
    const socket = net.connect(host.port, "127.0.0.1");
    const answered = (async () => {
      let text = "";
      for await (const chunk of socket.setEncoding("latin1")) text += chunk;
      return text;
    })();
    const progress = once(upstream.events, "progress");
    const closed = once(upstream.events, "close");
    socket.write(`PUT /sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
    await progress;
    upstream.take();
    socket.write(`zz\r\nhello\r\n0\r\n\r\n${request({ target: "/v1/next", headers: [HOST, AUTHORIZATION] })}`);
    // Read to its end: the gateway closes the connection, and answers nothing else on it.
    const text = await answered;
    assert.match(text, /^HTTP\/1\.1 400 /);
    assert.equal(text.match(/HTTP\/1\.1 /g).length, 1);
    const [entry] = await closed;
    assert.deepEqual([entry.target, entry.aborted], ["/sink", true], "half an upload is not passed off as a whole one");
    assert.deepEqual(upstream.take(), []);
  });
});

describe("native: the length that the answer to a HEAD has", () => {
  for (const [said, length] of [
    ["42", "42"],
    ["18446744073709551615", "18446744073709551615"],
    ["18446744073709551616", undefined],
    ["2".repeat(38), undefined],
    ["007", "7"],
    ["5, 5", "5"],
  ]) {
    test(`${said} is ${length ?? "none"}`, async () => {
      const upstream = await startRawUpstream(({ socket }) => void socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${said}\r\n\r\n`));
      await between("native", upstream, async (host) => {
        const answer = await ask(host.port, request({ method: "HEAD", target: "/", headers: [HOST, AUTHORIZATION] }), { head: true });
        assert.deepEqual([answer.status, answer.header("content-length")], [200, length]);
      });
    });
  }
});

describe("native: connections to the upstream", () => {
  const TOTAL = 300;
  const get = async (host, index) => {
    const response = await fetch(`${host.url}/v1/${index}`, { headers, signal: AbortSignal.timeout(60_000) });
    return [response.status, await response.text()];
  };
  const expected = (index) => [200, `/v1/${index}`];

  /** Answers nobody before so many have asked at once: each of them on its own connection. */
  const burst = async (size, isRefused = () => false) => {
    let letGo;
    const together = new Promise((resolve) => (letGo = resolve));
    const upstream = await startRawUpstream(async (request) => {
      if (isRefused(request)) return;
      if (upstream.requests.length === size) letGo();
      await together;
      request.socket.write(echo(request));
    });
    return upstream;
  };

  // Neither says `Connection: close`: what is sent on a connection after its first request gets no answer.
  const abrupt = {
    "right after its answer": (request) => void request.socket.end(echo(request)),
    "as the next request comes": async (request) => {
      request.socket.write(echo(request));
      await request.input.more();
      request.socket.destroy();
    },
  };
  for (const [when, answer] of Object.entries(abrupt)) {
    test(`an upstream that closes each of them unannounced, ${when}: one request after the other`, async () => {
      await between("native", await startRawUpstream(answer), async (host) => {
        for (let index = 0; index < TOTAL; index += 1) assert.deepEqual(await get(host, index), expected(index));
      });
    });

    test(`an upstream that closes each of them unannounced, ${when}: many at once`, async () => {
      await between("native", await startRawUpstream(answer), async (host) => {
        // The first wave leaves the gateway with as many connections as it will keep, none of them any good.
        for (let wave = 0; wave < 3; wave += 1) {
          const all = Array.from({ length: TOTAL }, (_, index) => index);
          assert.deepEqual(await Promise.all(all.map((index) => get(host, index))), all.map(expected));
        }
      });
    });
  }

  test("those that nobody needs any more are given up", async () => {
    const BURST = 50;
    const upstream = await burst(BURST);
    await between("native", upstream, async (host) => {
      await inTurns(async (through) => {
        await Promise.all(Array.from({ length: BURST }, () => through(host, "/burst")));
        assert.equal(upstream.open.size, BURST);
        // The gateway keeps them for 4 seconds.
        const deadline = Date.now() + 15_000;
        while (upstream.open.size > 8) {
          assert.ok(Date.now() < deadline, `${upstream.open.size} connections are still open`);
          await through(host, "/trickle");
          await sleep(50);
        }
      });
    });
  });

  test("a request that breaks its connection breaks not all of them", async () => {
    const upstream = await burst(20, ({ target, socket }) => target.startsWith("/deadly/") && socket.destroy());
    await between("native", upstream, async (host) => {
      await inTurns(async (through) => {
        await Promise.all(Array.from({ length: 20 }, () => through(host, "/burst")));
        // By every client, so that it comes to the thread that keeps the most connections.
        for (let client = 0; client < 20; client += 1) {
          assert.equal(await through(host, `/deadly/${client}`), 502);
          // Once on a connection that was kept, which might have been closed just then, and once on a new one.
          const attempts = upstream.requests.filter(({ target }) => target === `/deadly/${client}`).length;
          assert.ok(attempts <= 2, `${attempts} attempts`);
        }
      });
    });
  });
});

describe("settings", () => {
  test("native: a blank flag does not undo a variable", () =>
    serving("native", { args: ["serve", "--auth-provider", "", "--upstream-url", " "] }, async (host, upstream) => {
      const stranger = request({ target: "/v1/models", headers: [["Host", "127.0.0.1"]] });
      assert.equal((await ask(host.port, stranger)).status, 401);
      assert.deepEqual(upstream.take(), []);
      assert.equal((await ask(host.port, request({ target: "/v1/models", headers: [HOST, AUTHORIZATION] }))).status, 200);
      assert.equal(upstream.take().length, 1);
    }),
  );

  // A binding of the wrong kind under the name of a secret: what text it might be turned into must open nothing.
  const wrong = {
    "a JSON object": (name) => ({ settings: { [name]: { any: "object" } } }),
    "a JSON list": (name) => ({ settings: { [name]: [TOKEN] } }),
    "a service": (name) => ({ env: { [name]: service(() => new Response("no")) } }),
    "a namespace of Workers KV": (name) => ({ env: { [name]: namespace("other") } }),
  };
  for (const name of ["SERVER_AUTH_TOKEN", "ADMIN_TOKEN"]) {
    for (const [kind, binding] of Object.entries(wrong)) {
      test(`edge: ${name} is ${kind}`, async () => {
        const { settings, env } = binding(name);
        const token = name === "ADMIN_TOKEN" ? { WORKER_AUTH_TOKEN: TOKEN } : {};
        await withHost("edge", { settings: { AUTH_PROVIDER: "static", ...token, ...settings }, env }, async (host) => {
          for (const guess of ["[object]", "[object Object]", "[object Fetcher]", "[object KvNamespace]", "undefined", "null", TOKEN]) {
            const guessed = [HOST, ["Authorization", `Bearer ${name === "ADMIN_TOKEN" ? TOKEN : guess}`], ["X-Admin-Token", guess]];
            for (const [target, headers] of [["/v1/models", guessed], ["/admin", guessed], ["/health", [HOST]]]) {
              const answer = await ask(host.port, request({ target, headers }));
              assert.deepEqual([answer.status, JSON.parse(answer.body)], [500, { detail: "Authentication is misconfigured" }], `${guess} ${target}`);
            }
          }
        });
      });
    }
  }
});

describe("native: local by default, with a proxy on the same machine", () => {
  // In the file: one in the settings ends the default.
  const home = temporaryFolder();
  let host, upstream, stop;
  before(async () => {
    mkdirSync(path.join(home, "nodetool"), { mode: 0o700 });
    writeFile(path.join(home, "nodetool", "deployment.yaml"), `worker_auth_token: ${TOKEN}\n`);
    ({ host, upstream, stop } = await startServing("native", { settings: {}, home }));
  });
  after(async () => {
    await stop?.();
    rmSync(home, { recursive: true, force: true });
  });

  test("a program on this machine needs no token", async () => {
    assert.equal((await ask(host.port, request({ target: "/v1/models", headers: [["Host", `127.0.0.1:${host.port}`]] }))).status, 200);
    assert.equal(upstream.take().length, 1);
  });

  for (const local of ["127.0.0.1", "localhost", "[::1]"]) {
    test(`HTTP/1.0 with a Host of ${local} needs one`, async () => {
      const lines = `GET /v1/models HTTP/1.0\r\nHost: ${local}:${host.port}\r\nConnection: close\r\n`;
      assert.equal((await ask(host.port, `${lines}\r\n`)).status, 401);
      assert.deepEqual(upstream.take(), []);
      assert.equal((await ask(host.port, `${lines}Authorization: Bearer ${TOKEN}\r\n\r\n`)).status, 200);
      assert.equal(upstream.take().length, 1);
    });
  }

  test("through nginx with nothing but proxy_pass one is needed", { skip: whyNotNginx() }, async () => {
    await withNginx(host.url, async (port) => {
      const lines = `GET /v1/models HTTP/1.1\r\nHost: public.example\r\nConnection: close\r\n`;
      assert.equal((await ask(port, `${lines}\r\n`)).status, 401);
      assert.deepEqual(upstream.take(), []);
      assert.equal((await ask(port, `${lines}Authorization: Bearer ${TOKEN}\r\n\r\n`)).status, 200);
    });
  });
});

/** Clients that keep their connections and take turns, so that each thread of the gateway has something to do. */
async function inTurns(body) {
  const agent = new http.Agent({ keepAlive: true, scheduling: "fifo", maxFreeSockets: 1000 });
  try {
    await body(async (host, target) => {
      const [response] = await once(http.get({ agent, port: host.port, host: "127.0.0.1", path: target, headers }), "response");
      for await (const _ of response);
      return response.statusCode;
    });
  } finally {
    agent.destroy();
  }
}
