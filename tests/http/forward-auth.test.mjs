// Forward-auth: real proxies, with the files of `examples`, serve an API and ask the gateway who may use it.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { carriesMessages, hearsEachEvent } from "./support/clients.mjs";
import { INVALID, NO_ADMIN_TOKEN, NO_CREDENTIAL, UNAVAILABLE, checkRefusal } from "./support/gateway.mjs";
import { AUTHORIZATION, HOSTS, STATIC, startHost, startNative } from "./support/hosts.mjs";
import { PROXIES, startProxy, whyNoProxy } from "./support/proxies.mjs";
import { WEBSOCKET, ask, exchange, request } from "./support/raw.mjs";
import { listen } from "./support/servers.mjs";
import { blocks, deadPort, digestOf, startUpstream } from "./support/upstream.mjs";
import { secret } from "./support/transcripts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

const ADMIN_TOKEN = "admin-token-0123456789-abcdefgh";
secret("the admin token of forward-auth", ADMIN_TOKEN);
const HOST = ["Host", "api.example.com"];
const PREFLIGHT = [["Origin", "https://app.example"], ["Access-Control-Request-Method", "POST"]];
const DESCRIPTION = ["X-Forwarded-Method", "X-Forwarded-Uri", "X-Original-Method", "X-Original-URI"];

/** A name in every mixture of "-" and "_". */
function spellings(name) {
  return name.split("-").reduce((made, part) => (made.length === 0 ? [part] : made.flatMap((start) => [`${start}-${part}`, `${start}_${part}`])), []);
}
/** A name with each other sign that a name may have (RFC 9110, section 5.6.2): CGI makes "_" of all of them. */
const OTHER_SIGNS = [..."!#$%&'*+.^`|~"];
const oddSpellings = (name) => OTHER_SIGNS.map((sign) => name.replace("-", sign)).concat(name.replaceAll("-", "."));
const IDENTITY = ["x-user-id", "x-auth-token-type", "X-Auth-Role"];
const FORGED = IDENTITY.flatMap(spellings).flatMap((name) => [[name, "root"], [name.toUpperCase(), "root"]]);
const FORGED_ODDLY = IDENTITY.flatMap(oddSpellings).map((name) => [name, "root"]);

/** Headers by which content networks and proxies name the client. */
const CLIENTS = ["CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "Proxy-Client-IP", "True-Client-IP", "WL-Proxy-Client-IP", "X-Appengine-User-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-Client-IP", "X-Cluster-Client-IP", "X-Envoy-External-Address", "X-Original-Forwarded-For", "X-Real-IP", "X-Remote-Addr", "X-Remote-IP", "Forwarded", "X-Forwarded-For"];

const identityOf = ({ headers }) => headers.filter(([name]) => /^x[^a-z](user|auth)/.test(name)).sort();
const OURS = [["x-auth-token-type", "static"], ["x-user-id", "1"]];

for (const name of PROXIES) {
  describe(`forward-auth by ${name}`, { skip: whyNoProxy(name) }, () => {
    for (const gateway of HOSTS) describe(`with the gateway ${gateway}`, () => judged(name, gateway));
    describe("whatever the gateway says", () => asked(name));

    test("failures count for the client that the proxy names", async () => {
      const upstream = await startUpstream();
      // nginx asks once more for the words of a refusal.
      const limit = name === "nginx" ? "4" : "2";
      const host = await startNative({ settings: { ...STATIC, AUTH_FAILURE_LIMIT: limit, AUTH_TRUSTED_PROXIES: "127.0.0.1" } });
      const proxy = await startProxy(name, { gateway: host.port, api: upstream.port });
      try {
        const failing = async (localAddress) => {
          const sent = http.request({ port: proxy.port, host: "127.0.0.1", localAddress, path: "/v1", agent: false, headers: { authorization: "Bearer wrong", "x-forwarded-for": "192.0.2.1" } }).end();
          const [response] = await once(sent, "response");
          return [response.statusCode, /Too many/.test((await response.toArray()).join(""))];
        };
        const all = [];
        for (const address of ["127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3"]) all.push(await failing(address));
        assert.deepEqual(all, [[401, false], [401, false], [401, true], [401, false]]);
        assert.deepEqual(upstream.take(), []);
      } finally {
        await proxy.stop();
        await host.stop();
        await upstream.stop();
      }
    });
  });
}

function judged(name, gateway) {
  let upstream, host, proxy;
  before(async () => {
    upstream = await startUpstream();
    host = await startHost(gateway, { settings: { ...STATIC, ADMIN_TOKEN, AUTH_VERIFY_OPEN: "1" } });
    proxy = await startProxy(name, { gateway: host.port, api: upstream.port });
  });
  after(async () => {
    await proxy?.stop();
    await host?.stop();
    await upstream?.stop();
  });

  /** The answer, and what reached the API. */
  async function send({ headers = [], ...rest }, options) {
    upstream.take();
    const answer = await ask(proxy.port, request({ headers: [HOST, ...headers], ...rest }), { head: rest.method === "HEAD", ...options });
    return { answer, status: answer.status, received: upstream.take() };
  }
  async function refused(sent, refusal) {
    const { answer, received } = await send(sent);
    assert.deepEqual(received, [], "nothing reaches the API");
    checkRefusal(answer, refusal);
  }
  const noted = (received) => received.map(({ method, target }) => `${method} ${target}`);

  test("a good token passes, with its identity", async () => {
    const { status, received } = await send({ target: "/v1/models?a=%2Fb", headers: [AUTHORIZATION] });
    assert.equal(status, 200);
    assert.deepEqual(noted(received), ["GET /v1/models?a=%2Fb"]);
    assert.deepEqual(identityOf(received[0]), OURS);
  });

  test("without one it is refused in the gateway's own words", async () => {
    const malformed = { status: 401, detail: "Invalid authorization header format. Use 'Authorization: Bearer YOUR_TOKEN'", challenge: 'Bearer error="invalid_request"' };
    for (const method of ["GET", "POST", "DELETE"]) {
      const body = method === "POST" ? "{}" : undefined;
      await refused({ method, target: "/v1/models", body }, NO_CREDENTIAL);
      await refused({ method, target: "/v1/models", body, headers: [["Authorization", "Bearer wrong"]] }, INVALID);
      await refused({ method, target: "/v1/models", body, headers: [["Authorization", "Basic eDp5"]] }, malformed);
    }
    const head = await send({ method: "HEAD", target: "/v1/models" });
    assert.deepEqual([head.status, head.answer.header("www-authenticate"), head.received], [401, "Bearer", []]);
    const twice = await send({ target: "/v1/models", headers: [["Authorization", "Bearer wrong"], AUTHORIZATION] });
    assert.ok([400, 401].includes(twice.status), `${twice.status}`);
    assert.deepEqual(twice.received, []);
  });

  test("an upload is refused before it ends", async () => {
    const sent = [`PUT /sink HTTP/1.1`, "Host: api.example.com", "Content-Length: 100000000", "", "the first of many bytes"].join("\r\n");
    checkRefusal(await ask(proxy.port, sent), NO_CREDENTIAL);
    assert.deepEqual(upstream.take(), []);
  });

  test("public paths are for everybody, who is nobody there", async () => {
    for (const [method, target] of [["GET", "/health"], ["HEAD", "/ping"], ["GET", "/health?x=1"]]) {
      const { status, received } = await send({ method, target, headers: [AUTHORIZATION] });
      assert.deepEqual([status, noted(received)], [200, [`${method} ${target}`]]);
      assert.deepEqual(identityOf(received[0]), []);
    }
    await refused({ method: "POST", target: "/health", body: "{}" }, NO_CREDENTIAL);
  });

  test("an identity of the client's own saying never arrives", async () => {
    for (const headers of [FORGED, ...FORGED.map((forged) => [forged]), [...FORGED, ["Connection", "x-user-id, x-auth-token-type"]], [["Connection", "close, X-User-Id"]]]) {
      const told = JSON.stringify(headers.at(-1));
      for (const [sent, expected] of [[{ target: "/health" }, []], [{ target: "/v1/models", headers: [AUTHORIZATION] }, OURS], [{ method: "OPTIONS", target: "/v1/models", headers: PREFLIGHT }, []]]) {
        const { status, received } = await send({ ...sent, headers: [...(sent.headers ?? []), ...headers] });
        assert.equal(status, 200, told);
        assert.deepEqual(identityOf(received[0]), expected, told);
        assert.ok(!JSON.stringify(received[0].headers).includes("root"), told);
      }
    }
    // In several requests: nginx bounds what a head may hold.
    for (const headers of FORGED_ODDLY.map((forged) => [forged])) {
      const { status, received } = await send({ target: "/v1/models", headers: [AUTHORIZATION, ...headers] });
      // Not every proxy takes such a name.
      if (status !== 400) assert.deepEqual([status, ...identityOf(received[0])], [200, ...OURS], JSON.stringify(headers));
    }
    const stripped = await send({ target: "/v1/models", headers: [AUTHORIZATION, ["X-Admin-Token", "x"], ["X_Admin_Token", "x"]] });
    assert.deepEqual(stripped.received[0].headers.filter(([header]) => header.includes("admin")), []);
  });

  test("what the client says that it asks for changes nothing", async () => {
    const saying = (method, uri) => [["X-Forwarded-Method", method], ["X-Forwarded-Uri", uri], ["X-Original-Method", method], ["X-Original-URI", uri]];
    const lies = [...saying("GET", "/health").map((one) => [one]), saying("GET", "/health"), saying("GET", "/health").slice(0, 2), saying("GET", "/health").slice(2), saying("OPTIONS", "/"), [...saying("GET", "/health"), ...saying("GET", "/health")], saying("GET", "/health").map(([header, value]) => [header.replaceAll("-", "_"), value])];
    for (const lie of lies) {
      await refused({ target: "/v1/models", headers: lie }, NO_CREDENTIAL);
      await refused({ method: "OPTIONS", target: "/v1/models", headers: lie }, NO_CREDENTIAL);
      await refused({ target: "/admin", headers: [AUTHORIZATION, ...lie] }, NO_ADMIN_TOKEN);
    }
    for (const truth of saying("GET", "/admin").map((one) => [one]).concat([saying("GET", "/admin")])) {
      const { status, received } = await send({ target: "/v1/models", headers: [AUTHORIZATION, ...truth] });
      assert.equal(status, 200, JSON.stringify(truth));
      const descriptions = received[0].headers.filter(([header]) => DESCRIPTION.some((known) => known.toLowerCase() === header.replaceAll("_", "-")));
      assert.deepEqual(descriptions, [], "the API hears nothing of it");
    }
    const others = [["Forwarded", "for=6.6.6.6"], ["X-Forwarded-For", "6.6.6.6"], ["X-Forwarded-Host", "admin.example"], ["X-Forwarded-Port", "6666"], ["X-Forwarded-Prefix", "/admin"], ["X-Real-IP", "6.6.6.6"], ["X-Original-URL", "/admin"], ["X-Rewrite-URL", "/admin"], ["X-HTTP-Method", "DELETE"], ["X-HTTP-Method-Override", "DELETE"], ["X-Method-Override", "DELETE"]];
    const all = [...others, ...others.map(([header, value]) => [header.replaceAll("-", "_"), value])];
    for (const sent of [{ target: "/health" }, { target: "/v1/models", headers: [AUTHORIZATION] }]) {
      const { status, received } = await send({ ...sent, headers: [...(sent.headers ?? []), ...all] });
      assert.equal(status, 200);
      assert.deepEqual(received[0].headers.filter(([, value]) => /admin|DELETE|6\.6|6666/.test(value)), [], "nor of another path, client or method");
    }
  });

  test("the API hears of no other client than the one that connected", async () => {
    // In two parts: HAProxy takes at most 101 headers.
    const named = [CLIENTS.flatMap((header) => spellings(header).slice(0, 1)), CLIENTS.flatMap((header) => spellings(header).slice(1))];
    for (const names of named) {
      const headers = [AUTHORIZATION, ...names.map((header) => [header, "203.0.113.66"])];
      const { status, received } = await send({ target: "/v1/models", headers });
      assert.equal(status, 200);
      assert.deepEqual(received[0].headers.filter(([, value]) => value.includes("203.0.113.66")), []);
      assert.equal(received[0].headers.find(([header]) => header === "x-forwarded-for")?.[1], "127.0.0.1");
    }
  });

  test("no spelling leads to /admin without its token", async () => {
    const tricks = ["/admin", "//admin", "/ADMIN/x", "/v1/../admin", "/v1/%2e%2e/admin", "/health/../admin", "/health%2f..%2fadmin", "/admin;x", "/admin%2fx", "/%61dmin", "/%2561dmin", "/./admin", "/health;/../admin", "/health/..;/admin", "/\\admin", "/health%5c..%5cadmin", "/v1/%252e%252e/admin", "/admin?x=/health", "/admin#/health", "http://api.example.com/admin", "/health%00/../admin", "/..%2fadmin"];
    for (const target of tricks) {
      const { status, received } = await send({ target, headers: [AUTHORIZATION] });
      assert.ok(status === 400 || status === 403, `${target}: ${status}`);
      assert.deepEqual(noted(received), [], target);
      const open = await send({ target });
      assert.ok([400, 401, 403].includes(open.status), `${target}: ${open.status}`);
      assert.deepEqual(noted(open.received), [], target);
    }
    const { status, received } = await send({ target: "/admin/collections", headers: [AUTHORIZATION, ["X-Admin-Token", ADMIN_TOKEN]] });
    assert.equal(status, 200);
    assert.ok(!JSON.stringify(received[0].headers).includes(ADMIN_TOKEN), "the admin token is for the gateway alone");
  });

  test("the API gets the very target that the client sent", async () => {
    for (const target of ["/v1/models/meta-llama%2FLlama-3", "/v1//x/%7e?y=%2F&z=a+b", "/a;x=1/b", "/v1/%C3%A9/%20", "/v1/../v1/./x", "/v1/%2e%2e/x", "/v1?"]) {
      const { status, received } = await send({ target, headers: [AUTHORIZATION] });
      assert.deepEqual([status, noted(received)], [200, [`GET ${target}`]]);
    }
  });

  test("only a true preflight needs no token", async () => {
    const { status, received } = await send({ method: "OPTIONS", target: "/v1/models", headers: PREFLIGHT });
    assert.deepEqual([status, noted(received)], [200, ["OPTIONS /v1/models"]]);
    assert.deepEqual(identityOf(received[0]), []);
    for (const headers of [[], ...PREFLIGHT.map((one) => [one])]) await refused({ method: "OPTIONS", target: "/v1/models", headers }, NO_CREDENTIAL);
    await refused({ method: "POST", target: "/v1/models", headers: PREFLIGHT, body: "{}" }, NO_CREDENTIAL);
  });

  test("a body arrives whole, by length and in chunks", async () => {
    const body = Buffer.concat([...blocks(3 << 20)]);
    const head = (framing) => `PUT /sink HTTP/1.1\r\nHost: api.example.com\r\n${AUTHORIZATION.join(": ")}\r\n${framing}\r\n\r\n`;
    const chunked = Buffer.concat([Buffer.from(`${head("Transfer-Encoding: chunked")}${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n0\r\n\r\n")]);
    for (const bytes of [Buffer.concat([Buffer.from(head(`Content-Length: ${body.length}`)), body]), chunked]) {
      const answer = await ask(proxy.port, bytes);
      assert.equal(answer.status, 200);
      assert.deepEqual(JSON.parse(answer.body), { size: body.length, sha256: digestOf(body.length) });
      const [received] = upstream.take();
      assert.deepEqual(identityOf(received), OURS);
    }
  });

  test("a body is no way to a second request", async () => {
    const inner = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n";
    const chunked = `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
    for (const method of ["GET", "OPTIONS"]) {
      for (const [framing, body] of [[`Content-Length: ${inner.length}`, inner], ["Transfer-Encoding: chunked", chunked]]) {
        const preflight = PREFLIGHT.map((header) => `${header.join(": ")}\r\n`).join("");
        const { answers } = await exchange(proxy.port, `${method} /health HTTP/1.1\r\nHost: api.example.com\r\n${preflight}${framing}\r\n\r\n${body}`, { drain: true });
        assert.equal(answers[0].status, 400, `${method} ${framing}`);
        assert.deepEqual(noted(upstream.take()), [], `${method} ${framing}`);
      }
      const { status } = await send({ method, target: "/health", headers: [...PREFLIGHT, ["Content-Length", "0"]] });
      assert.equal(status, 200, "none is none");
    }
  });

  test("an event is with the client before the next one exists", async () => {
    const asking = http.get({ port: proxy.port, host: "127.0.0.1", path: "/events", headers: Object.fromEntries([HOST, AUTHORIZATION]), agent: false });
    await hearsEachEvent(asking, upstream);
  });

  test("a WebSocket goes through with the token, and not without", async () => {
    upstream.take();
    await carriesMessages(new WebSocket(`ws://127.0.0.1:${proxy.port}/ws`, { headers: Object.fromEntries([AUTHORIZATION]) }));
    assert.deepEqual(identityOf(upstream.take()[0]), OURS);
    for (const target of ["/ws", "/health"]) await refused({ target, headers: WEBSOCKET }, NO_CREDENTIAL);
    await refused({ target: "/admin", headers: [AUTHORIZATION, ...WEBSOCKET] }, NO_ADMIN_TOKEN);
  });

  test("what the gateway has no place for is 403 here", async () => {
    const notFound = { status: 403, detail: "Not Found", challenge: undefined };
    for (const target of ["/terminal", "/.auth/verify", "/.auth/whoami", "/.auth"]) await refused({ target, headers: [AUTHORIZATION] }, notFound);
    await refused({ target: "/v1/%01", headers: [AUTHORIZATION] }, { status: 403, detail: "Malformed request", challenge: undefined });
    const { status, received } = await send({ method: "TRACE", target: "/v1/models", headers: [AUTHORIZATION] });
    assert.ok([400, 403, 405].includes(status), `${status}`);
    assert.deepEqual(received, []);
  });

  test("an outage of the gateway's is told as it tells it", async () => {
    const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const url = `http://127.0.0.1:${await deadPort()}`;
    const claims = { iss: `${url}/auth/v1`, aud: "authenticated", sub: "a", role: "authenticated", exp: now + 600, iat: now };
    const token = [part({ alg: "ES256", kid: "k", typ: "JWT" }), part(claims), part("s".repeat(64))].join(".");
    const outage = await startHost(gateway, { settings: { ...STATIC, AUTH_PROVIDER: "supabase", SUPABASE_URL: url, SUPABASE_KEY: "sb_publishable_x", ENV: "development", AUTH_VERIFY_OPEN: "1" } });
    const other = await startProxy(name, { gateway: outage.port, api: upstream.port });
    try {
      upstream.take();
      const answer = await ask(other.port, request({ target: "/v1/models", headers: [HOST, ["Authorization", `Bearer ${token}`]] }));
      checkRefusal(answer, UNAVAILABLE);
      assert.deepEqual(upstream.take(), []);
    } finally {
      await other.stop();
      await outage.stop();
    }
  });
}

/** A gateway that says yes to all, or whatever it is told to say, and remembers what it was asked. */
function asked(name) {
  const questions = [];
  let upstream, gateway, proxy, say;
  before(async () => {
    upstream = await startUpstream();
    const server = http.createServer((question, response) => {
      questions.push({ method: question.method, url: question.url, headers: question.headers, raw: question.rawHeaders });
      question.resume();
      // The gateway refuses what is no path.
      const isPath = (question.headers["x-original-uri"] ?? question.headers["x-forwarded-uri"])?.startsWith("/");
      say ? say(response) : !isPath ? response.writeHead(403).end() : response.writeHead(200, { "x-user-id": "1" }).end();
    });
    gateway = await listen(server);
    proxy = await startProxy(name, { gateway: gateway.port, api: upstream.port });
  });
  after(async () => {
    await proxy?.stop();
    await gateway?.stop();
    await upstream?.stop();
  });

  const described = ({ headers, raw }) => {
    const told = DESCRIPTION.map((header) => header.toLowerCase()).filter((header) => header in headers);
    assert.ok(told.length === 2 && told[0].split("-")[1] === told[1].split("-")[1], `one description: ${JSON.stringify(raw)}`);
    return `${headers[told[0]]} ${Buffer.from(headers[told[1]], "latin1").toString("latin1")}`;
  };

  test("what it is asked about is what the API gets, byte for byte", async () => {
    const targets = ["/", "/v1/models/meta-llama%2FLlama-3", "/v1//x/%7e?y=%2F&z", "//a//b", "/a/../b", "/a/./b", "/a/%2e%2e/b", "/a%2f..%2fb", "/a;x=1/b;y", "/a?", "/a??b", "/%41", "/a%20b+c", "/a|b", "/a\"b", "/a\\b", "/a{b}", "/a^b`c", "/a<b>", "/a'(b)*!$&,:@=~", "/\xc3\xa9", "/%C3%A9", "/%zz", "/%", "/%00", "/a#b", "/a?b#c", "/?a=http://x/y", "http://other.example/health", "http://other.example/a/../b?c", "http://other.example", "http://other.example?x", "*", "?a", "a", "/a%", "/a?%zz", "/a%2Fb%2fc", `/${"x".repeat(3000)}`];
    let arrived = 0;
    for (const target of targets) {
      for (const method of ["GET", "POST", "PATCH"]) {
        questions.length = 0;
        upstream.take();
        const headers = [HOST, ...(method === "GET" ? [] : [["Content-Length", "2"]])];
        await exchange(proxy.port, Buffer.from(`${request({ method, target, headers }).toString("latin1")}${method === "GET" ? "" : "{}"}`, "latin1"));
        const received = upstream.take();
        assert.ok(received.length <= 1);
        if (received.length === 0) continue;
        arrived += 1;
        assert.equal(questions.length, 1);
        assert.equal(described(questions[0]), `${received[0].method} ${received[0].target}`, JSON.stringify(target));
        assert.equal(received[0].method, method);
      }
    }
    assert.ok(arrived > 40, `of ${3 * targets.length} requests ${arrived} arrived`);
  });

  test("all that it says of the user arrives, and nothing that the client says", async () => {
    const user = { "x-user-id": "6f3b", "x-auth-token-type": "user", "x-auth-role": "authenticated" };
    try {
      for (const names of [Object.keys(user), ["x-user-id"], ["x-auth-role"], []]) {
        const identity = Object.fromEntries(names.map((header) => [header, user[header]]));
        say = (response) => response.writeHead(200, identity).end();
        upstream.take();
        const { status } = await ask(proxy.port, request({ target: "/v1/models", headers: [HOST, ...FORGED] }));
        assert.equal(status, 200);
        assert.deepEqual(identityOf(upstream.take()[0]), Object.entries(identity).sort());
      }
    } finally {
      say = undefined;
    }
  });

  test("only a 200 is a yes, and no answer is none", async () => {
    const answers = { 302: (response) => response.writeHead(302, { location: "/health" }).end(), 400: (response) => response.writeHead(400).end(), 404: (response) => response.writeHead(404).end(), 500: (response) => response.writeHead(500).end(), 502: (response) => response.writeHead(502).end(), none: (response) => response.destroy() };
    for (const [what, answer] of Object.entries(answers)) {
      say = answer;
      upstream.take();
      try {
        const { status } = await ask(proxy.port, request({ target: "/v1/models", headers: [HOST, AUTHORIZATION] }));
        assert.ok(status >= 300, `${what}: ${status}`);
        if (what === "none" || what === "500") assert.ok(status >= 500, `${what}: ${status}`);
      } finally {
        say = undefined;
      }
      assert.deepEqual(upstream.take(), [], what);
    }
  });

  test("a gateway that is gone opens nothing", async () => {
    const host = await startNative({ settings: STATIC });
    const other = await startProxy(name, { gateway: host.port, api: upstream.port });
    try {
      const send = (target) => ask(other.port, request({ target, headers: [HOST, AUTHORIZATION] }));
      assert.equal((await send("/v1/models")).status, 200);
      await host.stop();
      upstream.take();
      for (const target of ["/v1/models", "/health"]) {
        const { status } = await send(target);
        assert.ok(status >= 500, `${status}`);
      }
      assert.deepEqual(upstream.take(), []);
    } finally {
      await other.stop();
      await host.stop();
    }
  });

  if (name === "haproxy") {
    test("a fault in Lua opens nothing", async () => {
      const other = await startProxy(name, { gateway: gateway.port, api: upstream.port }, (text) => text.replace("core.httpclient()", "nothing()"));
      try {
        upstream.take();
        assert.equal((await ask(other.port, request({ target: "/health", headers: [HOST, AUTHORIZATION] }))).status, 503);
        assert.deepEqual(upstream.take(), []);
      } finally {
        await other.stop();
      }
    });
  }
}
