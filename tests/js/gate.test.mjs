// The JavaScript surface, as an embedder uses it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Gate, generateToken, initSync, maskToken } from "../../build/js/dev/gate.js";

initSync({ module: readFileSync(new URL("../../build/js/dev/gate_bg.wasm", import.meta.url)) });

const TOKEN = "test-token-0123456789-abcdefgh";
const SETTINGS = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN };

test("a request with the token passes, with its identity for the upstream", async () => {
  const request = new Request("http://gateway.test/v1/models", {
    headers: { Authorization: `Bearer ${TOKEN}`, "X-User-Id": "99", "x_user_id": "98", "X-Kept": "yes" },
  });
  const decision = await new Gate(SETTINGS).check(request);
  assert.equal(decision.allowed, true);
  assert.deepEqual([decision.userId, decision.tokenType, decision.role, decision.response], ["1", "static", null, null]);
  assert.equal(decision.headers.get("x-user-id"), "1");
  assert.equal(decision.headers.get("x_user_id"), null);
  assert.equal(decision.headers.get("x-kept"), "yes");
});

test("a refusal comes as a response to return", async () => {
  const { allowed, userId, response } = await new Gate(SETTINGS).check(new Request("http://gateway.test/v1/models"));
  assert.deepEqual([allowed, userId, response.status], [false, null, 401]);
  assert.equal(response.headers.get("www-authenticate"), "Bearer");
  assert.deepEqual(await response.json(), { detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'" });
});

test("public paths pass without an identity, and without one that the client claims", async () => {
  const request = new Request("http://gateway.test/health", { headers: { "x-user-id": "1" } });
  const { allowed, userId, headers, response } = await new Gate(SETTINGS).check(request);
  assert.deepEqual([allowed, userId, response, headers.get("x-user-id")], [true, null, null, null]);
});

test("wrong settings throw one error that names each", () => {
  assert.throws(() => new Gate({ AUTH_PROVIDER: "basic", ENV: "moon" }), /ENV: .*\n.*AUTH_PROVIDER: /);
  assert.throws(() => new Gate({ AUTH_PROVIDER: "static" }), /WORKER_AUTH_TOKEN/);
  assert.throws(() => new Gate({}), /WORKER_AUTH_TOKEN/, "an embedder without settings is closed, not open");
});

test("what is no text is no setting, and no token", () => {
  for (const value of [{ get: async () => TOKEN }, ["x"], () => TOKEN, Symbol("x")]) {
    assert.throws(() => new Gate({ AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: value }), /WORKER_AUTH_TOKEN/);
    assert.throws(() => new Gate({ ...SETTINGS, ADMIN_TOKEN: value }), /ADMIN_TOKEN/);
  }
  const throwing = { ...SETTINGS, get ADMIN_TOKEN() { throw new Error("unreadable"); } };
  assert.throws(() => new Gate(throwing), /ADMIN_TOKEN/);
});

test("tokens are made and masked", () => {
  const token = generateToken();
  assert.match(token, /^[\w-]{43}$/);
  assert.notEqual(token, generateToken());
  assert.equal(maskToken("abcdefgh-0123456789-0123456789-01234wxyz"), "abcdefgh...wxyz");
  assert.equal(maskToken("short"), "***");
});

test("the URL for the upstream has no token in it", async () => {
  const gate = new Gate({ ...SETTINGS, AUTH_WS_TOKEN_SOURCES: "query" });
  const of = (url) => gate.check({ method: "GET", url, body: null, headers: new Headers({ Connection: "Upgrade", Upgrade: "websocket" }) });
  for (const [url, clean] of [
    [`http://gateway.test/ws?a=1&token=${TOKEN}&b=%20`, "http://gateway.test/ws?a=1&b=%20"],
    [`http://gateway.test/ws?api_key=${TOKEN}`, "http://gateway.test/ws"],
  ]) {
    const decision = await of(url);
    assert.deepEqual([decision.allowed, decision.url], [true, clean]);
  }
  const plain = await new Gate(SETTINGS).check(new Request("http://gateway.test/a%2eb?token=x", { headers: { Authorization: `Bearer ${TOKEN}` } }));
  assert.equal(plain.url, "http://gateway.test/a%2eb?token=x");
});

test("what Cloudflare says of the client is believed in its runtime alone", async () => {
  const gate = new Gate({ ...SETTINGS, AUTH_TRUSTED_PROXIES: "10.0.0.0/8" });
  const headers = { Authorization: `Bearer ${TOKEN}`, "CF-Connecting-IP": "10.0.0.1", "X-Forwarded-For": "192.0.2.1" };
  const told = async () => (await gate.check(new Request("http://gateway.test/v1", { headers }))).headers.get("x-forwarded-for");
  assert.equal(await told(), null);
  const here = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  try {
    Object.defineProperty(globalThis, "navigator", { value: { userAgent: "Cloudflare-Workers" }, configurable: true });
    assert.equal(await told(), "192.0.2.1, 10.0.0.1");
  } finally {
    if (here) Object.defineProperty(globalThis, "navigator", here);
    else delete globalThis.navigator;
  }
});

test("with CORS_ORIGINS the gate answers preflights, and says who may read the response of the upstream", async () => {
  const page = "https://app.example";
  const gate = new Gate({ ...SETTINGS, CORS_ORIGINS: page });
  const ask = (origin, method = "GET", headers = {}) =>
    gate.check(new Request("http://gateway.test/v1", { method, headers: { Authorization: `Bearer ${TOKEN}`, Origin: origin, ...headers } }));
  const preflight = await ask(page, "OPTIONS", { "Access-Control-Request-Method": "PUT" });
  assert.deepEqual([preflight.response.status, preflight.response.headers.get("access-control-allow-methods")], [204, "PUT"]);
  for (const [origin, allowed] of [[page, page], ["https://evil.example", null]]) {
    const decision = await ask(origin);
    const upstream = new Response("body", { status: 201, headers: { "Access-Control-Allow-Origin": "*", Vary: "Accept" } });
    const response = decision.finish(upstream);
    const { status, headers } = response;
    assert.deepEqual([status, headers.get("access-control-allow-origin"), headers.get("vary"), await response.text()], [201, allowed, "Accept, Origin", "body"]);
  }
  const untouched = new Response("body");
  const decision = await new Gate(SETTINGS).check(new Request("http://gateway.test/v1", { headers: { Authorization: `Bearer ${TOKEN}` } }));
  assert.equal(decision.finish(untouched), untouched);
});
