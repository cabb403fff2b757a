// A second opinion: `jose` and the gateway on the same tokens, among them thousands that chance has spoiled.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { after, before, describe, test as nodeTest } from "node:test";
import { SignJWT, createLocalJWKSet, exportJWK, generateKeyPair, generateSecret, jwtVerify } from "jose";

import { INVALID, inParallel, startGateway, tally, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { ALGORITHMS, KEYS, SECRET, claimsOf, decode, encode, hmacToken, insertMember, makeKey, now, signedSegments, userToken } from "./support/jwt.mjs";
import { ask, request } from "./support/raw.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);
const json = JSON.stringify;
const LEEWAY = 30;
const MUTANTS = 4000;
/** To see the same mutants again. */
const SEED = Number(process.env.NODETOOL_TEST_SEED ?? randomInt(2 ** 32));

for (const name of HOSTS) {
  test(`${name}: what jose signs with keys of its own passes`, async () => {
    const keys = await Promise.all(ALGORITHMS.map(async (alg) => {
      const { publicKey, privateKey } = await generateKeyPair(alg);
      return { alg, privateKey, jwk: { ...(await exportJWK(publicKey)), alg, kid: `jose-${alg}`, use: "sig" } };
    }));
    const { k: secret } = await exportJWK(await generateSecret("HS256", { extractable: true }));
    await withGateway(name, { keys, settings: { SUPABASE_JWT_SECRET: secret } }, async (gateway) => {
      for (const { alg, privateKey, jwk } of [...keys, { alg: "HS256", privateKey: Buffer.from(secret), jwk: {} }]) {
        const { exp, iat, ...claims } = gateway.claims({ role: "editor" });
        const token = await new SignJWT(claims).setProtectedHeader({ alg, kid: jwk.kid }).setIssuedAt(iat).setExpirationTime("1h").sign(privateKey);
        const { user } = await gateway.calls(() => gateway.accepts(token, claims));
        assert.equal(user, 0, `${alg}: checked without asking`);
        const { answer } = await gateway.send(token, { target: "/.auth/whoami" });
        assert.deepEqual(JSON.parse(answer.body), { user_id: claims.sub, token_type: "user", role: "editor" }, alg);
      }
    });
  });

  test(`${name}: RSA keys of odd sizes, and no exponents that one host alone would take`, async () => {
    const taken = [makeKey("RS256", { bits: 2049 }), makeKey("PS256", { bits: 3000 }), ...[3, 17, 37].map((exponent) => makeKey("RS256", { exponent }))];
    const passedOver = [5, 257, 65_539].map((exponent) => makeKey("RS256", { exponent }));
    const keys = [...taken, ...passedOver].map(({ jwk }) => jwk);
    await withGateway(name, { settings: { SUPABASE_JWKS: json({ keys }) } }, async (gateway) => {
      for (const key of taken) {
        const claims = gateway.claims();
        await gateway.accepts(await userToken(key, claims), claims);
      }
      for (const key of passedOver) await gateway.refuses(await userToken(key, gateway.claims()), INVALID);
    });
  });
}

/** Numbers by chance, the same for the same seed (mulberry32). */
function makeDice(seed) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit) => Math.floor(random() * limit);
  return { below, pick: (items) => items[below(items.length)] };
}

const OTHER_KEYS = Object.fromEntries(ALGORITHMS.map((alg) => [alg, makeKey(alg, { kid: KEYS[alg].kid })]));
const ODD_VALUES = [null, true, false, 0, 1, -1, 0.5, 1e9, 4e9, 2 ** 53, 1e300, "", "1", "11", "x", " ", "a b", "zoë", "authenticated", "x".repeat(256), [], ["authenticated"], ["authenticated", 1], {}, [[[]]]];

/** A token in its parts: objects or, once they are spoiled, texts or bytes. `sign` makes a token of its first two segments. */
function goodParts(dice, supabase) {
  const alg = dice.pick([...ALGORITHMS, "HS256"]);
  const header = { alg, typ: "JWT", ...(alg === "HS256" ? {} : { kid: KEYS[alg].kid }) };
  return { alg, header, claims: claimsOf(supabase), sign: signerOf(alg, KEYS) };
}

const signerOf = (alg, keys, secret = SECRET) => (header, claims) =>
  alg === "HS256" ? hmacToken(secret, decode(header), decode(claims)) : signedSegments(keys[alg], header, claims, alg);

const bytesOf = (part) => (Buffer.isBuffer(part) ? part : Buffer.from(typeof part === "string" ? part : json(part)));

/** Changes of what is then signed rightly: only what it says decides. */
const BEFORE_SIGNING = {
  "nothing": () => {},
  "a claim removed": (parts, dice) => delete parts.claims[dice.pick(["iss", "aud", "exp", "iat", "sub", "role", "is_anonymous", "email", "session_id"])],
  "a claim of another value": (parts, dice) => (parts.claims[dice.pick(["iss", "aud", "exp", "nbf", "iat", "sub", "role", "is_anonymous", "amr"])] = dice.pick(ODD_VALUES)),
  "a sub or a role at the edge of what is text": (parts, dice) =>
    (parts.claims[dice.pick(["sub", "role"])] = dice.pick(["1", "2", "11", "x".repeat(255), "x".repeat(256), "~", "!", "a,b", "a b", "a\tb", "\u007f", "é", "\u2028", "\ud800"])),
  "a time near the leeway": (parts, dice) => {
    const claim = dice.pick(["exp", "nbf", "iat"]);
    // `jose` counts whole seconds: it has a fraction of nbf begin too late, which is not what is asked here.
    const fraction = claim === "nbf" ? 0 : dice.pick([0, 0, 0.5]);
    parts.claims[claim] = now() + (claim === "exp" ? -1 : 1) * (LEEWAY + dice.below(9) - 4) + fraction;
  },
  "several times at odds": (parts, dice) => {
    for (const claim of ["exp", "nbf", "iat"]) parts.claims[claim] = now() + (dice.below(21) - 10) * 10;
  },
  "a header member removed": (parts, dice) => delete parts.header[dice.pick(["alg", "typ", "kid"])],
  "a header member of another value": (parts, dice) =>
    (parts.header[dice.pick(["typ", "kid", "cty", "x5t", "x", "crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc"])] =
      dice.pick([...ODD_VALUES, ["exp"], ["b64"], "JWT", "at+jwt", "https://evil.example", KEYS.ES256.kid, KEYS.RS256.kid, KEYS.ES256.jwk, OTHER_KEYS.ES256.jwk])),
  "b64 as RFC 7797 has it": (parts) => Object.assign(parts.header, { b64: true, crit: ["b64"] }),
  "another alg": (parts, dice) => (parts.header.alg = dice.pick([...ALGORITHMS, "HS256", "HS384", "none", "ES384", "es256", "PS384", null, 1])),
  "a member twice": (parts, dice) => {
    const part = dice.pick(["header", "claims"]);
    const [member, value] = dice.pick(Object.entries(parts[part]));
    parts[part] = insertMember(json(parts[part]), `${json(member)}:${json(dice.pick([value, value, ...ODD_VALUES]))}`, { first: dice.pick([true, false]) });
  },
  "white space in the JSON": (parts, dice) => {
    const part = dice.pick(["header", "claims"]);
    parts[part] = dice.pick([(text) => ` ${text}`, (text) => `${text}\n`, (text) => text.replaceAll(",", ",\r\n\t"), (text) => `\ufeff${text}`, (text) => `\u00a0${text}`])(json(parts[part]));
  },
  "a number in another spelling": (parts, dice) =>
    (parts.claims = insertMember(json({ ...parts.claims, exp: undefined }), `"exp":${dice.pick(["4e9", "4.0e9", "4000000000.0", "4E+9", "1e999", "-0", "04000000000", "9007199254740991", "9007199254740992", "1e15", "10000000000000"])}`)),
  "deep nesting": (parts, dice) => {
    const depth = dice.pick([2, 10, 14, 15, 16, 17, 40, 200]);
    const part = dice.pick(["header", "claims"]);
    parts[part] = insertMember(json(parts[part]), `"deep":${"[".repeat(depth)}${"]".repeat(depth)}`);
  },
  "a lone surrogate": (parts, dice) => {
    const part = dice.pick(["header", "claims"]);
    parts[part] = insertMember(json(parts[part]), dice.pick(['"x":"\\ud800"', '"\\udc00":1', '"x":"\\ud83d\\ude00"']));
  },
  "a byte of the JSON changed": (parts, dice) => {
    const part = dice.pick(["header", "claims"]);
    const bytes = bytesOf(parts[part]);
    bytes[dice.below(bytes.length)] = dice.below(256);
    parts[part] = bytes;
  },
  "large": (parts, dice) => (parts.claims.app_metadata = { x: "x".repeat(dice.pick([8000, 11_000, 11_500, 12_000, 20_000])) }),
};

/** Changes of the finished token. */
const AFTER_SIGNING = {
  "a bit flipped": (segments, dice) => {
    const at = dice.below(3);
    const bytes = decode(segments[at]);
    if (bytes.length > 0) bytes[dice.below(bytes.length)] ^= 1 << dice.below(8);
    segments[at] = encode(bytes);
  },
  "a character changed": (segments, dice) => {
    const at = dice.below(3);
    const where = dice.below(segments[at].length + 1);
    const character = dice.pick([..."AZaz09-_+/=.~ \t\u00e9", ""]);
    segments[at] = segments[at].slice(0, where) + character + segments[at].slice(where + dice.below(2));
  },
  "the last character in another spelling": (segments, dice) => {
    const at = dice.below(3);
    segments[at] = segments[at].slice(0, -1) + dice.pick([..."ABCDEFGHQRgwxyz0189-_"]);
  },
  "padding": (segments, dice) => (segments[dice.below(3)] += dice.pick(["=", "==", "==="])),
  "right padding of the signature": (segments) => (segments[2] += "=".repeat((4 - (segments[2].length % 4)) % 4)),
  "white space in the signature": (segments, dice) => {
    const where = 1 + dice.below(segments[2].length - 1);
    segments[2] = segments[2].slice(0, where) + dice.pick([" ", "\t", "  "]) + segments[2].slice(where);
  },
  "base64 with + and /": (segments, dice) => {
    const at = dice.below(3);
    segments[at] = segments[at].replaceAll("-", "+").replaceAll("_", "/");
  },
  "swapped segments": (segments, dice) => {
    const [from, to] = [dice.below(3), dice.below(3)];
    [segments[from], segments[to]] = [segments[to], segments[from]];
  },
  "a segment repeated": (segments, dice) => segments.splice(dice.below(3), 0, segments[dice.below(3)]),
  "a segment missing": (segments, dice) => segments.splice(dice.below(3), 1),
  "a segment empty": (segments, dice) => (segments[dice.below(3)] = ""),
  "cut short": (segments, dice) => {
    const at = dice.below(3);
    segments[at] = segments[at].slice(0, dice.below(segments[at].length));
  },
  "a byte added to the signature": (segments, dice) => {
    const [signature, zero] = [decode(segments[2]), Buffer.alloc(1)];
    segments[2] = encode(Buffer.concat(dice.pick([[signature, zero], [zero, signature]])));
  },
  "another s": (segments) => {
    // For ECDSA -s is as good as s (RFC 7515 does not object): the token is another one, what it says is the same.
    const signature = decode(segments[2]);
    if (signature.length !== 64) return;
    const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
    const s = (order - BigInt(`0x${signature.subarray(32).toString("hex")}`) + order) % order;
    segments[2] = encode(Buffer.concat([signature.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, "0"), "hex")]));
  },
};

const SIGNERS = {
  "another's key": (alg) => signerOf(alg, OTHER_KEYS, "another-secret-0123456789-abcdefghijklmnopqrstuvwxyz"),
  "another token": (alg, supabase) => (header, claims) => `${header}.${claims}.${signerOf(alg, KEYS)(header, encode(json(claimsOf(supabase)))).split(".")[2]}`,
};

/** @returns {{title: string, token: string}} */
function makeMutant(dice, supabase) {
  const parts = goodParts(dice, supabase);
  const title = [parts.alg];
  const spoil = (kinds, subject) => {
    const kind = dice.pick(Object.keys(kinds));
    title.push(kind);
    kinds[kind](subject, dice);
  };
  const way = dice.below(10);
  if (way < 5) spoil(BEFORE_SIGNING, parts);
  // And once more, unless there is nothing left but a text.
  if (way === 4 && [parts.header, parts.claims].every((part) => typeof part === "object" && !Buffer.isBuffer(part))) spoil(BEFORE_SIGNING, parts);
  if (way === 5) {
    const signer = dice.pick(Object.keys(SIGNERS));
    title.push(signer);
    parts.sign = SIGNERS[signer](parts.alg, supabase);
  }
  const segments = parts.sign(encode(bytesOf(parts.header)), encode(bytesOf(parts.claims))).split(".");
  if (way > 5) spoil(AFTER_SIGNING, segments);
  // White space around a header's value is no part of it (RFC 9110, section 5.5).
  return { title: title.join(", "), token: segments.join(".").replace(/^[ \t]+|[ \t]+$/g, "") };
}

/**
 * Where the gateway is stricter than `jose`, which has found the token good and hands over what it read in it. Each is refused
 * whenever it holds, and nothing is refused for which none holds.
 */
const STRICTNESSES = {
  "not canonical base64url": ({ segments }) => segments.some((segment) => encode(decode(segment)) !== segment),
  "larger than 16 KB": ({ token }) => token.length > 16 * 1024,
  "a byte order mark": ({ texts }) => texts.some((text) => text.startsWith("\ufeff")),
  "a member twice": ({ texts }) => texts.some((text) => colons(text) !== colons(json(JSON.parse(text.replace(/^\ufeff/, ""))))),
  "nested deeper than 16": ({ header, claims }) => Math.max(depth(header), depth(claims)) > 16,
  "a lone surrogate": ({ header, claims }) => [header, claims].some((part) => /\\ud[89a-f]../.test(json(part))),
  "a number beyond a double": ({ texts }) => texts.some((text) => /[:,[]1e999\b/.test(text)),
  "a header that is not served": ({ header }) => ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"].some((member) => Object.hasOwn(header, member)),
  "typ no text": ({ header }) => Object.hasOwn(header, "typ") && typeof header.typ !== "string",
  "kid no text": ({ header }) => Object.hasOwn(header, "kid") && typeof header.kid !== "string",
  "no exp, or one out of range": ({ claims: { exp } }) => exp === undefined || exp >= 2 ** 53,
  "exp past within its second": ({ claims: { exp }, later }) => exp + LEEWAY <= later,
  "nbf out of range": ({ claims: { nbf } }) => nbf < 0,
  "iat ahead, or out of range": ({ claims: { iat }, sooner }) => iat < 0 || iat > sooner + LEEWAY,
  "aud with other than texts": ({ claims: { aud } }) => Array.isArray(aud) && aud.some((one) => typeof one !== "string"),
  "no sub that can stand in a header": ({ claims: { sub } }) => !isText(sub),
  "sub 1, the owner of the static token": ({ claims: { sub } }) => sub === "1",
  "no role that can stand in a header": ({ claims: { role } }) => !isText(role),
  "is_anonymous neither true nor false": ({ claims }) => Object.hasOwn(claims, "is_anonymous") && typeof claims.is_anonymous !== "boolean",
};

function strictnesses(token, { payload: claims, protectedHeader: header }, sooner, later) {
  const segments = token.split(".");
  const texts = segments.slice(0, 2).map((segment) => decode(segment).toString());
  const facts = { token, segments, texts, header, claims, sooner: sooner / 1000, later: later / 1000 };
  return Object.keys(STRICTNESSES).filter((reason) => STRICTNESSES[reason](facts));
}

const isText = (value) => typeof value === "string" && /^[\x21-\x7e]{1,255}$/.test(value);
const colons = (text) => text.replace(/"(?:[^"\\]|\\.)*"/g, '""').split(":").length;
const depth = (value) => (typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0);

for (const name of HOSTS) {
  describe(`${name}: mutants`, () => {
    let gateway;
    before(async () => (gateway = await startGateway(name, { keys: Object.values(KEYS), settings: { SUPABASE_JWT_SECRET: SECRET, LOG_LEVEL: "info" } })));
    after(() => gateway?.stop());

    /** As strict as `jose` can be told to be: a key is for its own algorithm, and the secret for HS256. */
    function judges() {
      const published = createLocalJWKSet({ keys: Object.values(KEYS).map(({ jwk }) => jwk) });
      const keyFor = (header, token) => (header.alg === "HS256" ? Buffer.from(SECRET) : published(header, token));
      const options = { algorithms: [...ALGORITHMS, "HS256"], issuer: gateway.supabase.issuer, audience: "authenticated", clockTolerance: LEEWAY };
      return (token, at) => jwtVerify(token, keyFor, { ...options, currentDate: new Date(at) }).catch(() => null);
    }

    async function whoami(token) {
      const answer = await ask(gateway.host.port, request({ target: "/.auth/whoami", headers: [["Host", "gateway.test"], ["Authorization", `Bearer ${token}`]] }));
      assert.ok([200, 401].includes(answer.status), `answered ${answer.status} ${answer.body}`);
      return answer.status === 200 ? JSON.parse(answer.body) : null;
    }

    test(`whatever passes, jose accepts, and what jose accepts and does not pass is on a list (NODETOOL_TEST_SEED=${SEED})`, async (context) => {
      const dice = makeDice(SEED);
      const judge = judges();
      const mutants = Array.from({ length: MUTANTS }, () => makeMutant(dice, gateway.supabase));
      const outcomes = await inParallel(mutants, 16, async ({ title, token }) => {
        // Time goes on meanwhile: `jose` is asked about its beginning and its end.
        const sooner = Date.now();
        const identity = await whoami(token);
        const later = Date.now();
        const opinions = await Promise.all([judge(token, sooner), judge(token, later)]);
        const what = `NODETOOL_TEST_SEED=${SEED}: ${title}\n${token.slice(0, 4000)}`;
        const opinion = opinions.find((opinion) => opinion !== null);
        if (identity !== null) {
          assert.ok(opinion, `passes, and jose refuses: ${what}`);
          const { sub, role } = opinion.payload;
          assert.deepEqual(identity, { user_id: sub, token_type: "user", role }, what);
          assert.deepEqual(strictnesses(token, opinion, later, sooner), [], `passes, and is not to: ${what}`);
          return "both accept";
        }
        if (opinions.includes(null)) return "both refuse";
        const reasons = strictnesses(token, opinion, sooner, later);
        assert.ok(reasons.length > 0, `jose accepts, and it does not pass for no reason that is listed: ${what}`);
        return reasons.length === 1 ? reasons[0] : "several reasons";
      });
      const counts = tally(outcomes);
      // So that nothing else is proved than what is meant.
      assert.ok(counts["both accept"] > MUTANTS / 10 && counts["both refuse"] > MUTANTS / 10, json(counts));
      context.diagnostic(json(counts));
    });
  });
}
