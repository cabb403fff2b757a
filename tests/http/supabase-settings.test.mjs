// Wrong settings of AUTH_PROVIDER=supabase: each is named, and nothing starts half-configured.
import assert from "node:assert/strict";
import { test as nodeTest } from "node:test";

import { TOKEN, spawnNative, startHost } from "./support/hosts.mjs";
import { ALL_KEYS, SECRET, makeKey } from "./support/jwt.mjs";
import { ask, request } from "./support/raw.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);
const json = JSON.stringify;
const URL_OF_PROJECT = "https://abcdefghijklmnopqrst.supabase.co";
const KEY = "sb_publishable_test-0123456789-abcdefgh";
const RIGHT = { AUTH_PROVIDER: "supabase", SUPABASE_URL: URL_OF_PROJECT, SUPABASE_KEY: KEY, WORKER_AUTH_TOKEN: TOKEN };
const without = (...names) => Object.fromEntries(Object.entries(RIGHT).filter(([name]) => !names.includes(name)));
const pinned = json({ keys: [ALL_KEYS[0].jwk] });
const hidden = "hunter2-hunter2-hunter2-hunter2";

/** `[settings, the names that must be reported]` */
const wrong = [
  [without("SUPABASE_URL"), ["SUPABASE_URL"]],
  [without("SUPABASE_KEY"), ["SUPABASE_KEY"]],
  [without("SUPABASE_URL", "SUPABASE_KEY"), ["SUPABASE_URL", "SUPABASE_KEY"]],
  [{ ...RIGHT, SUPABASE_URL: "  ", SUPABASE_KEY: " " }, ["SUPABASE_URL", "SUPABASE_KEY"]],
  ...["abcdefghijklmnopqrst.supabase.co", "ftp://x.supabase.co", "https://", "https:///", "not a url", "javascript:alert(1)", "https://x.supabase.co:99999", "https://x .supabase.co"].map((url) => [{ ...RIGHT, SUPABASE_URL: url }, ["SUPABASE_URL"]]),
  ...["http://abcdefghijklmnopqrst.supabase.co", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "http://10.0.0.1:54321", "http://[::]:54321", "http://0.0.0.0:54321"].map((url) => [
    { ...RIGHT, ENV: "production", SUPABASE_URL: url }, ["SUPABASE_URL"]]),
  ...["maybe", "2", "none"].map((value) => [{ ...RIGHT, SUPABASE_ALLOW_ANONYMOUS: value }, ["SUPABASE_ALLOW_ANONYMOUS"]]),
  [{ ...RIGHT, SUPABASE_ALLOW_MISSING_ISSUER: "maybe" }, ["SUPABASE_ALLOW_MISSING_ISSUER"]],
  ...["-1", "x", "1.5.1", "30s", "NaN", "1e400"].map((value) => [{ ...RIGHT, AUTH_CACHE_TTL: value }, ["AUTH_CACHE_TTL"]]),
  ...["-1", "x", "1.5"].map((value) => [{ ...RIGHT, AUTH_CACHE_MAX: value }, ["AUTH_CACHE_MAX"]]),
  ...["-1", "301", "x", "3000000000000000000000"].map((value) => [{ ...RIGHT, AUTH_LEEWAY: value }, ["AUTH_LEEWAY"]]),
  ...["x", "-1"].map((value) => [{ ...RIGHT, AUTH_FETCH_TIMEOUT: value }, ["AUTH_FETCH_TIMEOUT"]]),
  [{ ...RIGHT, REMOTE_AUTH_CACHE_TTL: "x" }, ["REMOTE_AUTH_CACHE_TTL"]],
  [{ ...RIGHT, REMOTE_AUTH_CACHE_MAX: "x" }, ["REMOTE_AUTH_CACHE_MAX"]],
  ...["x", "{", "null", "[]", "{}", json({ keys: {} }), `${pinned}x`].map((value) => [{ ...RIGHT, SUPABASE_JWKS: value }, ["SUPABASE_JWKS"]]),
  [
    { ...without("SUPABASE_KEY"), SUPABASE_URL: "x", SUPABASE_JWKS: "x", SUPABASE_ALLOW_ANONYMOUS: "x", AUTH_CACHE_TTL: "x", AUTH_CACHE_MAX: "x", AUTH_LEEWAY: "x", AUTH_FETCH_TIMEOUT: "x", SUPABASE_JWT_SECRET: hidden },
    ["SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_JWKS", "SUPABASE_ALLOW_ANONYMOUS", "AUTH_CACHE_TTL", "AUTH_CACHE_MAX", "AUTH_LEEWAY", "AUTH_FETCH_TIMEOUT"],
  ],
];

const right = [
  RIGHT,
  { ...RIGHT, SUPABASE_URL: `${URL_OF_PROJECT}/` },
  { ...RIGHT, SUPABASE_URL: ` ${URL_OF_PROJECT} `, SUPABASE_KEY: ` ${KEY}\n` },
  ...["http://127.0.0.1:54321", "http://localhost:54321", "http://[::1]:54321"].map((url) => ({ ...RIGHT, ENV: "production", SUPABASE_URL: url })),
  { ...RIGHT, ENV: "development", SUPABASE_URL: "http://supabase.internal:8000" },
  ...["1", "true", "YES", "on", "0", "False", "no", "OFF"].map((value) => ({ ...RIGHT, SUPABASE_ALLOW_ANONYMOUS: value })),
  { ...RIGHT, AUTH_CACHE_TTL: "0", AUTH_CACHE_MAX: "0", AUTH_LEEWAY: "0", AUTH_FETCH_TIMEOUT: "1" },
  { ...RIGHT, AUTH_LEEWAY: "300", AUTH_ADMIN_ROLES: "*", SUPABASE_JWT_SECRET: SECRET, SUPABASE_JWKS: pinned },
  { ...RIGHT, AUTH_PROVIDER: "static", SUPABASE_URL: URL_OF_PROJECT },
];

const shown = (settings) => json(Object.entries(settings).filter(([name, value]) => RIGHT[name] !== value)).slice(0, 100) || "right";
const missing = (settings) => Object.keys(RIGHT).filter((name) => !(name in settings)).map((name) => `no ${name} `).join("");

for (const [settings, names] of wrong) {
  test(`native: ${missing(settings)}${shown(settings)}`, async () => {
    const running = spawnNative({ settings: { AUTH_LISTEN: "127.0.0.1:0", ...settings } });
    running.listening.then(() => running.child.kill(), () => {});
    const { code, stdout, stderr } = await running.exited;
    assert.equal(code, 78, stderr);
    for (const name of names) assert.match(stderr, new RegExp(`^${name}: .`, "m"));
    for (const name of Object.keys(settings).filter((name) => !names.includes(name))) assert.doesNotMatch(stderr, new RegExp(`^${name}: `, "m"));
    for (const secret of [KEY, TOKEN, hidden]) assert.ok(!(stdout + stderr).includes(secret), "a secret is not repeated");
  });
}

for (const [settings] of [wrong[0], wrong[1], wrong[4], wrong.find(([{ ENV }]) => ENV === "production"), wrong.find(([{ SUPABASE_JWKS }]) => SUPABASE_JWKS), wrong.at(-1)]) {
  test(`edge: ${missing(settings)}${shown(settings)}`, async () => {
    const host = await startHost("edge", { settings });
    try {
      for (const target of ["/v1/models", "/health", "/.auth/whoami"]) {
        const answer = await ask(host.port, request({ target, headers: [["Host", "x"], ["Authorization", `Bearer ${TOKEN}`]] }));
        assert.deepEqual([answer.status, answer.body.toString()], [500, '{"detail":"Authentication is misconfigured"}'], target);
      }
      for (const secret of [KEY, TOKEN, hidden]) assert.ok(!host.log().includes(secret));
    } finally {
      await host.stop();
    }
  });
}

for (const settings of right) {
  test(`native starts: ${shown(settings)}`, async () => {
    const host = await startHost("native", { settings });
    try {
      const answer = await ask(host.port, request({ headers: [["Host", "x"], ["Authorization", `Bearer ${TOKEN}`]] }));
      assert.equal(answer.status, 200);
    } finally {
      await host.stop();
    }
  });
}

test("edge: by default it is in production, where http is for loopback only", async () => {
  for (const [settings, status] of [[{ ...RIGHT, SUPABASE_URL: "http://supabase.internal:8000" }, 500], [{ ...RIGHT, SUPABASE_URL: "http://127.0.0.1:54321" }, 200], [{ ...RIGHT, ENV: "development", SUPABASE_URL: "http://supabase.internal:8000" }, 200]]) {
    const host = await startHost("edge", { settings });
    try {
      assert.equal((await ask(host.port, request({ headers: [["Host", "x"], ["Authorization", `Bearer ${TOKEN}`]] }))).status, status, settings.SUPABASE_URL);
    } finally {
      await host.stop();
    }
  }
});

test("no secret of Supabase can stand on a command line", async () => {
  for (const flag of ["--supabase-key", "--supabase-jwt-secret"]) {
    const { code } = await spawnNative({ settings: RIGHT, args: ["serve", flag, makeKey("EdDSA").kid] }).exited;
    assert.notEqual(code, 0, flag);
  }
});
