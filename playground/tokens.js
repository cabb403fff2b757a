// Tokens of a project that there is not: made and signed in this page, with a key that is made anew each time it is opened.

const encoder = new TextEncoder();
const ES256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A project, with its key set as it would give it out. */
export async function makeProject(url) {
  const { publicKey, privateKey } = await crypto.subtle.generateKey(ES256, false, ["sign", "verify"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", publicKey);
  const kid = "made-in-this-page";
  return {
    url,
    jwks: JSON.stringify({ keys: [{ kty, crv, kid, alg: "ES256", use: "sig", x, y }] }),
    sign: (claims) => signed({ alg: "ES256", typ: "JWT", kid }, claims, (message) => crypto.subtle.sign(ES256, privateKey, message)),
  };
}

/** A token of the legacy secret. */
export async function signWithSecret(secret, claims) {
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return signed({ alg: "HS256", typ: "JWT" }, claims, (message) => crypto.subtle.sign("HMAC", key, message));
}

/** What a user's token says, an hour before its end. */
export function userClaims(url, changes = {}) {
  const now = Math.floor(Date.now() / 1000);
  return { iss: `${url}/auth/v1`, aud: "authenticated", sub: "8f14e45f-ceea-4672-9d2b-3f1c0b9f7a11", role: "authenticated", iat: now - 60, exp: now + 3600, is_anonymous: false, ...changes };
}

async function signed(header, claims, sign) {
  const message = `${encoded(encoder.encode(JSON.stringify(header)))}.${encoded(encoder.encode(JSON.stringify(claims)))}`;
  return `${message}.${encoded(new Uint8Array(await sign(encoder.encode(message))))}`;
}

/** Base64url without padding. */
function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
