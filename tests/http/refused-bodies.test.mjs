// The body of a refused request: a short one is discarded and the connection serves the next request, a longer one ends the
// connection, which the response says.
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { after, before, describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { answerTo } from "./support/clients.mjs";
import { AUTHORIZATION, STATIC, TOKEN, temporaryFolder } from "./support/hosts.mjs";
import { runNginx, whyNoNginx } from "./support/nginx.mjs";
import { until } from "./support/process.mjs";
import { exchange, request } from "./support/raw.mjs";
import { startServing } from "./support/serving.mjs";
import { deadPort } from "./support/upstream.mjs";

const run = promisify(execFile);
const test = (title, options, body = options) => nodeTest(title, { timeout: 20_000, ...(body === options ? {} : options) }, body);
const PYTHON = process.env.NODETOOL_TEST_PYTHON;
const NO_JAVA = spawnSync("java", ["-version"]).error !== undefined && "Java is not installed";
const program = (name) => fileURLToPath(new URL(`../clients/${name}`, import.meta.url));

const KIB = 1024;
const SIZES = [3, 10_000, 100_000, 1_000_000];
const MOST = 64 * KIB;
const NEXT = request({ target: "/v1/models", headers: [["Host", "x"], AUTHORIZATION] });

/** Why a request with a body gets no further than the gateway, and what it is told. */
const REFUSALS = [
  ["no token", "POST /v1/chat", "", 401],
  ["a wrong token", "POST /v1/chat", "Authorization: Bearer wrong\r\n", 401],
  ["a malformed path", "POST /%00", "", 400],
  ["a terminal that is not served", "POST /terminal", `${AUTHORIZATION.join(": ")}\r\n`, 404],
  ["a method that the gateway does not answer", "POST /.auth/whoami", `${AUTHORIZATION.join(": ")}\r\n`, 405],
];

const head = (line, headers) => `${line} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
const chunked = (size, of = size) => {
  const sizes = Array.from({ length: Math.ceil(size / of) }, (_, index) => Math.min(of, size - index * of));
  return Buffer.concat([...sizes.map((length) => Buffer.from(`${length.toString(16)}\r\n${"x".repeat(length)}\r\n`)), Buffer.from("0\r\n\r\n")]);
};
/** The header that frames a body, and the body. */
const framings = (size) => [
  ["a length", `Content-Length: ${size}\r\n`, Buffer.alloc(size, "x")],
  ["chunks", "Transfer-Encoding: chunked\r\n", chunked(size, 5000)],
];

describe("native", () => {
  let host, upstream, stop;
  before(async () => ({ host, upstream, stop } = await startServing("native", { settings: STATIC })));
  after(() => stop?.());

  /** Sends pieces, a moment apart, and says what the answers were before the host closed the connection, if it did. */
  async function send(pieces, count, pause = 30) {
    const socket = net.connect({ port: host.port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    let text = "";
    let isEnded = false;
    socket.on("error", () => {}).on("data", (chunk) => (text += chunk.toString("latin1"))).on("end", () => (isEnded = true));
    const statuses = () => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status)).filter((status) => status >= 200);
    for (const piece of pieces) {
      if (typeof piece === "function") await until(() => isEnded || piece(text));
      else socket.write(piece);
      await sleep(pause);
    }
    await until(() => isEnded || statuses().length >= count);
    socket.destroy();
    return { statuses: statuses(), isEnded, text };
  }
  const closes = (text) => /^connection: close\r$/im.test(text);

  for (const [why, line, headers, status] of REFUSALS) {
    test(`${why}: up to 64 KB are discarded, in one packet or two`, async () => {
      for (const size of [1, 3, 10_000, MOST]) {
        for (const [framing, header, body] of framings(size)) {
          const start = head(line, headers + header);
          for (const pieces of [[Buffer.concat([Buffer.from(start), body, NEXT])], [start, body, NEXT], [Buffer.concat([Buffer.from(start), body.subarray(0, 1)]), Buffer.concat([body.subarray(1), NEXT])]]) {
            const { statuses, text } = await send(pieces, 2);
            assert.deepEqual([statuses, closes(text)], [[status, 200], false], `${size} bytes by ${framing}: ${text}`);
          }
        }
      }
    });

    test(`${why}: more ends the connection, and the response says so`, async () => {
      for (const size of [MOST + 1, 1_000_000]) {
        for (const [framing, header, body] of framings(size)) {
          const { statuses, text, isEnded } = await send([head(line, headers + header), body, NEXT], 2);
          assert.deepEqual([statuses, closes(text), isEnded], [[status], true, true], `${size} bytes by ${framing}: ${text}`);
        }
      }
    });
  }

  test("a body that comes slowly is discarded all the same", async () => {
    for (const [framing, header, body] of framings(9)) {
      const parts = Array.from({ length: body.length }, (_, at) => body.subarray(at, at + 1));
      const { statuses } = await send([head("POST /v1/chat", header), ...parts, NEXT], 2);
      assert.deepEqual(statuses, [401, 200], framing);
    }
  });

  test("a body that never comes holds its connection for some seconds", async () => {
    for (const [header, part] of [["Content-Length: 10\r\n", "x"], ["Transfer-Encoding: chunked\r\n", "1\r\nx\r\n"], ["Expect: 100-continue\r\nContent-Length: 10\r\n", ""]]) {
      const began = Date.now();
      const { statuses, isEnded } = await send([head("POST /v1/chat", header), part], 2);
      assert.deepEqual([statuses, isEnded], [[401], true], header);
      assert.ok(Date.now() - began < 9000, header);
    }
  });

  test("Expect: a short body is asked for, so that the next request is none of its bytes; a long one is not", async () => {
    for (const [, header, body] of framings(1000)) {
      const asked = await send([head("POST /v1/chat", `Expect: 100-continue\r\n${header}`), (text) => text !== "", body, NEXT], 2);
      assert.match(asked.text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 401 /);
      assert.deepEqual([asked.statuses, closes(asked.text)], [[401, 200], false]);
    }
    const refused = await send([head("POST /v1/chat", "Expect: 100-continue\r\nContent-Length: 1000000\r\n")], 2);
    assert.match(refused.text, /^HTTP\/1\.1 401 /);
    assert.deepEqual([refused.statuses, closes(refused.text), refused.isEnded], [[401], true, true]);
  });

  test("an upstream that cannot be reached costs no connection either", async () => {
    const alone = await startServing("native", { settings: { ...STATIC, UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` } });
    try {
      const bytes = request({ method: "POST", target: "/v1/chat", headers: [["Host", "x"], AUTHORIZATION], body: "x".repeat(10_000) });
      const { answers } = await exchange(alone.host.port, Buffer.concat([bytes, bytes]), { count: 2 });
      assert.deepEqual(answers.map(({ status }) => status), [502, 502]);
    } finally {
      await alone.stop();
    }
  });

  test("framing that servers read differently is refused, and ends the connection where it is not understood", async () => {
    const hello = "5\r\nhello\r\n0\r\n\r\n";
    for (const codings of ["gzip, chunked", "chunked, chunked", "identity, chunked", "chunked\r\nTransfer-Encoding: chunked", "gzip", "gzip\r\nTransfer-Encoding: chunked", ", chunked", "chunked;a=b"]) {
      upstream.take();
      const { answers } = await exchange(host.port, `${head("POST /v1/chat", `${AUTHORIZATION.join(": ")}\r\nTransfer-Encoding: ${codings}\r\n`)}${hello}`);
      assert.equal(answers[0]?.status, 400, codings);
      assert.deepEqual(upstream.take(), [], codings);
    }
    const { answers } = await exchange(host.port, `${head("POST /v1/chat", `${AUTHORIZATION.join(": ")}\r\nTransfer-Encoding: Chunked\r\n`)}${hello}`);
    assert.equal(answers[0].status, 200);
    const old = await exchange(host.port, `POST /v1/chat HTTP/1.0\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\nTransfer-Encoding: chunked\r\n\r\n${hello}`);
    assert.equal(old.answers[0].status, 400);
  });

  /** All posts of a program were refused, and all requests after them served. */
  function allServed(lines) {
    const told = lines.map((line) => (typeof line === "string" ? JSON.parse(line) : line));
    assert.ok(told.length > 0);
    const lost = told.filter(({ refused, served }) => refused !== 401 || served !== 200);
    assert.deepEqual(lost, [], `${lost.length} of ${told.length}`);
  }
  const output = async (command, ...args) => (await run(command, args, { env: { ...process.env, NO_PROXY: "127.0.0.1" } })).stdout.trim().split("\n");

  describe("a client that is refused loses none of its requests", () => {
    for (const kind of ["http.client", "requests", "httpx"]) {
      test(`Python: ${kind}`, { skip: !PYTHON && "NODETOOL_TEST_PYTHON is not set" }, async () => {
        allServed(await output(PYTHON, program("refused_bodies.py"), host.url, TOKEN, kind));
      });
    }

    test("Java", { skip: NO_JAVA }, async () => {
      allServed(await output("java", "-XX:TieredStopAtLevel=1", program("RefusedBodies.java"), host.url, TOKEN));
    });

    /** Posts bodies of all sizes without a token, each followed by a request with one. */
    async function inTurn(ask) {
      const lines = [];
      const told = (...args) => ask(...args).catch((error) => error.cause?.code ?? error.code ?? String(error));
      for (const size of SIZES) {
        for (const framing of ["length", "chunked"]) {
          for (let round = 0; round < 5; round += 1) {
            const refused = await told("POST", "/v1/chat", {}, Buffer.alloc(size, "x"), framing === "chunked");
            lines.push({ size, framing, refused, served: await told("GET", "/v1/models", Object.fromEntries([AUTHORIZATION])) });
          }
        }
      }
      return lines;
    }

    test("Node: http.Agent", async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ask = async (method, path, headers, body, isChunked) => {
        const outgoing = http.request({ port: host.port, host: "127.0.0.1", agent, method, path, headers: { ...headers, ...(body && !isChunked ? { "Content-Length": body.length } : {}) } });
        const answer = answerTo(outgoing);
        if (isChunked) outgoing.flushHeaders();
        outgoing.end(body);
        return (await answer).status;
      };
      allServed(await inTurn(ask));
      agent.destroy();
    });

    test("undici", async () => {
      const { Agent, request: send } = await import("undici");
      const dispatcher = new Agent({ connections: 1 });
      const ask = async (method, path, headers, body, isChunked) => {
        const pieces = isChunked ? (async function* () {
          yield body;
        })() : body;
        const answer = await send(`${host.url}${path}`, { dispatcher, method, headers, body: pieces });
        await answer.body.dump();
        return answer.statusCode;
      };
      allServed(await inTurn(ask));
      await dispatcher.destroy();
    });

    test("Node: fetch", async () => {
      const ask = async (method, path, headers, body, isChunked) => {
        const answer = await fetch(`${host.url}${path}`, { method, headers, body: isChunked ? new Blob([body]).stream() : body, duplex: "half" });
        await answer.arrayBuffer();
        return answer.status;
      };
      allServed(await inTurn(ask));
    });

    test("curl", async () => {
      const folder = temporaryFolder();
      for (const size of SIZES) {
        for (const expect of ["", "100-continue"]) {
          const file = `${folder}/body`;
          await run("sh", ["-c", `head -c ${size} /dev/zero > ${file}`]);
          const post = ["-s", "-o", "/dev/null", "-w", "%{http_code}\n", "--noproxy", "*", "-m", "10", "-H", `Expect: ${expect}`, "--data-binary", `@${file}`, `${host.url}/v1/chat`];
          const next = ["--next", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "--noproxy", "*", "-m", "10", "-H", AUTHORIZATION.join(": "), `${host.url}/v1/models`];
          assert.deepEqual(await output("curl", ...post, ...next), ["401", "200"], `${size} ${expect}`);
        }
      }
    });
  });

  test("valid users behind nginx with kept connections get no 502 when others are refused", { skip: whyNoNginx(), timeout: 120_000 }, async () => {
    const port = await deadPort();
    const config = `upstream gateway { server 127.0.0.1:${host.port}; keepalive 8; }
      server { listen 127.0.0.1:${port}; client_max_body_size 10m; location / { proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_next_upstream off; proxy_request_buffering off; } }`;
    await runNginx(config, port, async () => {
      const agents = { refused: new http.Agent({ keepAlive: true }), served: new http.Agent({ keepAlive: true }) };
      const ask = async (method, headers, body) => {
        const agent = headers.Authorization ? agents.served : agents.refused;
        const outgoing = http.request({ port, host: "127.0.0.1", agent, method, path: "/v1/chat", headers });
        const answer = answerTo(outgoing);
        outgoing.end(body);
        return (await answer).status;
      };
      const counts = { refused: {}, served: {} };
      const count = (kind, status) => (counts[kind][status] = (counts[kind][status] ?? 0) + 1);
      const stopAt = Date.now() + 4000;
      const repeat = async (once) => {
        while (Date.now() < stopAt) await once();
      };
      const bodies = SIZES.map((size) => Buffer.alloc(size, "x"));
      await Promise.all([
        // nginx itself closes on its client in the middle of a body that it need not read.
        ...bodies.flatMap((body) => [1, 2].map(() => repeat(async () => count("refused", await ask("POST", {}, body).catch(({ code }) => (body.length > MOST ? code : Promise.reject(code))))))),
        ...Array.from({ length: 4 }, () => repeat(async () => count("served", await ask("GET", Object.fromEntries([AUTHORIZATION]))))),
        ...Array.from({ length: 4 }, () => repeat(async () => count("served", await ask("POST", Object.fromEntries([AUTHORIZATION]), bodies[1])))),
      ]);
      Object.values(agents).forEach((agent) => agent.destroy());
      assert.deepEqual(Object.keys(counts.served), ["200"], JSON.stringify(counts));
      assert.deepEqual(Object.keys(counts.refused).filter((status) => !["401", "ECONNRESET", "EPIPE"].includes(status)), [], JSON.stringify(counts));
      assert.ok(counts.refused[401] > 100, JSON.stringify(counts));
      assert.ok(counts.served[200] > 100, JSON.stringify(counts));
    });
  });
});
