// What only raw bytes can say. Whatever a parser makes of them: nothing that is not authorized gets a 2xx or reaches
// the upstream, nobody's identity is what a client says, and the host serves the next request as if nothing had been.
import assert from "node:assert/strict";
import test, { after, before, describe } from "node:test";

import { AUTHORIZATION, HOSTS, TOKEN } from "./support/hosts.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { startServing } from "./support/serving.mjs";

const AUTH = `Authorization: Bearer ${TOKEN}\r\n`;
const HOST = "Host: 127.0.0.1\r\n";
/** Lines of a request, without its end. */
const get = (target, headers = "", version = "HTTP/1.1") => `GET ${target} ${version}\r\n${HOST}${headers}\r\n`;
const post = (headers, body, target = "/v1/x") => `POST ${target} HTTP/1.1\r\n${HOST}${headers}\r\n${body}`;
/** What must never be seen upstream: hidden in what a careless parser takes for the end of another request. */
const SMUGGLED = get("/smuggled", AUTH);

const bytes = (from, to) => Array.from({ length: to - from }, (_, index) => String.fromCharCode(from + index));
const shown = (byte) => `0x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`;
const CONTROLS = [...bytes(0, 32), "\x7f"].filter((byte) => byte !== "\n" && byte !== "\r");

/** Some parsers take white space for the end of a target: then all of them must, the judge and the upstream. */
const WORD_ENDS = (byte) => (byte === "\t" || byte === " " ? { cutTo: "GET /health" } : {});

/** Without a good credential: never a 2xx, never upstream. */
const unauthorized = [
  ...CONTROLS.map((byte) => [`${shown(byte)} in the path`, get(`/health${byte}`), WORD_ENDS(byte)]),
  ...CONTROLS.map((byte) => [`${shown(byte)} before a public path`, get(`${byte}/health`), WORD_ENDS(byte)]),
  ...["\x80", "\xff", "\xc0\xaf", "\xe2\x80\x8b"].map((text) => [`bytes outside ASCII after a public path: ${Buffer.from(text, "latin1").toString("hex")}`, get(`/health${text}`)]),
  ["a space in the path", get("/health /../admin"), WORD_ENDS(" ")],
  ["a backslash after a public path", get("/health\\..\\admin")],
  ["a fragment after a public path", get("/health#/../admin"), { cutTo: "GET /health" }],
  ["bare CR in a public path", get("/health\r/admin")],
  ...CONTROLS.map((byte) => [`${shown(byte)} inside the token`, get("/v1/models", `Authorization: Bearer ${TOKEN.slice(0, 8)}${byte}${TOKEN.slice(8)}\r\n`)]),
  ["NUL after the token", get("/v1/models", `Authorization: Bearer ${TOKEN}\0\r\n`)],
  ["NUL and more after the token", get("/v1/models", `Authorization: Bearer ${TOKEN}\0x\r\n`)],
  ["vertical tab for a space", get("/v1/models", `Authorization: Bearer\v${TOKEN}\r\n`)],
  ["a name that ends with NUL", get("/v1/models", `Authorization\0: Bearer ${TOKEN}\r\n`)],
  ["a name that only begins right", get("/v1/models", `Authorization-: Bearer ${TOKEN}\r\n`)],
  ["a header without a colon", get("/v1/models", `Authorization Bearer ${TOKEN}\r\n`)],
  ["a folded line that hides a second credential", get("/v1/models", `Authorization: Bearer wrong,\r\n Bearer ${TOKEN}\r\n`)],
  ["a credential folded into another header", get("/v1/models", `X-Custom: a\r\n Authorization: Bearer ${TOKEN}\r\n`)],
  ["a credential before the first header", `GET /v1/models HTTP/1.1\r\n Authorization: Bearer ${TOKEN}\r\n${HOST}\r\n`],
  ["a credential in the trailers", post("Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", `1\r\nx\r\n0\r\n${AUTH}\r\n`)],
  ["a credential in the body", post(`Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a credential after the end of the headers", `${get("/v1/models")}${AUTH}\r\n`],
  ["two Host headers", get("/v1/models", "Host: localhost\r\n")],
  ["no Host", "GET /v1/models HTTP/1.1\r\n\r\n"],
  ["HTTP/1.0", get("/v1/models", "", "HTTP/1.0")],
  ["HTTP/1.0 without Host", "GET /v1/models HTTP/1.0\r\n\r\n"],
  ["HTTP/0.9", "GET /v1/models\r\n", { end: true }],
  ["HTTP/1.2", get("/v1/models", "", "HTTP/1.2")],
  ["HTTP/2.0 on a line", get("/v1/models", "", "HTTP/2.0")],
  ["no version number", get("/v1/models", "", "HTTP/")],
  ["an absolute target", get("http://127.0.0.1/v1/models")],
  ["an absolute target of another host", get("http://evil.example/v1/models")],
  ["an absolute target with user and password", get(`http://user:${TOKEN}@127.0.0.1/v1/models`)],
  ["an absolute target with a public path below it", get("http://127.0.0.1/v1/models?/health")],
  ["an absolute target without a path, public host", get("http://health")],
  ["an odd scheme", get("file:///health")],
  ["no target", "GET  HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a target without a slash", get("health")],
  ["a query for a target", get("?/health")],
  ["OPTIONS *", `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`],
  ["CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"],
  ["CONNECT to a public path", `CONNECT /health HTTP/1.1\r\n${HOST}\r\n`],
  ["TRACE", `TRACE /v1/models HTTP/1.1\r\n${HOST}\r\n`],
  ["a method in lower case", `get /health HTTP/1.1\r\n${HOST}\r\n`],
  ["a method that is none", `G@T /health HTTP/1.1\r\n${HOST}\r\n`],
  ["a very long path", get(`/${"x".repeat(200_000)}`)],
  ["a very long query of a protected path", get(`/v1/models?${"x".repeat(200_000)}`)],
  ["a very long header", get("/v1/models", `X-Long: ${"x".repeat(300_000)}\r\n`)],
  ["a very long token", get("/v1/models", `Authorization: Bearer ${"x".repeat(50_000)}\r\n`)],
  ["ten thousand headers", get("/v1/models", "X: y\r\n".repeat(10_000))],
  ["ten thousand names in Connection", get("/v1/models", `Connection: ${"x-user-id,".repeat(5_000)}\r\n`)],
  ["Connection names everything", get("/v1/models", "Connection: close, x-user-id, x-auth-token-type, x-auth-role, authorization, host\r\nX-User-Id: 1\r\n")],
  ["a fake upgrade", get("/v1/models", "Connection: Upgrade\r\nUpgrade: websocket\r\n")],
  ["an upgrade of a public path", get("/health", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")],
  ["an upgrade to h2c", get("/v1/models", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")],
  ["Expect without the body", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "")],
  ["an unknown Expect", post("Expect: the-unexpected\r\nContent-Length: 0\r\n", "")],
  ["bare LF for line ends", `GET /v1/models HTTP/1.1\nHost: x\nX-User-Id: 1\n\n`],
  ["nothing but garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", { end: true }],
  ["an endless request line", "x".repeat(500_000), { end: true }],
];

/** Ways to hide a second request in a first one that is authorized. The first may pass; the second never. */
const LIE = (headers, body) => post(`${AUTH}${headers}`, body);
const smuggling = [
  ["Content-Length and Transfer-Encoding", LIE(`Content-Length: ${5 + SMUGGLED.length}\r\nTransfer-Encoding: chunked\r\n`, `0\r\n\r\n${SMUGGLED}`), { secondIsOurs: true }],
  ["Transfer-Encoding and Content-Length", LIE(`Transfer-Encoding: chunked\r\nContent-Length: 4\r\n`, `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
  ["two different lengths", LIE(`Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["two lengths, the long one first", LIE(`Content-Length: ${SMUGGLED.length}\r\nContent-Length: 0\r\n`, SMUGGLED)],
  ["a list of lengths", LIE(`Content-Length: 0, ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a signed length", LIE(`Content-Length: +${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a length in hexadecimal", LIE(`Content-Length: 0x${SMUGGLED.length.toString(16)}\r\n`, SMUGGLED)],
  ["a negative length", LIE("Content-Length: -1\r\n", SMUGGLED)],
  ["a space before the colon", LIE(`Content-Length : ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a coding that is not the last", LIE("Transfer-Encoding: chunked, identity\r\n", `0\r\n\r\n${SMUGGLED}`)],
  ["a coding twice", LIE("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
  ["an unknown coding", LIE(`Transfer-Encoding: xchunked\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a coding after a vertical tab", LIE(`Transfer-Encoding: \vchunked\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a coding with a space before the colon", LIE(`Transfer-Encoding : chunked\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a folded coding", LIE(`Transfer-Encoding:\r\n chunked\r\nContent-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)],
  ["a chunk size that is none", LIE("Transfer-Encoding: chunked\r\n", `zz\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
  ["a chunk size beyond 64 bits", LIE("Transfer-Encoding: chunked\r\n", `10000000000000000\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
  ["a negative chunk size", LIE("Transfer-Encoding: chunked\r\n", `-1\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
  ["a chunk without its line end", LIE("Transfer-Encoding: chunked\r\n", `1\r\nxx${SMUGGLED}\r\n0\r\n\r\n`)],
  ["HTTP/1.0 with a coding", `POST /v1/x HTTP/1.0\r\n${HOST}${AUTH}Transfer-Encoding: chunked\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`],
  ["a second request in a header", get("/v1/x", `${AUTH}X-Custom: a\r\n\tGET /smuggled HTTP/1.1\r\n`)],
  ["a refused request with a body", `${post(`Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED)}${get("/v1/y", AUTH)}`, { count: 2 }],
  ["a GET with a body", `GET /v1/x HTTP/1.1\r\n${HOST}${AUTH}Content-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`],
];

/** Authorized, but with somebody else's identity written in odd ways. */
const spoofing = [
  ["an identity in the trailers", LIE("Transfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n", "1\r\nx\r\n0\r\nX-User-Id: root\r\nX-Auth-Role: admin\r\n\r\n")],
  ["a folded identity", get("/v1/x", `${AUTH}X-User-Id:\r\n root\r\n`)],
  ["an identity folded into another header", get("/v1/x", `${AUTH}X-Custom: a\r\n X-User-Id: root\r\n`)],
  ["an identity after a bare CR", get("/v1/x", `${AUTH}X-Custom: a\rX-User-Id: root\r\n`)],
  ["an identity after a bare LF", get("/v1/x", `${AUTH}X-Custom: a\nX-User-Id: root\r\n`)],
  ["an identity after a NUL", get("/v1/x", `${AUTH}X-Custom: a\0X-User-Id: root\r\n`)],
  ["a name that ends with a space", get("/v1/x", `${AUTH}X-User-Id : root\r\n`)],
  ["a name that ends with a tab", get("/v1/x", `${AUTH}X-User-Id\t: root\r\n`)],
  ["a name with a NUL", get("/v1/x", `${AUTH}X-User-Id\0: root\r\n`)],
  ["a name that begins with a space", get("/v1/x", `${AUTH} X-User-Id: root\r\n`)],
  ["an identity among ten names of Connection", get("/v1/x", `${AUTH}X-User-Id: root\r\nConnection: a, b, c, x-user-id, X-USER-ID, x_user_id, authorization, x-auth-token-type, x-auth-role, close\r\n`)],
  ["an identity that is empty", get("/v1/x", `${AUTH}X-User-Id:\r\nX-Auth-Role:\r\n`)],
  ["a hundred identities", get("/v1/x", `${AUTH}${"X-User-Id: root\r\nx_user_id: root\r\n".repeat(50)}`)],
];

for (const name of HOSTS) {
  describe(name, () => {
    let host, upstream, stop;
    before(async () => ({ host, upstream, stop } = await startServing(name)));
    after(() => stop?.());

    /** The host is as it was: the next request gets its own answer. */
    async function stillServes() {
      upstream.take();
      const answer = await ask(host.port, request({ target: "/v1/models", headers: [["Host", "x"], AUTHORIZATION] }));
      assert.equal(answer.status, 200, "the host still serves");
      // An upload that was broken off may reach the upstream only now.
      const targets = upstream.take().map(({ target }) => target);
      assert.ok(targets.includes("/v1/models") && !targets.includes("/smuggled"), `upstream saw ${targets}`);
    }

    const identityOf = ({ headers, trailers = [] }) =>
      [...headers, ...pairs(trailers)].filter(([header]) => /^x[-_](user[-_]id|auth[-_](token[-_]type|role))$/i.test(header.trim())).sort();

    for (const [title, payload, options = {}] of unauthorized) {
      test(`unauthorized: ${title}`, async () => {
        const { answers } = await exchange(host.port, payload, { drain: true, ...options });
        const received = upstream.take().map(({ method, target }) => `${method} ${target.slice(0, 60)}`);
        // A parser may cut a target short, if what is left is what is judged and what goes on.
        if (received.length === 0) {
          for (const { status } of answers) assert.ok(status >= 400 && status < 600, `answered ${status}`);
        } else {
          assert.deepEqual(received, [options.cutTo]);
        }
        await stillServes();
      });
    }

    for (const [title, payload, options = {}] of smuggling) {
      test(`smuggling: ${title}`, async () => {
        const { answers } = await exchange(host.port, payload, { drain: true, ...options });
        const targets = upstream.take().map(({ target }) => target);
        // By RFC 9112, section 6.3, a chunked body ends where its last chunk says, and a new request follows: with its own credential.
        if (!options.secondIsOurs) assert.ok(!targets.includes("/smuggled"), `upstream saw ${targets}`);
        assert.ok(answers.length <= 2 || options.secondIsOurs, `${answers.length} answers`);
        await stillServes();
      });
    }

    for (const [title, payload] of spoofing) {
      test(`spoofing: ${title}`, async () => {
        await exchange(host.port, payload, { drain: true });
        for (const received of upstream.take()) {
          await received.body;
          assert.deepEqual(identityOf(received), [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
        }
        await stillServes();
      });
    }

    test("pipelined requests are judged one by one", async () => {
      const [good, bad] = [get("/v1/good", AUTH), get("/v1/bad")];
      const { answers } = await exchange(host.port, good + bad + good + bad, { count: 4 });
      assert.deepEqual(answers.map(({ status }) => status), [200, 401, 200, 401]);
      assert.deepEqual(upstream.take().map(({ target }) => target), ["/v1/good", "/v1/good"]);
    });

    test("a credential does not outlive its request on a connection that is kept", async () => {
      const { answers } = await exchange(host.port, get("/v1/one", AUTH) + get("/v1/two") + get("/health"), { count: 3 });
      assert.deepEqual(answers.map(({ status }) => status), [200, 401, 200]);
      const received = upstream.take();
      assert.deepEqual(received.map(({ target }) => target), ["/v1/one", "/health"]);
      assert.deepEqual(identityOf(received[1]), [], "nobody vouches for the public request");
    });

    test("Expect: 100-continue brings the whole body to the upstream", async () => {
      const answer = await ask(host.port, LIE("Expect: 100-continue\r\nContent-Length: 5\r\n", "12345"));
      assert.equal(answer.status, 200);
      const [received] = upstream.take();
      assert.equal((await received.body).toString(), "12345");
      assert.ok(!received.headers.some(([header]) => header === "expect"));
    });

    test("an absolute target goes to the upstream and nowhere else", async () => {
      const { answers } = await exchange(host.port, get("http://evil.example/v1/models", AUTH));
      const received = upstream.take();
      if (answers[0]?.status === 200) {
        assert.deepEqual(received.map(({ target }) => target), ["/v1/models"]);
        assert.ok(!JSON.stringify(received[0].headers.filter(([header]) => header === "host")).includes("evil"));
      } else {
        assert.deepEqual(received, []);
      }
      await stillServes();
    });

    test("bytes outside ASCII are refused or go on as they are", async () => {
      await exchange(host.port, get("/v1/caf\xc3\xa9", AUTH));
      for (const { target } of upstream.take()) assert.ok(["/v1/caf\xc3\xa9", "/v1/caf%C3%A9"].includes(target), target);
      await stillServes();
    });
  });
}

describe("native, local by default", () => {
  let host, upstream, stop;
  before(async () => ({ host, upstream, stop } = await startServing("native", { settings: { ENV: "development" } })));
  after(() => stop?.());

  const foreign = [
    ["two Hosts, the first local", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"],
    ["two Hosts, the second local", "GET /v1/x HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n"],
    ["a local target with a foreign Host", "GET http://localhost/v1/x HTTP/1.1\r\nHost: evil.example\r\n\r\n"],
    ["a foreign target with a local Host", "GET http://evil.example/v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ["no Host in HTTP/1.0", "GET /v1/x HTTP/1.0\r\n\r\n"],
    ["an empty Host", "GET /v1/x HTTP/1.1\r\nHost:\r\n\r\n"],
    ["a Host with a user", "GET /v1/x HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n"],
    ["a Host with a list", "GET /v1/x HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n"],
    ["a folded Host", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n .evil.example\r\n\r\n"],
    ["a forwarded request", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-FORWARDED-for: 203.0.113.9\r\n\r\n"],
  ];
  for (const [title, payload] of foreign) {
    test(`opens nothing: ${title}`, async () => {
      const { answers } = await exchange(host.port, payload, { drain: true });
      for (const { status } of answers) assert.ok(status === 401 || status === 400, `answered ${status}`);
      assert.deepEqual(upstream.take(), []);
    });
  }

  test("opens for this machine", async () => {
    assert.equal((await ask(host.port, get("/v1/x"))).status, 200);
    assert.equal(upstream.take().length, 1);
  });
});

function pairs(flat) {
  const result = [];
  for (let at = 0; at + 1 < flat.length; at += 2) result.push([flat[at].toLowerCase(), flat[at + 1]]);
  return result;
}
