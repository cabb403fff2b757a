// What the native host tells a person before and beside serving: `check`, `explain` and `completions`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";

import { inParallel, until } from "./support/gateway.mjs";
import { NATIVE_BINARY, STATIC, TOKEN, gatherOutput, startNative, temporaryFolder, withHome, withHost, writeFile } from "./support/hosts.mjs";
import { KEYS, SECRET, claimsOf, encode, legacyToken, makeKey, now, userToken } from "./support/jwt.mjs";
import { ask, request } from "./support/raw.mjs";
import { API_KEY, startSupabase } from "./support/supabase.mjs";
import { secret as register, secretsOfRequest, secretsOfSettings, secretsOfText } from "./support/transcripts.mjs";
import { startUpstream } from "./support/upstream.mjs";

const VECTORS = new URL("../vectors/", import.meta.url);
const NOWHERE = "127.0.0.1:9";
const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);

const secrets = new Set([TOKEN, API_KEY, SECRET]);
/** Nothing that a run prints may hold it. */
const secret = (text) => {
  secrets.add(text);
  register("a secret of this test", text);
  return text;
};

let upstream;
before(async () => {
  upstream = await startUpstream();
});
after(() => upstream.stop());

/** Runs a subcommand to its end. */
async function cli(args, { settings = {}, home, input = "", binary = NATIVE_BINARY, user = {} } = {}) {
  const folder = home ?? temporaryFolder();
  const env = { PATH: process.env.PATH, HOME: folder, NODETOOL_CONFIG_PATH: path.join(folder, "nodetool", "deployment.yaml"), AUTH_LISTEN: "127.0.0.1:0", ...settings };
  secretsOfSettings(settings);
  secretsOfText(input);
  secretsOfRequest(input);
  const child = spawn(binary, args, { env, cwd: folder, ...user });
  const output = gatherOutput(child, "native");
  child.stdin.on("error", () => {});
  child.stdin.end(Buffer.from(input, "latin1"));
  const [code] = await once(child, "close");
  if (!home) {
    assert.deepEqual(readdirSync(folder), [], "nothing is written");
    rmSync(folder, { recursive: true });
  }
  const printed = output.stdout + output.stderr;
  assert.ok([...secrets].every((text) => !printed.includes(text)), "a secret is printed");
  return { code, ...output };
}

async function check(settings, options) {
  const { code, stdout, stderr } = await cli(["check", "--json"], { settings, ...options });
  assert.equal(stderr, "", "nothing beside the findings");
  const findings = JSON.parse(stdout);
  for (const finding of findings) {
    const names = finding.status === "ok" ? ["check", "detail", "status"] : ["check", "detail", "remedy", "status"];
    assert.deepEqual(Object.keys(finding).sort(), names, JSON.stringify(finding));
    assert.ok(["ok", "warning", "failed"].includes(finding.status));
  }
  const failed = findings.some(({ status }) => status === "failed");
  if (code !== 78) assert.equal(code, failed ? 1 : 0, stdout);
  /** The findings of a check: how they ended, and what they say. */
  const of = (name) => findings.filter((finding) => finding.check === name);
  return { code, findings, of, is: (name, status, pattern) => {
    assert.deepEqual(of(name).map((finding) => finding.status), [status], `${name}: ${JSON.stringify(of(name))}`);
    if (pattern) assert.match(JSON.stringify(of(name)), pattern);
  } };
}

async function withSupabase(options, body) {
  const supabase = await startSupabase({ secret: SECRET, ...options });
  const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY, WORKER_AUTH_TOKEN: TOKEN, AUTH_FETCH_TIMEOUT: "1" };
  try {
    return await body(supabase, settings);
  } finally {
    await supabase.stop();
  }
}

describe("check", () => {
  test("all is well", async () => {
    await withSupabase({ keys: [KEYS.ES256, KEYS.RS256] }, async (supabase, settings) => {
      const { code, findings, is } = await check({ ...settings, UPSTREAM_URL: upstream.url });
      assert.equal(code, 0);
      const names = ["settings", "provider", "users", "deployment_file", "token", "api_key", "keys", "user_endpoint", "clock", "upstream", "listen"];
      // Whether the upstream keeps users apart, only its operator knows.
      assert.deepEqual(findings.map(({ check, status }) => [check, status]), names.map((name) => [name, name === "users" ? "warning" : "ok"]));
      is("users", "warning", /open provider of its own/);
      for (const own of [{ AUTH_FORWARD_AUTHORIZATION: "strip" }, { UPSTREAM_AUTHORIZATION: secret("Bearer test-upstream-0123456789") }]) {
        (await check({ ...settings, UPSTREAM_URL: upstream.url, ...own })).is("users", "warning", /x-user-id only/);
      }
      assert.deepEqual((await check(settings)).of("users"), [], "without an upstream");
      is("token", "ok", /\*\*\* from: Environment variable/);
      is("keys", "ok", /usable keys: 1 of ES256, 1 of RS256"/);
      for (const { headers } of [...supabase.jwks.requests, ...supabase.user.requests]) assert.equal(headers.authorization, undefined, "no token is sent");
      assert.deepEqual(supabase.others, []);
    });
  });

  test("in lines, for people", async () => {
    const { code, stdout } = await cli(["check"], { settings: { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: "test-token-short" } });
    assert.equal(code, 0, "warnings are no failures");
    assert.match(stdout, /^ok {7}settings: /m);
    assert.match(stdout, /^warning {2}token: \*\*\* .* \(set WORKER_AUTH_TOKEN .*\)$/m);
    assert.ok(!stdout.includes("test-token-short"));
  });

  test("wrong settings, all of them", async () => {
    const wrong = { ENV: "prod", AUTH_PROVIDER: "jwt", ADMIN_TOKEN: secret("two words-0123456789"), LOG_LEVEL: "loud" };
    const { code, findings } = await check(wrong);
    assert.equal(code, 78);
    assert.deepEqual(findings.map(({ check, status, detail }) => `${check} ${status} ${detail.split(":")[0]}`).sort(), Object.keys(wrong).map((name) => `settings failed ${name}`).sort());
  });

  test("a setting with a slip in its name", async () => {
    const [settled, slip] = (await check({ ...STATIC, AUTH_PROVIDR: "none" })).of("settings");
    assert.deepEqual([settled.status, slip.status, slip.detail], ["ok", "warning", "AUTH_PROVIDR is not a setting, and does nothing"]);
    assert.match(slip.remedy, /AUTH_PROVIDER/);
  });

  test("who may pass", async () => {
    (await check(STATIC)).is("provider", "ok", /ENV=development/);
    (await check({})).is("provider", "warning", /AUTH_PROVIDER is not set/);
    (await check({ ...STATIC, AUTH_PROVIDER: undefined })).is("provider", "ok", /every request needs the token/);
    for (const [settings, warned] of [
      [{ NODETOOL_ENV: "production" }, /NODETOOL_ENV is `production`, but/],
      [{ NODETOOL_ENV: "production", AUTH_LISTEN: "0.0.0.0:0" }, /NODETOOL_ENV is `production`, but/],
      [{ AUTH_LISTEN: "0.0.0.0:0" }, /ENV is not set, so this is a development gateway/],
      [{ AUTH_LISTEN: "0.0.0.0:0", ENV: "development" }, undefined],
      [{ NODETOOL_ENV: "production", ENV: "production" }, undefined],
      [{}, undefined],
    ]) {
      const [, ...warnings] = (await check({ ...STATIC, ...settings })).of("settings");
      assert.equal(warnings.length, warned ? 1 : 0, JSON.stringify([settings, warnings]));
      if (warned) assert.match(warnings[0].detail, warned);
    }
    assert.match((await cli(["check"], { settings: { AUTH_PROVIDER: "multi_user" } })).stdout, /`multi_user` is a mode of NodeTool's own server/);
    (await check({ AUTH_PROVIDER: "none" })).is("provider", "ok");
    (await check({ AUTH_PROVIDER: "none", AUTH_LISTEN: "0.0.0.0:0" })).is("provider", "warning", /lets everyone in/);
    (await check({ AUTH_PROVIDER: "none", ENV: "production", AUTH_ALLOW_INSECURE: "1" })).is("provider", "warning", /AUTH_ALLOW_INSECURE/);
    assert.equal((await check({ AUTH_PROVIDER: "none", ENV: "production" })).code, 78);
  });

  test("the token and its file", async () => {
    const provider = { AUTH_PROVIDER: "static" };
    await withHome(undefined, async (home, file) => {
      const { is } = await check(provider, { home });
      is("deployment_file", "ok", /does not exist; its folder would be made/);
      is("token", "ok", /none yet/);
      assert.ok(!existsSync(path.dirname(file)), "nothing was made");
    });
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home) => {
      const { is } = await check(provider, { home });
      is("deployment_file", "ok");
      is("token", "ok", /\*\*\* worker_auth_token, from: Config file/);
    });
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
      const { is, of } = await check(provider, { home });
      is("deployment_file", "warning", /mode is 0644/);
      assert.equal(of("deployment_file")[0].remedy, `run: chmod 600 '${file}'`);
    }, 0o644);
    await withHome(`accepted_tokens:\n  - name: ci\n    sha256: ${"ab".repeat(32)}\n`, async (home) => (await check(provider, { home })).is("token", "ok", /accepted_tokens/));
    await withHome(`worker_auth_token: '${secret("two words 0123456789-0123456789")}'\n`, async (home) => (await check(provider, { home })).is("token", "failed", /worker_auth_token in Config file/));
    await withHome("worker_auth_token: short-one\n", async (home) => (await check(provider, { home })).is("token", "warning", /9 characters/));
    await withHome("a: [\n", async (home, file) => {
      const { is } = await check(provider, { home });
      is("deployment_file", "failed", /line \d+/);
      is("token", "failed");
      assert.equal(readFileSync(file, "utf8"), "a: [\n");
    });
    await withHome("other: 1\n", async (home, file) => {
      const inFile = { ...provider, NODETOOL_CONFIG_PATH: path.join(home, "x", "deployment.yaml") };
      writeFile(path.join(home, "x"), "");
      (await check(inFile, { home })).is("deployment_file", "failed");
      (await check(provider, { home })).is("token", "ok", /none yet/);
      assert.equal(readFileSync(file, "utf8"), "other: 1\n", "no token is added");
    });
  });

  test("a folder in which no token can be saved", async () => {
    await withHome(undefined, async (home) => {
      const binary = path.join(home, "nodetool-auth");
      copyFileSync(NATIVE_BINARY, binary);
      chmodSync(home, 0o555);
      // Root may write everywhere, so that it has to be somebody else who looks.
      const user = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};
      (await check({ AUTH_PROVIDER: "static" }, { home, binary, user })).is("deployment_file", "failed", /Permission denied.*make the folder writable/);
      chmodSync(home, 0o755);
    });
  });

  test("a file that is somebody else's", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
      const binary = path.join(home, "nodetool-auth");
      copyFileSync(NATIVE_BINARY, binary);
      chmodSync(home, 0o755);
      chmodSync(path.dirname(file), 0);
      const user = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};
      const { is } = await check({ AUTH_PROVIDER: "static" }, { home, binary, user });
      is("deployment_file", "failed", /cannot read .*Permission denied.*as the user whose file it is/);
      is("token", "failed");
      const { code, stderr } = await cli(["explain", "--path", "/"], { settings: { AUTH_PROVIDER: "static" }, home, binary, user });
      assert.equal(code, 1);
      assert.match(stderr, /cannot explain this: cannot read/);
      chmodSync(path.dirname(file), 0o700);
    });
  });

  test("what kind of API key it is", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      const jwt = (role) => secret(`${encode('{"alg":"HS256"}')}.${encode(JSON.stringify({ iss: "supabase", role }))}.${encode("signature-signature")}`);
      for (const [key, status] of [[secret("sb_secret_0123456789-abcdefgh"), "warning"], [jwt("service_role"), "warning"], [jwt("anon"), "ok"], [API_KEY, "ok"]]) {
        (await check({ ...settings, SUPABASE_KEY: key })).is("api_key", status);
      }
    });
  });

  test("keys that cannot be had", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      for (const mode of ["404", "500", "hang", "reset", "garbage", "empty", "redirect", "oversized"]) {
        supabase.jwks.mode = mode;
        const began = Date.now();
        (await check(settings)).is("keys", "failed");
        assert.ok(Date.now() - began < 4000, `${mode}: within its time limit`);
      }
      await supabase.down();
      const { is } = await check(settings);
      is("keys", "failed");
      is("user_endpoint", "failed");
      is("clock", "warning", /no server answered/);
    });
  });

  test("a project without public keys, and its secret", async () => {
    await withSupabase({}, async (supabase, settings) => {
      (await check(settings)).is("keys", "warning", /each is asked about/);
      const known = await check({ ...settings, SUPABASE_JWT_SECRET: SECRET });
      known.is("keys", "ok", /SUPABASE_JWT_SECRET/);
      known.is("jwt_secret", "ok");
      (await check({ ...settings, SUPABASE_JWT_SECRET: secret("only-twenty-bytes-20") })).is("jwt_secret", "warning");
    });
  });

  test("pinned keys: nothing is asked", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      const { is } = await check({ ...settings, SUPABASE_JWKS: JSON.stringify({ keys: [KEYS.ES256.jwk] }) });
      is("keys", "ok", /pinned/);
      assert.equal(supabase.jwks.calls + supabase.user.calls, 0);
    });
  });

  test("the user endpoint, and whether it takes the API key", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      (await check(settings)).is("user_endpoint", "ok", /takes SUPABASE_KEY/);
      (await check({ ...settings, SUPABASE_KEY: secret("sb_publishable_of-another-project") })).is("user_endpoint", "failed", /refused SUPABASE_KEY/);
      for (const [mode, status] of [["429", "warning"], ["404", "failed"], ["500", "failed"], ["hang", "failed"], ["reset", "failed"]]) {
        supabase.user.mode = mode;
        (await check(settings)).is("user_endpoint", status);
      }
    });
  });

  test("clocks that differ", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      const dated = (seconds) => (response) => response.writeHead(401, { date: new Date(Date.now() + seconds * 1000).toUTCString() }).end("{}");
      for (const [seconds, status, pattern] of [[-10, "ok", /ahead/], [120, "warning", /behind/], [-120, "warning", /AUTH_LEEWAY \(30 s\)/], [400, "failed", /behind/], [-400, "failed", /ahead/]]) {
        supabase.user.mode = dated(seconds);
        (await check(settings)).is("clock", status, pattern);
      }
      supabase.user.mode = dated(120);
      (await check({ ...settings, AUTH_LEEWAY: "200" })).is("clock", "ok");
      supabase.user.mode = "hang";
      supabase.jwks.mode = (response) => response.writeHead(200, { date: new Date(Date.now() - 500_000).toUTCString(), age: "500" }).end('{"keys":[]}');
      (await check(settings)).is("clock", "ok");
    });
  });

  test("the upstream and the port", async () => {
    (await check({ ...STATIC, UPSTREAM_URL: upstream.url })).is("upstream", "ok", /takes connections/);
    (await check(STATIC)).is("upstream", "ok", /the gateway itself answers/);
    (await check({ ...STATIC, UPSTREAM_URL: `http://${NOWHERE}` })).is("upstream", "failed", /UPSTREAM_URL/);
    for (const answer of [(socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), () => {}]) {
      const server = net.createServer((socket) => answer(socket.on("error", () => {}).resume())).listen(0, "127.0.0.1");
      await once(server, "listening");
      const address = `127.0.0.1:${server.address().port}`;
      try {
        (await check({ ...STATIC, AUTH_LISTEN: address })).is("listen", "failed", /in use/);
      } finally {
        server.close();
      }
      await once(server, "close");
      (await check({ ...STATIC, AUTH_LISTEN: address })).is("listen", "ok");
    }
  });

  test("beside a gateway that runs", async () => {
    for (const settings of [STATIC, { AUTH_PROVIDER: "none" }]) {
      await withHost("native", { settings }, async (host) => {
        const { code, is } = await check({ ...settings, AUTH_LISTEN: `127.0.0.1:${host.port}` });
        is("listen", "warning", /a gateway listens on/);
        assert.equal(code, 0);
      });
    }
  });
});

async function explain(settings, { method = "GET", target = "/v1/models", headers = [], token, args = [], ...options } = {}) {
  const lines = headers.map(([name, value]) => `${name}: ${value}`).join("\n");
  const input = token === undefined ? ["--headers-stdin"] : ["--token-stdin"];
  register("a token on standard input", token);
  const { code, stdout, stderr } = await cli(["explain", "--json", "--method", method, "--path", target, ...input, ...args], { settings, input: token ?? lines, ...options });
  const explanation = code === 0 || code === 2 ? JSON.parse(stdout) : undefined;
  if (explanation) {
    assert.equal(explanation.verdict, code === 0 ? "pass" : "refuse");
    const refused = explanation.steps.filter(({ status }) => status === "refused");
    assert.equal(refused.length > 0, code === 2, `a refusal has a step that says why, and nothing else has: ${JSON.stringify(explanation)}`);
  }
  const step = (name) => explanation.steps.find((step) => step.step === name);
  return { code, stderr, explanation, step };
}

describe("explain", () => {
  test("stable names", async () => {
    const refused = await explain(STATIC);
    assert.equal(refused.code, 2);
    assert.deepEqual(Object.keys(refused.explanation).sort(), ["answer", "method", "path", "reason", "steps", "verdict"]);
    assert.deepEqual([refused.explanation.reason, refused.explanation.answer.status, refused.explanation.answer.headers["www-authenticate"]], ["no_credential", 401, "Bearer"]);
    const passes = await explain({ ...STATIC, UPSTREAM_URL: upstream.url }, { token: TOKEN });
    assert.equal(passes.code, 0);
    assert.deepEqual(Object.keys(passes.explanation).sort(), ["identity", "method", "path", "steps", "upstream", "verdict"]);
    assert.deepEqual(passes.explanation.identity, { user_id: "1", token_type: "static", role: null });
    const seen = Object.fromEntries(passes.explanation.upstream.headers);
    assert.deepEqual([seen.authorization, seen["x-user-id"], seen["x-forwarded-for"], seen.host], ["Bearer ***", "1", "127.0.0.1", upstream.url.slice(7)]);
    for (const step of passes.explanation.steps) assert.deepEqual(Object.keys(step).sort(), ["detail", "status", "step"]);
  });

  test("in lines, for people", async () => {
    const { code, stdout } = await cli(["explain", "--path", "/x/..%2fadmin", "--header", "X-Custom: 1"], { settings: STATIC });
    assert.equal(code, 2);
    assert.match(stdout, /^info {5}path: falls under \/admin, read as `\/admin`$/m);
    assert.match(stdout, /^refused: no_credential$/m);
    assert.match(stdout, /^the answer would be: 401 /m);
  });

  test("failures and their exit status", async () => {
    assert.equal((await explain({ AUTH_PROVIDER: "x" })).code, 78);
    assert.equal((await explain(STATIC, { target: "no-slash" })).code, 1);
    for (const header of ["Authorization: Bearer x", "X-Admin-Token: x", "Cookie: a=b", "no colon"]) {
      assert.equal((await explain(STATIC, { args: ["--header", header] })).code, 1, header);
    }
    assert.equal((await cli(["explain"], { settings: STATIC })).code, 1);
    const { stdout } = await cli(["explain", "--help"]);
    assert.match(stdout, /Exit status: 0 if the request would pass, 2 if it would be refused/);
  });

  test("a token is generated and saved by nobody", async () => {
    await withHome(undefined, async (home, file) => {
      const { explanation } = await explain({ AUTH_PROVIDER: "static" }, { token: secret("some-token-0123456789-abcdef"), home });
      assert.equal(explanation.reason, "invalid_token");
      assert.ok(!existsSync(path.dirname(file)));
    });
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home) => assert.equal((await explain({ AUTH_PROVIDER: "static" }, { token: TOKEN, home })).code, 0));
  });

  test("what comes by standard input is not shown", async () => {
    const headers = [["Authorization", `Bearer ${TOKEN}`], ["X-Api-Key", secret("api-key-0123456789-abcdefgh")]];
    const { explanation } = await explain({ ...STATIC, UPSTREAM_URL: upstream.url }, { headers });
    const seen = Object.fromEntries(explanation.upstream.headers);
    assert.deepEqual([seen.authorization, seen["x-api-key"]], ["Bearer ***", "***"]);
  });

  test("a static token that looks like a user's is not read as one", async () => {
    const token = secret("eyJub3QgYSBKV1Qi.0123456789.abcdefgh");
    const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: `http://${NOWHERE}`, SUPABASE_KEY: API_KEY, WORKER_AUTH_TOKEN: token, ADMIN_TOKEN: secret("admin-token-0123456789-abcdef") };
    const passes = await explain(settings, { token });
    assert.deepEqual([passes.code, passes.step("static_token").status, passes.step("header")], [0, "ok", undefined]);
    const admin = await explain(settings, { token, target: "/admin" });
    assert.deepEqual([admin.explanation.reason, admin.step("admin").status, admin.step("header")], ["no_admin_token", "refused", undefined]);
  });

  test("which step refuses", async () => {
    const refuses = async (name, reason, settings, request, pattern = /./) => {
      const { explanation, step } = await explain(settings, { token: TOKEN, ...request });
      assert.deepEqual([explanation.reason, step(name)?.status], [reason, "refused"], JSON.stringify(explanation.steps));
      assert.match(step(name).detail, pattern);
    };
    await refuses("rule", "malformed_request", STATIC, { target: "/%00" });
    await refuses("rule", "forbidden_method", STATIC, { method: "TRACE" });
    await refuses("credential", "malformed_credential", STATIC, { token: "a b" });
    await refuses("credential", "malformed_credential", STATIC, { token: undefined, headers: [["Authorization", `Bearer ${TOKEN}`], ["Authorization", `Bearer ${TOKEN}`]] });
    await refuses("static_token", "invalid_token", STATIC, { token: secret("some-token-0123456789-abcdef") });
    const ofUser = secret(legacyToken({ sub: "u1" }));
    await refuses("static_token", "invalid_token", STATIC, { token: ofUser }, /AUTH_PROVIDER=supabase/);
    await refuses("admin", "no_admin_token", { ...STATIC, ADMIN_TOKEN: secret("admin-token-0123456789-abcdef") }, { target: "/%61dmin" });
    await refuses("terminal", "terminal_not_served", STATIC, { target: "/terminal/x" }, /NODETOOL_ENABLE_TERMINAL_WS/);
    await refuses("own_path", "no_such_own_path", STATIC, { target: "/.auth/x" });
    await refuses("own_path", "own_path_method", STATIC, { target: "/.auth/whoami", method: "POST" });
    const old = secret("old-token-0123456789-abcdefgh");
    const list = `accepted_tokens:\n  - name: old\n    sha256: ${createHash("sha256").update(old).digest("hex")}\n    not_after: 1\n`;
    await withHome(list, (home) => refuses("static_token", "expired_static_token", { AUTH_PROVIDER: "static" }, { token: old, home }, /not_after/));
  });

  test("where the request comes from", async () => {
    const open = { ENV: "development" };
    assert.equal((await explain(open)).code, 0);
    const remote = await explain(open, { args: ["--peer", "192.0.2.1"] });
    assert.deepEqual([remote.code, remote.step("local").status], [2, "info"]);
    assert.equal((await explain(open, { args: ["--header", "X-Forwarded-For: 192.0.2.1"] })).code, 2);
    // A header that is given twice is sent twice.
    const twice = await explain(open, { args: ["--header", "Host: localhost", "--header", "Host: localhost"] });
    assert.equal(twice.explanation.reason, "malformed_request");
  });

  for (const file of readdirSync(VECTORS).filter((name) => name.endsWith(".json") && name !== "settings.json")) {
    test(`says what the server does: ${file}`, () => agrees(JSON.parse(readFileSync(new URL(file, VECTORS), "utf8"))));
  }

  /** The server's answer and the reason in its log, beside those of `explain`. */
  async function agrees(cases) {
    const groups = new Map();
    for (const vector of cases.filter(({ hosts = ["native"], store }) => hosts.includes("native") && store == null)) {
      const settings = { ...vector.settings, ...(vector.settings.UPSTREAM_URL && { UPSTREAM_URL: upstream.url }) };
      const key = JSON.stringify(settings);
      groups.set(key, { settings, vectors: [...(groups.get(key)?.vectors ?? []), vector] });
    }
    let compared = 0;
    for (const { settings, vectors } of groups.values()) {
      // The first ones of each kind of settings.
      const sample = vectors.slice(0, 12);
      const host = await startNative({ settings });
      const home = temporaryFolder();
      try {
        for (const { name, request: { method, target, headers = [], body } } of sample) {
          const all = headers.some(([name]) => name.toLowerCase() === "host") ? headers : [["Host", `127.0.0.1:${host.port}`], ...headers];
          const framed = body === undefined ? all : [...all, ["Content-Length", String(Buffer.byteLength(body))]];
          const told = await explain(settings, { method, target, headers: framed, home });
          const before = host.log().length;
          const answer = await ask(host.port, request({ method, target, headers: all, body }), { head: method === "HEAD" });
          if (told.code === 1) {
            assert.equal(answer.status, 400, `${name}: ${told.stderr}`);
            continue;
          }
          compared += 1;
          const { verdict, reason, answer: own } = told.explanation;
          if (verdict === "pass") {
            assert.ok(answer.status < 300, `${name}: passes, and was answered ${answer.status} ${answer.body}`);
            if (own && method !== "HEAD" && answer.header("content-type") === "application/json") assert.equal(own.status, answer.status);
            continue;
          }
          assert.equal(own.status, answer.status, name);
          for (const header of ["www-authenticate", "allow", "retry-after"]) assert.equal(own.headers[header], answer.header(header), `${name}: ${header}`);
          if (method !== "HEAD") assert.deepEqual({ detail: own.detail }, JSON.parse(answer.body), name);
          const logged = await until(`a reason for ${name}`, 5000, () => /reason="?(\w+)"?/.exec(host.log().slice(before).replaceAll(/\x1b\[\d*m/g, ""))?.[1]);
          assert.equal(reason, logged, name);
        }
      } finally {
        await host.stop();
        rmSync(home, { recursive: true });
      }
    }
    assert.ok(compared > 0 || groups.size === 0, "something was compared");
  }

  test("says what the server does with the tokens of a Supabase project", async () => {
    await withSupabase({ keys: [KEYS.ES256, KEYS.RS256] }, async (supabase, base) => {
      const settings = { ...base, UPSTREAM_URL: upstream.url, AUTH_ADMIN_ROLES: "service", SUPABASE_ALLOW_ANONYMOUS: "no" };
      const claims = (changes) => claimsOf(supabase, changes);
      const unknown = makeKey("ES256");
      const good = await userToken(KEYS.ES256, claims());
      const [head, body] = good.split(".");
      const cases = [
        [good, null, { header: "ok", "claim.exp": "ok", keys: "ok", key: "ok", signature: "ok" }],
        [await userToken(KEYS.RS256, claims()), null, { signature: "ok" }],
        [`${head}.${body}.${encode(Buffer.alloc(64, 1))}`, "bad_signature", { key: "ok", signature: "refused" }],
        [await userToken(KEYS.ES256, claims({ exp: now() - 100 })), "expired_token", { "claim.exp": "refused", "claim.iat": "ok" }],
        [await userToken(KEYS.ES256, claims({ nbf: now() + 100 })), "unacceptable_claims", { "claim.nbf": "refused" }],
        [await userToken(KEYS.ES256, claims({ iss: "https://evil.example/auth/v1" })), "unacceptable_claims", { "claim.iss": "refused", "claim.aud": "ok" }],
        [await userToken(KEYS.ES256, claims({ aud: "other" })), "unacceptable_claims", { "claim.aud": "refused" }],
        [await userToken(KEYS.ES256, claims({ sub: undefined })), "unacceptable_claims", { "claim.sub": "refused" }],
        [await userToken(KEYS.ES256, claims({ role: undefined })), "unacceptable_claims", { "claim.role": "refused" }],
        [await userToken(KEYS.ES256, claims({ is_anonymous: true })), "unacceptable_claims", { "claim.is_anonymous": "refused" }],
        [await userToken(KEYS.ES256, claims(), { jku: "https://evil.example" }), "forbidden_token_header", { header: "refused" }],
        [`${encode('{"alg":"none"}')}.${body}.`, "unsupported_algorithm", { header: "refused" }],
        [legacyToken(claims()), null, { user: "ok" }],
        [legacyToken(claims(), { secret: "another-secret-0123456789-abcdefgh" }), "user_refused", { user: "refused" }],
        [await userToken(unknown, claims()), "user_refused", { keys: "ok", user: "refused" }],
        [good, "not_an_admin", { signature: "ok", path: "info" }, "/%61dmin/x"],
        [TOKEN, null, { credential: "info" }],
      ];
      const host = await startNative({ settings });
      try {
        await inParallel(cases, 2, async ([token, reason, steps, target = "/v1/models"], index) => {
          secret(token);
          const { explanation, step } = await explain(settings, { token, target });
          assert.equal(explanation.reason ?? null, reason, `${index}: ${JSON.stringify(explanation, null, 1)}`);
          for (const [name, status] of Object.entries(steps)) assert.equal(step(name)?.status, status, `${index} ${name}: ${JSON.stringify(explanation.steps)}`);
          const answer = await ask(host.port, request({ target, headers: [["Host", "127.0.0.1"], ["Authorization", `Bearer ${token}`]] }));
          assert.equal(explanation.answer?.status ?? 200, answer.status, `${index}: the server answers ${answer.status} ${answer.body}`);
          assert.equal(explanation.answer?.headers["www-authenticate"], answer.header("www-authenticate"));
        });
      } finally {
        await host.stop();
      }
    });
  });

  test("with the legacy secret, and with a pinned key", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      const legacy = { ...settings, SUPABASE_JWT_SECRET: SECRET };
      const right = await explain(legacy, { token: secret(legacyToken(claimsOf(supabase))) });
      assert.deepEqual([right.code, right.step("signature").status], [0, "ok"]);
      const wrong = await explain(legacy, { token: secret(legacyToken(claimsOf(supabase), { secret: "another-secret-0123456789-abcdefgh" })) });
      assert.deepEqual([wrong.explanation.reason, wrong.step("signature").status], ["bad_signature", "refused"]);
      const pinned = await explain({ ...settings, SUPABASE_JWKS: JSON.stringify({ keys: [KEYS.RS256.jwk] }) }, { token: secret(await userToken(KEYS.ES256, claimsOf(supabase))) });
      assert.deepEqual([pinned.explanation.reason, pinned.step("key").status], ["unknown_key", "refused"]);
      assert.equal(supabase.jwks.calls + supabase.user.calls, 0);
    });
  });

  test("a project that does not answer", async () => {
    await withSupabase({ keys: [KEYS.ES256] }, async (supabase, settings) => {
      const token = secret(await userToken(KEYS.ES256, claimsOf(supabase)));
      supabase.jwks.mode = "hang";
      const keys = await explain(settings, { token });
      assert.deepEqual([keys.explanation.reason, keys.explanation.answer.status, keys.step("keys").status], ["keys_unavailable", 503, "refused"]);
      supabase.user.mode = "reset";
      const user = await explain(settings, { token: secret(legacyToken(claimsOf(supabase))) });
      assert.deepEqual([user.explanation.reason, user.step("user").status], ["user_unavailable", "refused"]);
    });
  });
});

test("every subcommand tells its exit status", async () => {
  const subcommands = [[], ["serve"], ["check"], ["explain"], ["completions"], ["token"], ...["show", "generate", "rotate", "hash", "path"].map((name) => ["token", name])];
  for (const words of subcommands) {
    const { code, stdout } = await cli([...words, "--help"]);
    assert.equal(code, 0);
    assert.match(stdout, /Exit status: 0 /, words.join(" "));
    const wrong = await cli([...words, "--nonsense"]);
    assert.deepEqual([wrong.code, wrong.stdout], [1, ""], words.join(" "));
    assert.match(wrong.stderr, /--nonsense/);
  }
});

describe("completions", () => {
  for (const shell of ["bash", "zsh", "fish", "powershell", "elvish"]) {
    test(shell, async () => {
      const { code, stdout } = await cli(["completions", shell]);
      assert.equal(code, 0);
      for (const word of ["nodetool-auth", "explain", "auth-provider"]) assert.ok(stdout.includes(word), word);
      if (shell === "bash") execFileSync("bash", ["-n"], { input: stdout });
    });
  }

  test("bash completes subcommands and flags", async () => {
    const { stdout } = await cli(["completions", "bash"]);
    const complete = (...words) => {
      const ask = `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); registered=$(complete -p nodetool-auth); registered=\${registered#*-F }; "\${registered%% *}" nodetool-auth "\${@: -1}" "\${@: -2:1}"; echo "\${COMPREPLY[@]}"`;
      return execFileSync("bash", ["-c", `${stdout}\n${ask}`, "bash", "nodetool-auth", ...words], { encoding: "utf8" }).trim().split(" ");
    };
    assert.deepEqual(complete("exp"), ["explain"]);
    assert.deepEqual(complete("token", "r"), ["rotate"]);
    assert.deepEqual(complete("completions", "z"), ["zsh"]);
    assert.deepEqual(complete("explain", "--token"), ["--token-stdin"]);
    assert.ok(!complete("serve", "--").includes("--worker-auth-token"), "no secret on a command line");
  });

  test("no other shell", async () => assert.equal((await cli(["completions", "cobol"])).code, 1));
});
