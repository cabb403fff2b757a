// Keys of every kind, tokens like Supabase's, and tokens as no library would make them.
import { constants, createHmac, generateKeyPairSync, randomUUID, sign as signBytes } from "node:crypto";
import { SignJWT } from "jose";

export const ALGORITHMS = ["ES256", "RS256", "RS384", "RS512", "PS256", "EdDSA"];

/** The secret of a project that still signs with HS256. */
export const SECRET = "test-jwt-secret-0123456789-abcdefghijklmnopqrstuvwxyz";

/** @typedef {{alg: string, kid: string, privateKey: import("node:crypto").KeyObject, jwk: object}} Key `jwk`: as it is published */

/** @returns {Key} */
export function makeKey(alg, { kid = randomUUID(), bits = 2048, exponent = 65_537, curve = "P-256", ...members } = {}) {
  const { publicKey, privateKey } =
    alg === "EdDSA" ? generateKeyPairSync("ed25519") : alg.startsWith("ES") ? generateKeyPairSync("ec", { namedCurve: curve }) : generateKeyPairSync("rsa", { modulusLength: bits, publicExponent: exponent });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg, use: "sig", key_ops: ["verify"], ext: true, ...members };
  return { alg, kid, privateKey, publicKey, jwk: clean(jwk) };
}

/** One key for each algorithm, made once in a run. */
export const KEYS = Object.fromEntries(ALGORITHMS.map((alg) => [alg, makeKey(alg)]));
export const ALL_KEYS = Object.values(KEYS);

export const now = () => Math.floor(Date.now() / 1000);

/** The claims of a user's access token. A member set to `undefined` is left out. */
export function claimsOf(supabase, changes = {}) {
  const issued = now() - 5;
  return clean({
    iss: supabase.issuer,
    sub: randomUUID(),
    aud: "authenticated",
    exp: issued + 3600,
    iat: issued,
    email: "user@example.com",
    phone: "",
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: { email: "user@example.com", email_verified: true, name: "Zoë ✓" },
    role: "authenticated",
    aal: "aal1",
    amr: [{ method: "password", timestamp: issued }],
    session_id: randomUUID(),
    is_anonymous: false,
    ...changes,
  });
}

/** A token as Supabase makes it, by `jose`. */
export function userToken(key, claims, header = {}) {
  const protectedHeader = clean({ alg: key.alg, kid: key.kid, typ: "JWT", ...header });
  return new SignJWT(claims).setProtectedHeader(protectedHeader).sign(key.privateKey);
}

/** The same with the project's legacy secret. */
export function legacyToken(claims, { secret = SECRET, alg = "HS256", ...header } = {}) {
  return hmacToken(secret, JSON.stringify(clean({ alg, typ: "JWT", ...header })), JSON.stringify(claims), alg);
}

export const encode = (bytes) => Buffer.from(bytes).toString("base64url");
export const decode = (text) => Buffer.from(text, "base64url");
export const headerOf = (key, changes = {}) => JSON.stringify(clean({ alg: key.alg, kid: key.kid, typ: "JWT", ...changes }));

/** Signs any text with any key, whatever stands in it. */
export function signatureOf(key, text, alg = key.alg) {
  const data = Buffer.from(text);
  const hash = alg === "EdDSA" ? null : `sha${alg.slice(2)}`;
  if (alg.startsWith("ES")) return signBytes(hash, data, { key: key.privateKey, dsaEncoding: "ieee-p1363" });
  if (alg.startsWith("PS")) {
    const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
    return signBytes(hash, data, { key: key.privateKey, ...pss });
  }
  return signBytes(hash, data, key.privateKey);
}

export const derSignatureOf = (key, text) => signBytes("sha256", Buffer.from(text), { key: key.privateKey, dsaEncoding: "der" });

/** A token whose header and payload are these bytes, rightly signed. */
export function handmade(key, header, payload, alg = key.alg) {
  return signedSegments(key, encode(header), encode(payload), alg);
}

/** A token whose first two segments are these texts, rightly signed. */
export function signedSegments(key, header, payload, alg = key.alg) {
  return `${header}.${payload}.${encode(signatureOf(key, `${header}.${payload}`, alg))}`;
}

/** A token with this signature, whatever it is. */
export function withSignature(header, payload, signature) {
  return `${encode(header)}.${encode(payload)}.${encode(signature)}`;
}

export function hmacToken(secret, header, payload, alg = "HS256") {
  const text = `${encode(header)}.${encode(payload)}`;
  return `${text}.${encode(createHmac(`sha${alg.slice(2)}`, secret).update(text).digest())}`;
}

/** The same token with its last `segment` in a second spelling: the bits that no byte uses are set. */
export function respelled(segment) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  if (segment.length % 4 === 0) throw new Error("no spare bits in a segment of this length");
  return segment.slice(0, -1) + alphabet[alphabet.indexOf(segment.at(-1)) + 1];
}

/** Adds `member`, as JSON text, to the text of an object: at its end, or with `first` at its beginning. */
export function insertMember(json, member, { first = false } = {}) {
  return first ? `{${member},${json.slice(1)}` : `${json.slice(0, -1)},${member}}`;
}

/** Puts the raw JSON text `value` for a member, as `JSON.stringify` could not. */
export function withRaw(object, name, value) {
  return insertMember(JSON.stringify({ ...object, [name]: undefined }), `${JSON.stringify(name)}:${value}`);
}

function clean(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
