// A server of axum behind the layer: `native-host/examples/axum.rs`, over real sockets.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { built } from "../../tools/paths.mjs";
import { INVALID, NO_ADMIN_TOKEN, NO_CREDENTIAL, UNAVAILABLE, checkRefusal, until } from "./support/gateway.mjs";
import { AUTHORIZATION, ROOT, STATIC, TOKEN, gatherOutput, temporaryFolder, withHome } from "./support/hosts.mjs";
import { KEYS, claimsOf, makeKey, userToken } from "./support/jwt.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { API_KEY, startSupabase } from "./support/supabase.mjs";
import { secretsOfSettings } from "./support/transcripts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const BINARY = built("debug", "examples", "axum");
const ADMIN_TOKEN = "admin-token-0123456789-abcdefgh";
const PAGE = "https://app.example";

async function start(settings) {
  secretsOfSettings(settings);
  // Nothing of this process's environment may decide how it behaves, and no file of whoever runs it.
  const home = temporaryFolder();
  const env = { LISTEN: "127.0.0.1:0", HOME: home, NODETOOL_CONFIG_PATH: path.join(home, "deployment.yaml"), ...settings };
  const child = spawn(BINARY, { env, stdio: ["ignore", "pipe", "pipe"] });
  const output = gatherOutput(child, "axum");
  const ended = once(child, "close");
  const port = await until("the server listens", 20_000, async () => {
    if (child.exitCode !== null) {
      rmSync(home, { recursive: true, force: true });
      assert.fail(`the server ended: ${output.stderr}`);
    }
    return /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(output.stdout)?.[1];
  });
  const send = (target, { headers = [AUTHORIZATION], ...rest } = {}) => ask(port, request({ target, headers: [["Host", `127.0.0.1:${port}`], ...headers], ...rest }));
  return {
    port,
    send,
    async stop() {
      child.kill("SIGKILL");
      await ended;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** What the handler was asked. */
function seen(answer) {
  assert.equal(answer.status, 200, answer.body.toString());
  const told = JSON.parse(answer.body);
  return { ...told, identity: told.headers.filter(([name]) => /^x[-_](user|auth|admin)/.test(name)).sort() };
}

describe("static", () => {
  let server;
  before(async () => {
    server = await start({ ...STATIC, ADMIN_TOKEN, AUTH_WS_TOKEN_SOURCES: "header,protocol,query", CORS_ORIGINS: PAGE });
  });
  after(() => server.stop());

  test("who brings the token is let in, and the handler knows who it is", async () => {
    const me = await server.send("/v1/me");
    assert.deepEqual([me.status, JSON.parse(me.body)], [200, { user: "1", token_type: "static", role: null }]);
    const spoofed = [["X-User-Id", "root"], ["x_auth_role", "boss"], ["X-Auth-Token-Type", "user"], ["X-Kept", "kept"]];
    const answer = seen(await server.send("/v1/models?limit=1", { method: "POST", headers: [AUTHORIZATION, ...spoofed], body: "a body" }));
    assert.deepEqual([answer.user, answer.uri, answer.body], ["1", "/v1/models?limit=1", "a body"]);
    assert.deepEqual(answer.identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
    const values = (name) => answer.headers.filter(([known]) => known === name).map(([, value]) => value);
    assert.deepEqual([values("x-kept"), values("x-forwarded-for"), values("host")], [["kept"], ["127.0.0.1"], [`127.0.0.1:${server.port}`]]);
  });

  test("who brings none, or another one, is refused in the words of the gateway", async () => {
    for (const target of ["/v1/me", "/ws", "/nowhere"]) {
      checkRefusal(await server.send(target, { headers: [] }), NO_CREDENTIAL);
      checkRefusal(await server.send(target, { headers: [["Authorization", "Bearer not-the-token-0123456789"]] }), INVALID);
    }
  });

  test("what two programs could read differently is refused before anything else", async () => {
    for (const target of ["/v1%00", "/health%2", "/v1\\x"]) assert.equal((await server.send(target, { headers: [] })).status, 400, target);
    assert.equal((await server.send("/v1/models", { headers: [AUTHORIZATION, ["Content-Length", "3"]], body: "abc" })).status, 400, "GET with a body");
    const { answers } = await exchange(server.port, "GET /health HTTP/1.1\r\n\r\n");
    assert.equal(answers[0].status, 400, "no Host");
    for (const target of ["/health/../admin/x", "//admin/x", "/ADMIN/x", "/%61dmin/x"]) checkRefusal(await server.send(target), NO_ADMIN_TOKEN);
  });

  test("public paths are served without an identity, whatever the client says of itself", async () => {
    const answer = await server.send("/health", { headers: [["X-User-Id", "root"]] });
    assert.deepEqual([answer.status, answer.body.toString()], [200, "fine"]);
    const ping = seen(await server.send("/ping", { headers: [["X-User-Id", "root"]] }));
    assert.deepEqual([ping.user, ping.identity], [null, []]);
  });

  test("/admin needs the admin token too, and the handler sees it", async () => {
    checkRefusal(await server.send("/admin/x"), NO_ADMIN_TOKEN);
    const answer = seen(await server.send("/admin/x", { headers: [AUTHORIZATION, ["X-Admin-Token", ADMIN_TOKEN]] }));
    assert.deepEqual(answer.identity, [["x-admin-token", ADMIN_TOKEN], ["x-auth-token-type", "static"], ["x-user-id", "1"]]);
  });

  test("CORS: preflights are answered, and pages may read answers and refusals", async () => {
    const preflight = await server.send("/v1/me", { method: "OPTIONS", headers: [["Origin", PAGE], ["Access-Control-Request-Method", "PUT"]] });
    assert.deepEqual([preflight.status, preflight.header("access-control-allow-origin"), preflight.header("access-control-allow-methods")], [204, PAGE, "PUT"]);
    assert.equal((await server.send("/v1/me", { method: "OPTIONS", headers: [["Origin", "https://evil.example"], ["Access-Control-Request-Method", "PUT"]] })).status, 403);
    for (const headers of [[AUTHORIZATION], []]) {
      const answer = await server.send("/v1/me", { headers: [...headers, ["Origin", PAGE]] });
      assert.deepEqual([answer.header("access-control-allow-origin"), answer.header("vary")], [PAGE, "Origin"]);
    }
  });

  test("WebSockets open with a token in any place that is allowed, and no handler sees it", async () => {
    const url = `ws://127.0.0.1:${server.port}/ws`;
    for (const [open, protocol] of [
      [() => new WebSocket(url, [], { headers: Object.fromEntries([AUTHORIZATION]) }), ""],
      [() => new WebSocket(url, ["bearer", TOKEN]), "bearer"],
      [() => new WebSocket(`${url}?api_key=${TOKEN}&x=1`), ""],
    ]) {
      const socket = open();
      const [message] = await once(socket, "message");
      assert.deepEqual([message.toString(), socket.protocol], ["hello 1", protocol]);
      socket.terminate();
    }
    const upgrade = [["Upgrade", "websocket"], ["Connection", "Upgrade"]];
    const told = seen(await server.send(`/ping?api_key=${TOKEN}&x=1`, { headers: upgrade }));
    assert.deepEqual([told.uri, told.user], ["/ping?x=1", "1"]);
    const [, refusal] = await once(new WebSocket(url), "unexpected-response");
    assert.equal(refusal.statusCode, 401);
    refusal.destroy();
  });
});

test("local by default holds for requests straight from this machine, while the settings have no token", () =>
  withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
    for (const [settings, status] of [[{ NODETOOL_CONFIG_PATH: file }, 200], [{ WORKER_AUTH_TOKEN: TOKEN }, 401]]) {
      const server = await start({ ENV: "development", ...settings });
      try {
        assert.equal((await server.send("/v1/me", { headers: [] })).status, status);
        checkRefusal(await server.send("/v1/me", { headers: [["X-Forwarded-For", "127.0.0.1"]] }), NO_CREDENTIAL);
        checkRefusal(await server.send("/v1/me", { headers: [["Origin", "https://evil.example"]] }), NO_CREDENTIAL);
      } finally {
        await server.stop();
      }
    }
  }));

test("supabase: users pass with tokens of the project, keys are fetched once, and an outage is no refusal", async () => {
  const supabase = await startSupabase({ keys: [KEYS.ES256] });
  const bearer = (token) => ({ headers: [["Authorization", `Bearer ${token}`]] });
  const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY, WORKER_AUTH_TOKEN: TOKEN };
  const server = await start(settings);
  try {
    const claims = Array.from({ length: 20 }, () => claimsOf(supabase, {}));
    const tokens = await Promise.all(claims.map((claims) => userToken(KEYS.ES256, claims)));
    const answers = await Promise.all(tokens.map((token) => server.send("/v1/me", bearer(token))));
    assert.deepEqual(answers.map((answer) => JSON.parse(answer.body)), claims.map(({ sub, role }) => ({ user: sub, token_type: "user", role })));
    assert.equal(supabase.jwks.calls, 1);
    checkRefusal(await server.send("/v1/me", bearer(await userToken({ ...makeKey("ES256"), kid: KEYS.ES256.kid }, claimsOf(supabase, {})))), INVALID);
  } finally {
    await server.stop();
  }
  supabase.jwks.mode = "500";
  const other = await start(settings);
  try {
    checkRefusal(await other.send("/v1/me", bearer(await userToken(KEYS.ES256, claimsOf(supabase, {})))), UNAVAILABLE);
    assert.equal((await other.send("/v1/me")).status, 200, "the static token does without");
  } finally {
    await other.stop();
    await supabase.stop();
  }
});

test("without a token there is no server", async () => {
  await assert.rejects(start({}).then((server) => server.stop()), /there is no token; set WORKER_AUTH_TOKEN/);
});
