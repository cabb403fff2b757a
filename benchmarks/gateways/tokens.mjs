// Tokens like Supabase's, good ones by the thousand, and bad ones that no gateway may let through.
import { randomBytes } from "node:crypto";

import { KEYS, SECRET, claimsOf, encode, handmade, headerOf, hmacToken, makeKey, now } from "../../tests/http/support/jwt.mjs";

export const STATIC = "benchmark-token-0123456789-abcdefgh";
export const PROJECT = "http://127.0.0.1:9999";
export const ISSUER = `${PROJECT}/auth/v1`;
export const AUDIENCE = "authenticated";
export { KEYS, SECRET, encode };

const supabase = { issuer: ISSUER };

/** About as long as those of a real project: 900 bytes. */
const claims = (changes) => claimsOf(supabase, { exp: now() + 4 * 3600, app_metadata: { provider: "email", providers: ["email"], tenant: encode(randomBytes(60)) }, ...changes });

function sign(alg, claims, { key = KEYS[alg], secret = SECRET, header = {} } = {}) {
  if (alg === "HS256") return hmacToken(secret, JSON.stringify({ alg, typ: "JWT", ...header }), JSON.stringify(claims));
  return handmade(key, headerOf(key, header), JSON.stringify(claims));
}

/** All different: another user, session and signature each. */
export const goodTokens = (alg, count) => Array.from({ length: count }, () => sign(alg, claims()));

/** What must be refused, by name. Each is right but for one thing. */
export function badTokens(alg) {
  const good = sign(alg, claims());
  const [header, payload, signature] = good.split(".");
  const stranger = alg === "HS256" ? { secret: `${SECRET}-of-somebody-else` } : { key: { ...makeKey(alg), kid: KEYS[alg].kid } };
  const pem = alg === "HS256" ? SECRET : KEYS[alg].publicKey.export({ type: "spki", format: "pem" });
  const unsigned = (alg) => `${encode(JSON.stringify({ alg, typ: "JWT" }))}.${payload}.`;
  return {
    "another key": sign(alg, claims(), stranger),
    "a changed payload": [header, encode(JSON.stringify(claims({ sub: "somebody-else" }))), signature].join("."),
    "no signature": `${header}.${payload}.`,
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    ...(alg !== "HS256" && { "HS256 with the public key": hmacToken(pem, JSON.stringify({ alg: "HS256", kid: KEYS[alg].kid, typ: "JWT" }), JSON.stringify(claims())) }),
    expired: sign(alg, claims({ exp: now() - 600 })),
    "no exp": sign(alg, claims({ exp: undefined })),
    "exp of another kind": sign(alg, claims({ exp: "soon" })),
    "not yet valid": sign(alg, claims({ nbf: now() + 600 })),
    "another issuer": sign(alg, claims({ iss: "http://127.0.0.1:9998/auth/v1" })),
    "no issuer": sign(alg, claims({ iss: undefined })),
    "another audience": sign(alg, claims({ aud: "anon" })),
    "no sub": sign(alg, claims({ sub: undefined })),
    "no role": sign(alg, claims({ role: undefined })),
    "two parts": `${header}.${payload}`,
    garbage: "eyJhbGciOi.garbage.garbage",
  };
}

export const BAD_STATIC = { "another token": STATIC.replace("a", "b"), "a part of the token": STATIC.slice(0, -1), "more than the token": `${STATIC}x`, "other case": STATIC.toUpperCase() };
