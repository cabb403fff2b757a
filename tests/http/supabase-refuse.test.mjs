// Tokens that must not pass: each attack of RFC 8725 and of real gateways, with its exact answer.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test as nodeTest } from "node:test";

import { EXPIRED, INVALID, INVALID_OR_EXPIRED, startGateway, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import {
  ALL_KEYS, KEYS, SECRET, claimsOf, decode, derSignatureOf, encode, handmade, headerOf, hmacToken, insertMember, legacyToken, makeKey, now, respelled,
  signatureOf, signedSegments, userToken, withRaw, withSignature,
} from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const { ES256, RS256 } = KEYS;
const FOREIGN = { ES256: makeKey("ES256"), RS256: makeKey("RS256"), EdDSA: makeKey("EdDSA") };
const json = JSON.stringify;

/** Groups of `[title, (supabase) => token, refusal = INVALID]`. */
const groups = {
  "no signature": [
    ...["none", "None", "NONE", "nOnE", "none ", "", null, 0, true, [], ["none"], ["ES256"], {}].flatMap((alg) => [
      [`alg ${json(alg)}, none`, (s) => withSignature(headerOf(ES256, { alg }), json(claimsOf(s)), "")],
      [`alg ${json(alg)}, a good one`, (s) => signedSegments(ES256, encode(headerOf(ES256, { alg })), encode(json(claimsOf(s))))],
    ]),
    ["no alg", (s) => handmade(ES256, headerOf(ES256, { alg: undefined }), json(claimsOf(s)))],
    ["an empty signature", (s) => withSignature(headerOf(ES256), json(claimsOf(s)), "")],
    ["an empty signature, HS256", (s) => withSignature(json({ alg: "HS256", typ: "JWT" }), json(claimsOf(s)), "")],
    ["another token's signature", async (s) => `${(await userToken(ES256, claimsOf(s))).split(".").slice(0, 2).join(".")}.${(await userToken(ES256, claimsOf(s))).split(".")[2]}`],
    ["another token's claims", async (s) => {
      const [header, , signature] = (await userToken(ES256, claimsOf(s))).split(".");
      return [header, encode(json(claimsOf(s, { role: "admin" }))), signature].join(".");
    }],
    ["a flipped bit in the signature", (s) => {
      const [header, payload] = [headerOf(ES256), json(claimsOf(s))];
      const signature = signatureOf(ES256, `${encode(header)}.${encode(payload)}`);
      signature[10] ^= 1;
      return withSignature(header, payload, signature);
    }],
  ],

  "the wrong key": [
    ...Object.values(FOREIGN).map((key) => [`a foreign ${key.alg} key under a known kid`, (s) => userToken(key, claimsOf(s), { kid: KEYS[key.alg].kid })]),
    ...Object.values(FOREIGN).map((key) => [`a foreign ${key.alg} key under its own kid`, (s) => userToken(key, claimsOf(s))]),
    ...Object.values(FOREIGN).map((key) => [`a foreign ${key.alg} key without a kid`, (s) => userToken(key, claimsOf(s), { kid: undefined })]),
    ["the right key under another's kid", (s) => userToken(ES256, claimsOf(s), { kid: RS256.kid })],
    ["a kid in another case", (s) => userToken(FOREIGN.ES256, claimsOf(s), { kid: ES256.kid.toUpperCase() })],
    ["a foreign key and a past exp", (s) => userToken(FOREIGN.ES256, claimsOf(s, { exp: now() - 3600 }), { kid: ES256.kid }), INVALID_OR_EXPIRED],
  ],

  "an algorithm that is not the key's": [
    ["ES256 with the kid of an RSA key", (s) => handmade(ES256, headerOf(ES256, { kid: RS256.kid }), json(claimsOf(s)))],
    ["RS256 with the kid of an EC key", (s) => handmade(RS256, headerOf(RS256, { kid: ES256.kid }), json(claimsOf(s)))],
    ["EdDSA with the kid of an EC key", (s) => handmade(KEYS.EdDSA, headerOf(KEYS.EdDSA, { kid: ES256.kid }), json(claimsOf(s)))],
    ...["RS384", "RS512", "PS256"].map((alg) => [`${alg} by an RS256 key`, (s) => handmade(RS256, headerOf(RS256, { alg }), json(claimsOf(s)), alg)]),
    ...["RS256", "PS384"].map((alg) => [`${alg} by a PS256 key`, (s) => handmade(KEYS.PS256, headerOf(KEYS.PS256, { alg }), json(claimsOf(s)), alg)]),
    ["RS256 in name, PS256 in truth", (s) => handmade(RS256, headerOf(RS256), json(claimsOf(s)), "PS256")],
    ...["ES384", "ES512"].map((alg) => [`${alg} by a P-256 key`, (s) => handmade(ES256, headerOf(ES256, { alg }), json(claimsOf(s)), alg)]),
    ...["es256", "Es256", "ES256 ", "ES256K", "ECDSA", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"].map((alg) =>
      [`alg ${json(alg)}`, (s) => handmade(ES256, headerOf(ES256, { alg }), json(claimsOf(s)), "ES256")]),
    ...["HS384", "HS512"].map((alg) => [`${alg} with the secret`, (s) => legacyToken(claimsOf(s), { alg })]),
    ["ES256 in name, HMAC with the secret", (s) => hmacToken(SECRET, headerOf(ES256), json(claimsOf(s)), "HS256")],
    ["HS256 in name, ES256 in truth", (s) => handmade(ES256, headerOf(ES256, { alg: "HS256" }), json(claimsOf(s)))],
    ...[ES256, RS256, KEYS.EdDSA].flatMap((key) => publicTexts(key).flatMap(([what, secret]) => [
      [`HS256 keyed with a public ${key.alg} key: ${what}`, (s) => legacyToken(claimsOf(s), { secret, kid: key.kid })],
      [`HS256 keyed with a public ${key.alg} key, no kid: ${what}`, (s) => legacyToken(claimsOf(s), { secret })],
    ])),
    ...[["nothing", ""], ["a zero byte", "\0"], ["the API key", "sb_publishable_test-0123456789-abcdefgh"], ["null", "null"], ["undefined", "undefined"], ["another secret", `${SECRET}x`], ["the secret, decoded", Buffer.from(SECRET, "base64")]].map(
      ([what, secret]) => [`HS256 keyed with ${what}`, (s) => legacyToken(claimsOf(s), { secret })]),
  ],

  "ECDSA values": [
    ["r and s zero", (s) => forged(s, Buffer.alloc(64))],
    ["r zero", (s) => forged(s, Buffer.concat([Buffer.alloc(32), Buffer.alloc(32, 1)]))],
    ["s zero", (s) => forged(s, Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32)]))],
    ["r and s the order", (s) => forged(s, Buffer.concat([ORDER, ORDER]))],
    ["r and s one", (s) => forged(s, Buffer.concat([one(), one()]))],
    ["all ones", (s) => forged(s, Buffer.alloc(64, 0xff))],
    ["63 bytes", (s) => resigned(s, (good) => good.subarray(0, 63))],
    ["65 bytes", (s) => resigned(s, (good) => Buffer.concat([good, Buffer.alloc(1)]))],
    ["a leading zero", (s) => resigned(s, (good) => Buffer.concat([Buffer.alloc(1), good]))],
    ["two leading zeros, one for each", (s) => resigned(s, (good) => Buffer.concat([Buffer.alloc(1), good.subarray(0, 32), Buffer.alloc(1), good.subarray(32)]))],
    ["32 bytes", (s) => resigned(s, (good) => good.subarray(0, 32))],
    ["twice over", (s) => resigned(s, (good) => Buffer.concat([good, good]))],
    ["one byte", (s) => forged(s, Buffer.alloc(1))],
    ["DER", (s) => withSignature(headerOf(ES256), ...derSigned(s))],
  ],

  "other signatures": [
    ["RSA, zero", (s) => withSignature(headerOf(RS256), json(claimsOf(s)), Buffer.alloc(256))],
    ["RSA, one", (s) => withSignature(headerOf(RS256), json(claimsOf(s)), Buffer.concat([Buffer.alloc(255), Buffer.from([1])]))],
    ["RSA, all ones", (s) => withSignature(headerOf(RS256), json(claimsOf(s)), Buffer.alloc(256, 0xff))],
    ["RSA, a byte more", (s) => resigned(s, (good) => Buffer.concat([Buffer.alloc(1), good]), RS256)],
    ["RSA, a byte less", (s) => resigned(s, (good) => good.subarray(0, 255), RS256)],
    ["Ed25519, zero", (s) => withSignature(headerOf(KEYS.EdDSA), json(claimsOf(s)), Buffer.alloc(64))],
    ["Ed25519, a byte more", (s) => resigned(s, (good) => Buffer.concat([good, Buffer.alloc(1)]), KEYS.EdDSA)],
  ],

  "a header that brings its own key": [
    ["jwk", (s) => userToken(FOREIGN.ES256, claimsOf(s), { jwk: FOREIGN.ES256.jwk, kid: undefined })],
    ["jwk under a known kid", (s) => userToken(FOREIGN.ES256, claimsOf(s), { jwk: { ...FOREIGN.ES256.jwk, kid: ES256.kid }, kid: ES256.kid })],
    ["jwk that is the right one", (s) => userToken(ES256, claimsOf(s), { jwk: ES256.jwk })],
    ["jku", (s) => userToken(FOREIGN.ES256, claimsOf(s), { jku: `${s.url}/evil/jwks.json` })],
    ["jku that is the right one", (s) => userToken(ES256, claimsOf(s), { jku: `${s.issuer}/.well-known/jwks.json` })],
    ["x5u", (s) => userToken(FOREIGN.ES256, claimsOf(s), { x5u: `${s.url}/evil/cert.pem` })],
    ["x5u beside the right key", (s) => userToken(ES256, claimsOf(s), { x5u: `${s.url}/evil/cert.pem` })],
    ["x5c", (s) => userToken(FOREIGN.ES256, claimsOf(s), { x5c: ["MIIB"] })],
    ["x5c beside the right key", (s) => userToken(ES256, claimsOf(s), { x5c: ["MIIB"] })],
  ],

  "crit": [
    ...[["exp"], ["b64"], ["unknown"], [], null, "exp", {}, [1]].map((crit) => [json(crit), (s) => handmade(ES256, headerOf(ES256, { crit }), json(claimsOf(s)))]),
    ["b64 false", (s) => {
      const header = encode(headerOf(ES256, { b64: false, crit: ["b64"] }));
      const payload = json(claimsOf(s));
      return `${header}.${encode(payload)}.${encode(signatureOf(ES256, `${header}.${payload}`))}`;
    }],
  ],

  "kid": [
    ...[1, 0, null, true, [], {}, [ES256.kid], "", "../../../../etc/passwd", "http://evil.example/key", "' OR 1=1 --", "x".repeat(5000), "\0", "\r\nx: y", "ключ", "__proto__", "constructor"].map((kid) =>
      [json(kid).slice(0, 40), (s) => handmade(FOREIGN.ES256, headerOf(ES256, { kid }), json(claimsOf(s)))]),
    ...[1, null, [ES256.kid], { kid: ES256.kid }].map((kid) => [`${json(kid).slice(0, 20)}, by a known key`, (s) => handmade(ES256, headerOf(ES256, { kid }), json(claimsOf(s)))]),
  ],

  "duplicate members": [
    ["alg none, then ES256", (s) => handmade(ES256, insertMember(headerOf(ES256), '"alg":"none"', { first: true }), json(claimsOf(s)))],
    ["ES256, then alg none", (s) => handmade(ES256, insertMember(headerOf(ES256), '"alg":"none"'), json(claimsOf(s)))],
    ["ES256 twice", (s) => handmade(ES256, insertMember(headerOf(ES256), '"alg":"ES256"'), json(claimsOf(s)))],
    ["kid", (s) => handmade(ES256, insertMember(headerOf(ES256), `"kid":${json(ES256.kid)}`), json(claimsOf(s)))],
    ["alg, once escaped", (s) => handmade(ES256, insertMember(headerOf(ES256), '"\\u0061lg":"ES256"'), json(claimsOf(s)))],
    ["a member of no meaning in the header", (s) => handmade(ES256, insertMember(insertMember(headerOf(ES256), '"x":1'), '"x":1'), json(claimsOf(s)))],
    ...["sub", "role", "exp", "iss", "aud", "iat", "is_anonymous", "email"].flatMap((claim) => [true, false].map((first) =>
      [`${claim}, the other one ${first ? "first" : "last"}`, (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), `"${claim}":${json(claimsOf(s)[claim])}`, { first }))])),
    ["sub, once escaped", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), '"s\\u0075b":"root"'))],
    ["role, once escaped", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), '"\\u0072ole":"admin"', { first: true }))],
    ["a good exp, then a past one", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), `"exp":${now() - 3600}`)), INVALID_OR_EXPIRED],
  ],

  "segments": [
    ["one", () => "abcdefghijklmnop"],
    ["two", async (s) => (await userToken(ES256, claimsOf(s))).split(".").slice(0, 2).join(".")],
    ["two and a dot", async (s) => `${(await userToken(ES256, claimsOf(s))).split(".").slice(0, 2).join(".")}.`],
    ["four", async (s) => `${await userToken(ES256, claimsOf(s))}.abcd`],
    ["a dot at the end", async (s) => `${await userToken(ES256, claimsOf(s))}.`],
    ["a dot at the beginning", async (s) => `.${await userToken(ES256, claimsOf(s))}`],
    ["a doubled dot", async (s) => (await userToken(ES256, claimsOf(s))).replace(".", "..")],
    ["five, as in JWE", async (s) => `${encode(json({ alg: "dir", enc: "A128GCM" }))}..${encode("iv")}.${encode(json(claimsOf(s)))}.${encode("tag")}`],
    ["nothing but dots", () => ".."],
    ["a thousand dots", () => ".".repeat(1000)],
    ["no header", async (s) => `.${(await userToken(ES256, claimsOf(s))).split(".").slice(1).join(".")}`],
    ["no payload", (s) => signedSegments(ES256, encode(headerOf(ES256)), "")],
    ["detached", async (s) => (await userToken(ES256, claimsOf(s))).split(".").with(1, "").join(".")],
    ["a flattened JWS", async (s) => { // RFC 7515, section 7.2.2
      const [header, payload, signature] = (await userToken(ES256, claimsOf(s))).split(".");
      return json({ protected: header, payload, signature }).replaceAll(",", ";");
    }],
  ],

  "base64url": [
    ...[0, 1].flatMap((at) => [
      [`padding in segment ${at}`, (s) => signedSegments(ES256, ...padded(s, at, (segment) => segment + "=".repeat(4 - (segment.length % 4))))],
      [`a second spelling of segment ${at}`, (s) => signedSegments(ES256, ...padded(s, at, respelled))],
      [`a sign outside the alphabet in segment ${at}`, (s) => signedSegments(ES256, ...padded(s, at, (segment) => `${segment.slice(0, 8)}!${segment.slice(8)}`))],
      [`one character too many in segment ${at}`, (s) => signedSegments(ES256, ...padded(s, at, (segment) => segment.padEnd(Math.ceil(segment.length / 4) * 4, "A") + "A"))],
    ]),
    ["padding after the signature", async (s) => `${await userToken(ES256, claimsOf(s))}==`],
    ["one sign of padding after the signature", async (s) => `${await userToken(ES256, claimsOf(s))}=`],
    ["a second spelling of the signature", async (s) => (await userToken(ES256, claimsOf(s))).split(".").map((segment, at) => (at === 2 ? respelled(segment) : segment)).join(".")],
    ["the other alphabet in the payload", (s) => signedSegments(ES256, encode(headerOf(ES256)), standard(json(claimsOf(s, { nickname: "???>>>~~~ÿÿÿ" }))))],
    ["the other alphabet in the signature", async (s) => {
      for (;;) {
        const [header, payload, signature] = (await userToken(ES256, claimsOf(s))).split(".");
        if (/[-_]/.test(signature)) return [header, payload, signature.replaceAll("-", "+").replaceAll("_", "/")].join(".");
      }
    }],
    ["percent-encoded dots", async (s) => (await userToken(ES256, claimsOf(s))).replaceAll(".", "%2E")],
  ],

  "texts that are no JSON object": [
    ...["", "{", "null", "true", "1", '"x"', "[]", "[{}]", "{}", "{} {}", "{'alg':'ES256'}", '{"alg":"ES256",}', "\ufeff{}", "alg: ES256"].map((header) =>
      [`header ${header}`, (s) => handmade(ES256, header, json(claimsOf(s)))]),
    ...["{", "null", "true", "1", '"x"', "[]", "{}", "not json"].map((payload) => [`payload ${payload}`, () => handmade(ES256, headerOf(ES256), payload)]),
    ["an array of the claims", (s) => handmade(ES256, headerOf(ES256), json([claimsOf(s)]))],
    ["something after the claims", (s) => handmade(ES256, headerOf(ES256), `${json(claimsOf(s))}x`)],
    ["claims twice", (s) => handmade(ES256, headerOf(ES256), json(claimsOf(s)).repeat(2))],
    ["a byte order mark before the claims", (s) => handmade(ES256, headerOf(ES256), `\ufeff${json(claimsOf(s))}`)],
    ["a comma too many", (s) => handmade(ES256, headerOf(ES256), json(claimsOf(s)).replace(/}$/, ",}"))],
    ["bytes that are no UTF-8", (s) => handmade(ES256, headerOf(ES256), Buffer.from(json(claimsOf(s, { nickname: "\xff" })), "latin1"))],
    ["UTF-16", (s) => handmade(ES256, headerOf(ES256), Buffer.from(json(claimsOf(s)), "utf16le"))],
    ["a control character in a string", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), '"x":"a\nb"'))],
    ["NaN", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), '"x":NaN'))],
    ["a thousand arrays in each other", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), `"x":${"[".repeat(1000)}${"]".repeat(1000)}`))],
    ["a thousand objects in each other", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), `"x":${'{"x":'.repeat(1000)}1${"}".repeat(1000)}`))],
    ["a thousand arrays in each other, in the header", (s) => handmade(ES256, insertMember(headerOf(ES256), `"x":${"[".repeat(1000)}${"]".repeat(1000)}`), json(claimsOf(s)))],
    ["three thousand arrays that never end", (s) => handmade(ES256, headerOf(ES256), "[".repeat(3000))],
  ],

  "times": [
    ["no exp", (s) => userToken(ES256, claimsOf(s, { exp: undefined }))],
    ["exp long past", (s) => userToken(ES256, claimsOf(s, { exp: now() - 3600 })), EXPIRED],
    ["exp long past, HS256", (s) => legacyToken(claimsOf(s, { exp: now() - 3600 })), INVALID_OR_EXPIRED],
    ["exp past, with a fraction", (s) => userToken(ES256, claimsOf(s, { exp: now() - 3600.5 })), EXPIRED],
    ["exp 1", (s) => userToken(ES256, claimsOf(s, { exp: 1 })), EXPIRED],
    ["exp 0", (s) => userToken(ES256, claimsOf(s, { exp: 0 })), INVALID_OR_EXPIRED],
    ["exp 0.0", (s) => raw(s, "exp", "0.0"), INVALID_OR_EXPIRED],
    ["exp -0", (s) => raw(s, "exp", "-0"), INVALID_OR_EXPIRED],
    ["exp past, iss wrong", (s) => userToken(ES256, claimsOf(s, { exp: now() - 3600, iss: "https://evil.example" })), INVALID_OR_EXPIRED],
    ["exp 2^53", (s) => userToken(ES256, claimsOf(s, { exp: 2 ** 53 }))],
    ...["-1", "-1e3", "-0.5", "1e400", "-1e400", "9007199254740992", "9007199254740993", "18446744073709551616", "1e16", "1e308", "null", "true", "false", '""', '"4000000000"', '"NaN"', '"Infinity"', "[]", "[4000000000]", "{}", "NaN", "Infinity", "-Infinity", "0x7fffffff", "04000000000", "+4000000000", "4000000000.", ".5e10", "4e9e1", "1_000_000_000_0"].flatMap(
      (value) => ["exp", "nbf", "iat"].map((claim) => [`${claim} ${value}`, (s) => raw(s, claim, value), claim === "exp" && value.startsWith("-") ? INVALID_OR_EXPIRED : INVALID])),
    ["nbf ahead", (s) => userToken(ES256, claimsOf(s, { nbf: now() + 600 }))],
    ["iat ahead", (s) => userToken(ES256, claimsOf(s, { iat: now() + 600 }))],
    ...['"1700000000"', "null", "[1700000000]"].flatMap((value) => ["nbf", "iat"].map((claim) => [`${claim} past, but ${value}`, (s) => raw(s, claim, value)])),
  ],

  "iss and aud": [
    ...[undefined, null, "", "supabase", "https://evil.example/auth/v1", 1, true, {}, []].map((iss) => [`iss ${json(iss)}`, (s) => userToken(ES256, claimsOf(s, { iss }))]),
    ["iss with a slash", (s) => userToken(ES256, claimsOf(s, { iss: `${s.issuer}/` }))],
    ["iss and more", (s) => userToken(ES256, claimsOf(s, { iss: `${s.issuer}.evil.example` }))],
    ["iss, its beginning", (s) => userToken(ES256, claimsOf(s, { iss: s.url }))],
    ["iss in another case", (s) => userToken(ES256, claimsOf(s, { iss: s.issuer.toUpperCase() }))],
    ["iss in an array", (s) => userToken(ES256, claimsOf(s, { iss: [s.issuer] }))],
    ["iss with a space", (s) => userToken(ES256, claimsOf(s, { iss: ` ${s.issuer}` }))],
    ...[undefined, null, "", "other", "Authenticated", "authenticated ", "authenticate", "authenticatedx", 1, true, {}, { authenticated: true }, [], ["other"], [null], ["authenticated", 1], [["authenticated"]], ["authenticated,other"]].map((aud) =>
      [`aud ${json(aud)}`, (s) => userToken(ES256, claimsOf(s, { aud }))]),
  ],

  "sub and role": [
    ...[undefined, null, "", "1", 1, 0, true, [], ["x"], {}].map((sub) => [`sub ${json(sub)}`, (s) => handmade(ES256, headerOf(ES256), json(claimsOf(s, { sub })))]),
    // What a header makes of them is the owner of the static token, nobody, or another line.
    ...[" 1", "1 ", "\t1", " ", "\t", "1\r\n", "x\r\nx-user-id: 1", "x\n", "x\0", "\u007f"].map((sub) => [`sub ${json(sub)}`, (s) => userToken(ES256, claimsOf(s, { sub }))]),
    ...[undefined, null, "", 1, true, [], ["authenticated"], {}, "x\r\nx-user-id: 1", "x\0"].map((role) => [`role ${json(role)}`, (s) => handmade(ES256, headerOf(ES256), json(claimsOf(s, { role })))]),
    ["role in the metadata only", (s) => userToken(ES256, claimsOf(s, { role: undefined, app_metadata: { role: "authenticated" }, user_metadata: { role: "authenticated" } }))],
    ["claims in another case", (s) => userToken(ES256, { ...claimsOf(s, { sub: undefined, role: undefined }), Sub: "root", Role: "authenticated" })],
  ],

  "tokens that are no sessions": [
    ...["anon", "service_role"].flatMap((role) => [
      [`the ${role} key`, () => legacyToken(apiKeyClaims(role))],
      [`the ${role} key, by an ES256 key`, () => userToken(ES256, apiKeyClaims(role))],
      [`the ${role} key with an audience`, (s) => userToken(ES256, { ...apiKeyClaims(role), iss: s.issuer, aud: "authenticated" })],
    ]),
    ["a publishable key", () => "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"],
    ["a secret key", () => "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"],
    ["the configured API key", () => "sb_publishable_test-0123456789-abcdefgh"],
    ["an ID token", (s) => userToken(ES256, claimsOf(s, { aud: "6b8f6b1c-2e1f-4e0a-8d0e-9a4d8e6f3c21", role: undefined, nonce: "n" }))],
    ["an ID token for us", (s) => userToken(ES256, claimsOf(s, { role: undefined, nonce: "n" }))],
    ["the JWT secret itself", () => SECRET],
  ],

  "size": [
    ["thirty kilobytes, rightly signed", (s) => userToken(ES256, claimsOf(s, { app_metadata: { x: "x".repeat(22_000) } }))],
    ["a very long header", (s) => userToken(ES256, claimsOf(s), { x: "x".repeat(22_000) })],
    ["a very long signature", (s) => withSignature(headerOf(ES256), json(claimsOf(s)), Buffer.alloc(22_000, 7))],
    ["two thousand members", (s) => handmade(ES256, headerOf(ES256), insertMember(json(claimsOf(s)), Array.from({ length: 2000 }, (_, at) => `"m${at}":1`).join(",")))],
    ["a very long number", (s) => raw(s, "exp", `4${"0".repeat(5000)}`)],
    ["a very long fraction of the past", (s) => raw(s, "exp", `1.${"9".repeat(5000)}`), INVALID_OR_EXPIRED],
  ],
};

const apiKeyClaims = (role) => ({ iss: "supabase", ref: "abcdefghijklmnopqrst", role, iat: now() - 1000, exp: now() + 10 * 365 * 86_400 });
const raw = (supabase, claim, value) => handmade(ES256, headerOf(ES256), withRaw(claimsOf(supabase), claim, value));
const forged = (supabase, signature) => withSignature(headerOf(ES256), json(claimsOf(supabase)), signature);
const ORDER = Buffer.from("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", "hex");
const one = () => Buffer.concat([Buffer.alloc(31), Buffer.from([1])]);
const standard = (text) => Buffer.from(text).toString("base64").replaceAll("=", "");

function resigned(supabase, change, key = ES256) {
  const [header, payload] = [headerOf(key), json(claimsOf(supabase))];
  return withSignature(header, payload, change(signatureOf(key, `${encode(header)}.${encode(payload)}`)));
}

function derSigned(supabase) {
  const payload = json(claimsOf(supabase));
  return [payload, derSignatureOf(ES256, `${encode(headerOf(ES256))}.${encode(payload)}`)];
}

/** Header and payload of a good token, one of them in another spelling; both with bits to spare. */
function padded(supabase, at, change) {
  const grown = (make) => {
    let text = make(0);
    for (let more = 1; encode(text).length % 4 === 0; more += 1) text = make(more);
    return encode(text);
  };
  const segments = [grown((more) => headerOf(ES256, { x: "x".repeat(more) })), grown((more) => json(claimsOf(supabase, { nickname: "x".repeat(more) })))];
  const changed = segments.map((segment, index) => (index === at ? change(segment) : segment));
  if (decode(changed[0]).length === 0) throw new Error("not what was meant");
  return changed;
}

/** All that a careless library could have taken for a secret. */
function publicTexts({ publicKey, jwk }) {
  const pem = publicKey.export({ format: "pem", type: "spki" });
  const texts = [["PEM", pem], ["PEM without its last line end", pem.trim()], ["DER", publicKey.export({ format: "der", type: "spki" })], ["JWK", json(jwk)], ["x or n", decode(jwk.x ?? jwk.n)], ["x or n as text", jwk.x ?? jwk.n]];
  return jwk.kty === "RSA" ? [...texts, ["PKCS#1", publicKey.export({ format: "pem", type: "pkcs1" })]] : texts;
}

for (const name of HOSTS) {
  for (const [secret, settings] of [["asked", {}], ["with SUPABASE_JWT_SECRET", { SUPABASE_JWT_SECRET: SECRET }]]) {
    describe(`${name}, ${secret}`, () => {
      let gateway;
      before(async () => {
        gateway = await startGateway(name, { keys: ALL_KEYS, settings });
        await stillServes();
      });
      after(() => gateway?.stop());

      async function stillServes() {
        const claims = gateway.claims();
        await gateway.accepts(await userToken(ES256, claims), claims);
      }

      for (const [group, cases] of Object.entries(groups)) {
        describe(group, () => {
          after(stillServes);
          for (const [title, make, refusal = INVALID] of cases) {
            test(title, async () => {
              await gateway.refuses(await make(gateway.supabase), refusal);
            });
          }
        });
      }

      // A parser may refuse this much before anything is judged.
      test("a quarter of a megabyte", async () => {
        const token = await userToken(ES256, gateway.claims({ app_metadata: { x: "x".repeat(190_000) } }));
        const status = await gateway.status(token).catch(() => "cut off");
        assert.ok([400, 401, 413, 431, "cut off"].includes(status), `answered ${status}`);
        await stillServes();
      });
    });
  }

  test(`${name}: a blank SUPABASE_JWT_SECRET is none`, async () => {
    await withGateway(name, { keys: [ES256], settings: { SUPABASE_JWT_SECRET: "  " } }, async (gateway) => {
      for (const secret of ["", "  ", " "]) await gateway.refuses(legacyToken(gateway.claims(), { secret }));
      const claims = gateway.claims();
      const { user } = await gateway.calls(() => gateway.accepts(legacyToken(claims), claims));
      assert.equal(user, 1, "so Supabase is asked");
    });
  });

  test(`${name}: what is no JWT troubles nobody`, async () => {
    await withGateway(name, { keys: [ES256] }, async (gateway) => {
      const claims = gateway.claims();
      await gateway.accepts(await userToken(ES256, claims), claims);
      const good = await userToken(ES256, gateway.claims());
      const legacy = legacyToken(gateway.claims());
      const useless = ["x", "a.b", "a.b.c", "..", `${good}.x`, `${good}=`, `${legacy}=`, `${legacy}.`, "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", SECRET, legacyToken(gateway.claims({ exp: undefined })),
        legacyToken(gateway.claims({ role: undefined })), legacyToken(gateway.claims({ sub: "1" })), legacyToken(gateway.claims({ iss: "supabase" })), legacyToken(apiKeyClaims("service_role")),
        withSignature(json({ alg: "none" }), json(gateway.claims()), ""), hmacToken(SECRET, json({ alg: "HS256", alg2: 1, crit: ["x"] }), json(gateway.claims()))];
      const calls = await gateway.calls(async () => {
        for (const token of useless) await gateway.refuses(token);
      });
      assert.deepEqual(calls, { jwks: 0, user: 0 });
    });
  });

  test(`${name}: a bad signature is refused as often as it comes, and spoils nothing for the good one`, async () => {
    await withGateway(name, { keys: [ES256] }, async (gateway) => {
      const claims = gateway.claims();
      const good = await userToken(ES256, claims);
      const [header, payload] = good.split(".");
      const bad = `${header}.${payload}.${encode(createHmac("sha512", "x").update("y").digest())}`;
      for (let times = 0; times < 3; times += 1) await gateway.refuses(bad);
      await gateway.accepts(good, claims);
      // The remembered verdict is for the whole token, not for what it says.
      await gateway.refuses(bad);
      await gateway.refuses(`${good}A`);
      await gateway.refuses(good.slice(0, -1));
      await gateway.accepts(good, claims);
    });
  });
}
