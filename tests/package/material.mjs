// What the package is judged by on every runtime: the vectors, and tokens of a project's users.
import { readFileSync, readdirSync } from "node:fs";

import { KEYS, claimsOf, encode, headerOf, makeKey, now, userToken, withSignature } from "../http/support/jwt.mjs";

const FOLDER = new URL("../vectors/", import.meta.url);

export async function material() {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
  const vectors = Object.fromEntries(files.map((name) => [name, JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"))]));
  return { vectors, users: await users() };
}

const PROJECT = "http://127.0.0.1:54321";

async function users() {
  const supabase = { issuer: `${PROJECT}/auth/v1` };
  const settings = { ENV: "test", AUTH_PROVIDER: "supabase", SUPABASE_URL: PROJECT, SUPABASE_KEY: "sb_publishable_test", AUTH_ADMIN_ROLES: "admin" };
  const cases = [];
  const refused = { status: 401, challenge: 'Bearer error="invalid_token"' };
  for (const [alg, key] of Object.entries(KEYS)) {
    const claims = claimsOf(supabase);
    const good = await userToken(key, claims);
    cases.push({ name: `${alg}: good`, token: good, status: 200, userId: claims.sub, role: "authenticated" });
    const impostor = makeKey(alg, { kid: key.kid });
    cases.push({ name: `${alg}: of another key with that name`, token: await userToken(impostor, claims), ...refused });
    const [header, payload, signature] = good.split(".");
    const bytes = Buffer.from(signature, "base64url");
    bytes[bytes.length >> 1] ^= 1;
    cases.push({ name: `${alg}: a bit of the signature`, token: `${header}.${payload}.${encode(bytes)}`, ...refused });
    const other = encode(JSON.stringify({ ...claims, sub: "11111111-1111-4111-8111-111111111111" }));
    cases.push({ name: `${alg}: other claims`, token: `${header}.${other}.${signature}`, ...refused });
    cases.push({ name: `${alg}: a signature of zeros`, token: `${header}.${payload}.${encode(Buffer.alloc(bytes.length))}`, ...refused });
    cases.push({ name: `${alg}: no signature`, token: `${header}.${payload}.`, ...refused });
    cases.push({ name: `${alg}: another issuer`, token: await userToken(key, claimsOf({ issuer: "http://elsewhere.test/auth/v1" })), ...refused });
    const late = await userToken(key, claimsOf(supabase, { exp: now() - 3600 }));
    cases.push({ name: `${alg}: expired`, token: late, status: 401, challenge: `${refused.challenge}, error_description="The access token expired"` });
  }
  const claims = JSON.stringify(claimsOf(supabase));
  cases.push({ name: "none", token: withSignature(JSON.stringify({ alg: "none", typ: "JWT" }), claims, ""), ...refused });
  cases.push({ name: "a key under the wrong algorithm", token: withSignature(headerOf(KEYS.ES256, { alg: "RS256" }), claims, Buffer.alloc(64)), ...refused });
  return { settings, jwks: { keys: Object.values(KEYS).map(({ jwk }) => jwk) }, cases };
}
