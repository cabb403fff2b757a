// A Worker written in Rust that judges its requests with the library: `examples/worker-embed`, in workerd.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { INVALID, NO_ADMIN_TOKEN, NO_CREDENTIAL, NOT_ADMIN, UNAVAILABLE, checkRefusal } from "./support/gateway.mjs";
import { AUTHORIZATION, ROOT, STATIC, TOKEN, startEdge } from "./support/hosts.mjs";
import { KEYS, claimsOf, makeKey, userToken } from "./support/jwt.mjs";
import { ask, request } from "./support/raw.mjs";
import { API_KEY, startSupabase } from "./support/supabase.mjs";
import { modulesIn } from "./support/workers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const FOLDER = path.join(ROOT, "build", "worker-embed");
const EMBED = modulesIn(FOLDER);
const ADMIN_TOKEN = "admin-token-0123456789-abcdefgh";
const PAGE = "https://app.example";

const started = [];
async function start(settings, options = {}) {
  const host = await startEdge({ settings, manifest: EMBED, ...options });
  started.push(host);
  const send = (target, { headers = [AUTHORIZATION], ...rest } = {}) =>
    ask(host.port, request({ target, headers: [["Host", `127.0.0.1:${host.port}`], ...headers], ...rest }));
  return { host, send };
}
after(() => Promise.all(started.map((host) => host.stop())));

/** What the API saw of a request. */
function seen(answer) {
  assert.equal(answer.status, 200, answer.body.toString());
  const { headers, ...rest } = JSON.parse(answer.body);
  const identity = headers.filter(([name]) => /^x[-_](user|auth|admin)/.test(name)).sort();
  return { ...rest, url: new URL(rest.url).pathname + new URL(rest.url).search, headers, identity };
}

test("the example exports its own fetch handler, and nothing of the library's", () => {
  const glue = readFileSync(path.join(FOLDER, "embed.js"), "utf8");
  const exported = [...glue.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name).filter((name) => !name.startsWith("__"));
  assert.deepEqual(exported.filter((name) => !["initSync", "__wbg_init"].includes(name)), ["fetch"]);
});

describe("static", () => {
  let embed;
  before(async () => {
    embed = await start({ ...STATIC, ADMIN_TOKEN, AUTH_WS_TOKEN_SOURCES: "header,protocol,query", CORS_ORIGINS: PAGE, AUTH_VERIFY_OPEN: "1", UPSTREAM_URL: "http://127.0.0.1:1" });
  });

  test("who brings the token is served by the API, which is told who it is", async () => {
    const spoofed = [["X-User-Id", "root"], ["x_auth_role", "boss"], ["X-Auth-Token-Type", "user"], ["X-Kept", "kept"]];
    const answer = seen(await embed.send("/v1/models?limit=1", { method: "POST", headers: [AUTHORIZATION, ...spoofed], body: "a body" }));
    assert.deepEqual([answer.user, answer.role, answer.method, answer.url, answer.body], ["1", null, "POST", "/v1/models?limit=1", "a body"]);
    assert.deepEqual(answer.identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
    assert.ok(answer.headers.some(([name, value]) => name === "x-kept" && value === "kept"));
  });

  test("who brings none, or another one, is refused in the words of the gateway", async () => {
    checkRefusal(await embed.send("/v1/models", { headers: [] }), NO_CREDENTIAL);
    checkRefusal(await embed.send("/v1/models", { headers: [["Authorization", "Bearer not-the-token-0123456789"]] }), INVALID);
    assert.equal((await embed.send("/v1%00", {})).status, 400);
  });

  test("public paths are served without an identity, whatever the client says of itself", async () => {
    const answer = await embed.send("/health", { headers: [["X-User-Id", "root"]] });
    assert.deepEqual([answer.status, answer.body.toString()], [200, "fine"]);
    assert.deepEqual(seen(await embed.send("/ping", { headers: [["X-User-Id", "root"]] })).identity, []);
  });

  test("/admin needs the admin token too, and the API sees it", async () => {
    checkRefusal(await embed.send("/admin/x"), NO_ADMIN_TOKEN);
    const answer = seen(await embed.send("/admin/x", { headers: [AUTHORIZATION, ["X-Admin-Token", ADMIN_TOKEN]] }));
    assert.deepEqual(answer.identity, [["x-admin-token", ADMIN_TOKEN], ["x-auth-token-type", "static"], ["x-user-id", "1"]]);
  });

  test("the gateway's own paths are answered by it", async () => {
    assert.deepEqual(JSON.parse((await embed.send("/.auth/whoami")).body), { user_id: "1", token_type: "static", role: null });
    const headers = [AUTHORIZATION, ["X-Forwarded-Method", "GET"], ["X-Forwarded-Uri", "/v1/models"]];
    const verified = await embed.send("/.auth/verify", { headers });
    assert.deepEqual([verified.status, verified.header("x-user-id"), verified.body.length], [200, "1", 0]);
  });

  test("CORS: preflights are answered, and pages may read what the API says", async () => {
    const preflight = await embed.send("/v1/models", { method: "OPTIONS", headers: [["Origin", PAGE], ["Access-Control-Request-Method", "PUT"]] });
    assert.deepEqual([preflight.status, preflight.header("access-control-allow-origin")], [204, PAGE]);
    const answer = await embed.send("/v1/models", { headers: [AUTHORIZATION, ["Origin", PAGE]] });
    assert.deepEqual([answer.status, answer.header("access-control-allow-origin"), answer.header("vary")], [200, PAGE, "Origin"]);
  });

  test("WebSockets open with a token in any place that is allowed, and the API sees no token", async () => {
    const url = embed.host.url.replace("http", "ws");
    for (const [open, protocol] of [
      [() => new WebSocket(`${url}/ws`, [], { headers: Object.fromEntries([AUTHORIZATION]) }), ""],
      [() => new WebSocket(`${url}/ws`, ["bearer", TOKEN]), "bearer"],
      [() => new WebSocket(`${url}/ws?api_key=${TOKEN}&x=1`), ""],
    ]) {
      const socket = open();
      const [message] = await once(socket, "message");
      const [, user, asked] = /^hello (\w+), who asked for (\S+)$/.exec(message.toString());
      assert.deepEqual([user, socket.protocol], ["1", protocol]);
      assert.equal(asked, socket.url.replace("ws", "http").replace(`api_key=${TOKEN}&`, ""));
      socket.terminate();
    }
    const [, refusal] = await once(new WebSocket(`${url}/ws`), "unexpected-response");
    assert.equal(refusal.statusCode, 401);
    refusal.destroy();
  });
});

test("the token may be in KV", async () => {
  const { send } = await start({ AUTH_PROVIDER: "static" }, { store: TOKEN });
  assert.equal(seen(await send("/v1/models")).user, "1");
});

test("without settings nobody passes, and wrong ones are an answer of their own", async () => {
  const { send, host } = await start({});
  assert.equal((await send("/v1/models")).status, 503);
  assert.match(host.log(), /No token is configured/);
  const wrong = await start({ AUTH_PROVIDER: "jwt" });
  for (const target of ["/v1/models", "/health"]) {
    const answer = await wrong.send(target);
    assert.deepEqual([answer.status, answer.body.toString()], [500, '{"detail":"Authentication is misconfigured"}']);
  }
  assert.match(wrong.host.log(), /AUTH_PROVIDER/);
});

describe("supabase", () => {
  let supabase;
  let embed;
  const bearer = (token) => ({ headers: [["Authorization", `Bearer ${token}`]] });
  before(async () => {
    supabase = await startSupabase({ keys: [KEYS.ES256] });
    const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY, AUTH_ADMIN_ROLES: "boss", WORKER_AUTH_TOKEN: TOKEN };
    embed = await start(settings);
  });
  after(() => supabase.stop());

  test("users pass with tokens of the project, and keys are fetched once for many requests at once", async () => {
    const claims = Array.from({ length: 20 }, () => claimsOf(supabase, {}));
    const tokens = await Promise.all(claims.map((claims) => userToken(KEYS.ES256, claims)));
    const answers = await Promise.all(tokens.map((token) => embed.send("/v1/jobs", bearer(token))));
    answers.forEach((answer, at) => {
      const { user, role, identity } = seen(answer);
      assert.deepEqual([user, role], [claims[at].sub, "authenticated"]);
      assert.deepEqual(identity, [["x-auth-role", "authenticated"], ["x-auth-token-type", "user"], ["x-user-id", user]]);
    });
    assert.equal(supabase.jwks.calls, 1);
    assert.equal(seen(await embed.send("/v1/jobs")).user, "1", "the static token is as good as ever");
  });

  test("forged and unfit tokens do not, nor does a user's role that is not enough", async () => {
    checkRefusal(await embed.send("/v1/jobs", bearer(await userToken({ ...makeKey("ES256"), kid: KEYS.ES256.kid }, claimsOf(supabase, {})))), INVALID);
    checkRefusal(await embed.send("/v1/jobs", bearer(await userToken(KEYS.ES256, claimsOf(supabase, { aud: "others" })))), INVALID);
    checkRefusal(await embed.send("/admin/x", bearer(await userToken(KEYS.ES256, claimsOf(supabase, {})))), NOT_ADMIN);
    assert.equal(seen(await embed.send("/admin/x", bearer(await userToken(KEYS.ES256, claimsOf(supabase, { role: "boss" }))))).role, "boss");
  });

  test("an outage of the project is one, and no refusal", async () => {
    supabase.jwks.mode = "500";
    const other = await start({ AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY });
    checkRefusal(await other.send("/v1/jobs", bearer(await userToken(KEYS.ES256, claimsOf(supabase, {})))), UNAVAILABLE);
  });
});
