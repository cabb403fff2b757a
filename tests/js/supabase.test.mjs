// Supabase users through the JavaScript surface: signatures by WebCrypto, keys by `fetch`, from a project over real HTTP.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Gate, initSync } from "../../build/js/dev/gate.js";
import { ALL_KEYS, KEYS, SECRET, claimsOf, legacyToken, makeKey, now, userToken } from "../http/support/jwt.mjs";
import { API_KEY, startSupabase } from "../http/support/supabase.mjs";

initSync({ module: readFileSync(new URL("../../build/js/dev/gate_bg.wasm", import.meta.url)) });

let supabase;
before(async () => (supabase = await startSupabase({ keys: ALL_KEYS, secret: SECRET })));
after(() => supabase.stop());

const gate = (settings = {}) => new Gate({ AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY, ...settings });
const asked = (token, path = "/v1/models") => new Request(`http://gateway.test${path}`, { headers: { authorization: `Bearer ${token}` } });

/** How often the project was asked for keys and about users meanwhile. */
async function calls(body) {
  const [jwks, user] = [supabase.jwks.calls, supabase.user.calls];
  await body();
  return { jwks: supabase.jwks.calls - jwks, user: supabase.user.calls - user };
}

test("users pass by every algorithm, with their identity for the upstream, and keys are fetched once", async () => {
  const one = gate();
  const made = await calls(async () => {
    for (const [alg, key] of Object.entries(KEYS)) {
      const claims = claimsOf(supabase);
      const decision = await one.check(asked(await userToken(key, claims)));
      assert.deepEqual([decision.allowed, decision.userId, decision.tokenType, decision.role, decision.response], [true, claims.sub, "user", "authenticated", null], alg);
      assert.deepEqual([decision.headers.get("x-user-id"), decision.headers.get("x-auth-role")], [claims.sub, "authenticated"]);
    }
  });
  assert.deepEqual(made, { jwks: 1, user: 0 });
});

test("two hundred at once on a cold gate fetch the keys once", async () => {
  const one = gate();
  const tokens = await Promise.all(Array.from({ length: 200 }, () => userToken(KEYS.ES256, claimsOf(supabase))));
  const made = await calls(async () => {
    const decisions = await Promise.all(tokens.map((token) => one.check(asked(token))));
    assert.equal(decisions.filter(({ allowed }) => allowed).length, 200);
  });
  assert.deepEqual(made, { jwks: 1, user: 0 });
});

test("forged, expired and foreign tokens are refused as over HTTP", async () => {
  const one = gate();
  const impostor = makeKey("ES256", { kid: KEYS.ES256.kid });
  for (const [name, token, challenge] of [
    ["another key", await userToken(impostor, claimsOf(supabase)), 'Bearer error="invalid_token"'],
    ["another issuer", await userToken(KEYS.ES256, claimsOf(supabase, { iss: "http://elsewhere.test/auth/v1" })), 'Bearer error="invalid_token"'],
    ["no issuer", await userToken(KEYS.ES256, claimsOf(supabase, { iss: undefined })), 'Bearer error="invalid_token"'],
    ["expired", await userToken(KEYS.ES256, claimsOf(supabase, { exp: now() - 31 })), 'Bearer error="invalid_token", error_description="The access token expired"'],
  ]) {
    // Twice: what is remembered of it must not say anything else.
    for (let time = 1; time <= 2; time += 1) {
      const { allowed, userId, response, headers } = await one.check(asked(token));
      assert.deepEqual([allowed, userId, response.status, response.headers.get("www-authenticate"), [...headers]], [false, null, 401, challenge, []], name);
    }
  }
});

test("tokens without an issuer pass only where a setting says so", async () => {
  const token = await userToken(KEYS.ES256, claimsOf(supabase, { iss: undefined }));
  assert.equal((await gate({ SUPABASE_ALLOW_MISSING_ISSUER: "1" }).verify(token)).allowed, true);
  const foreign = await userToken(KEYS.ES256, claimsOf(supabase, { iss: "http://elsewhere.test/auth/v1" }));
  assert.equal((await gate({ SUPABASE_ALLOW_MISSING_ISSUER: "1" }).verify(foreign)).allowed, false);
});

test("a token alone", async () => {
  const one = gate({ WORKER_AUTH_TOKEN: "test-token-0123456789-abcdefgh" });
  const claims = claimsOf(supabase, { role: "editor" });
  const known = await one.verify(await userToken(KEYS.RS256, claims));
  assert.deepEqual(known, { allowed: true, userId: claims.sub, tokenType: "user", role: "editor", response: null });
  assert.deepEqual(await one.verify("test-token-0123456789-abcdefgh"), { allowed: true, userId: "1", tokenType: "static", role: null, response: null });
  for (const wrong of ["", " ", "test-token-0123456789-abcdefg", "a, b", "Bearer x", "eyJ.eyJ.x"]) {
    const { allowed, response } = await one.verify(wrong);
    assert.deepEqual([allowed, response.status], [false, 401], wrong);
  }
});

test("what is public is so for requests, not for tokens", async () => {
  const one = gate({ AUTH_PUBLIC_PATHS: "/" });
  assert.equal((await one.check(asked("garbage", "/"))).allowed, true);
  for (const wrong of ["garbage", "", "eyJ.eyJ.x"]) {
    const { allowed, response } = await one.verify(wrong);
    assert.deepEqual([allowed, response?.status], [false, 401], wrong);
  }
});

test("gates in one program know nothing of each other's users and keys", async () => {
  const [first, second] = [gate(), gate({ SUPABASE_JWKS: JSON.stringify({ keys: [makeKey("ES256").jwk] }) })];
  const token = await userToken(KEYS.ES256, claimsOf(supabase));
  assert.equal((await first.verify(token)).allowed, true);
  const { response } = await second.verify(token);
  assert.equal(response.status, 401);
});

test("tokens of the legacy secret are asked about, once", async () => {
  const one = gate();
  const claims = claimsOf(supabase);
  const token = await legacyToken(claims);
  const made = await calls(async () => {
    assert.equal((await one.verify(token)).userId, claims.sub);
    assert.equal((await one.verify(token)).userId, claims.sub);
  });
  assert.deepEqual(made, { jwks: 0, user: 1 });
});

test("an outage is no verdict on anybody", async () => {
  const one = gate();
  const token = await userToken(KEYS.ES256, claimsOf(supabase));
  supabase.jwks.mode = "500";
  try {
    const { allowed, response } = await one.check(asked(token));
    assert.deepEqual([allowed, response.status, response.headers.get("retry-after")], [false, 503, "5"]);
  } finally {
    supabase.jwks.mode = "ok";
  }
});

test("a gate may be freed while it judges", async () => {
  const one = gate();
  const token = await userToken(KEYS.ES256, claimsOf(supabase));
  const pending = one.verify(token);
  one.free();
  assert.equal((await pending).allowed, true);
});
