// WebCrypto as the Worker uses it gives the verdicts of AWS-LC and RustCrypto, on the vectors that `native-host/tests/signatures.rs`
// checks those two with; and what is signed in Rust is right in JavaScript.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test as nodeTest } from "node:test";
import { compactVerify, importJWK } from "jose";

import { ROOT } from "./support/hosts.mjs";
import { decode, encode } from "./support/jwt.mjs";
import { modulesOf, startWorkers, worker } from "./support/workers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);

/** Does what `src/worker/crypto.rs` does, and says besides why a key or a signature was thrown back. */
const WORKER = `
import { importKey, verify } from "./platform.js";

const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));

export default {
  async fetch(request) {
    const { jwk, algorithm, checks } = await request.json();
    try {
      const imported = await importKey(jwk, algorithm);
      const verdict = ({ message, signature }) => verify(imported, decode(signature), decode(message)).catch((error) => error.message);
      return Response.json({ verdicts: await Promise.all(checks.map(verdict)) });
    } catch (error) {
      return Response.json({ refusal: error.message });
    }
  },
};
`;

/** How many vectors there are at least for each algorithm, so that nothing is left out unnoticed. Those of ES256 in ASN.1 are among them. */
const COUNTS = { ES256: 262 + 484, RS256: 1034, RS384: 1035, RS512: 1037, PS256: 3497, EdDSA: 151 };

let miniflare;
let lines;
before(async () => {
  const printed = spawnSync("cargo", ["run", "--quiet", "--locked", "--package", "nodetool-auth", "--example", "signatures"], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 26 });
  assert.equal(printed.status, 0, printed.stderr);
  lines = printed.stdout.trim().split("\n").map((line) => JSON.parse(line));
  const platform = readFileSync(path.join(ROOT, "src/web/platform.js"), "utf8");
  ({ miniflare } = startWorkers([worker({ manifest: modulesOf({ "index.js": WORKER, "platform.js": platform }) })]));
});
after(() => miniflare?.dispose());

async function judge(key) {
  const answer = await miniflare.dispatchFetch("http://edge.test/", { method: "POST", body: JSON.stringify(key) });
  return answer.json();
}

test("every vector has the same verdict at the edge", async () => {
  const counts = {};
  const deviations = [];
  for (const key of lines.filter(({ checks }) => checks)) {
    const { verdicts, refusal } = await judge(key);
    assert.equal(refusal, undefined, `${key.set}: the platform takes every key that the core takes`);
    for (const [at, { id, is_right }] of key.checks.entries()) {
      counts[key.algorithm] = (counts[key.algorithm] ?? 0) + 1;
      if (verdicts[at] !== is_right) deviations.push(`${key.set} ${id}: ${verdicts[at]}, not ${is_right}`);
    }
  }
  assert.deepEqual(deviations, []);
  for (const [algorithm, count] of Object.entries(COUNTS)) assert.ok(counts[algorithm] >= count, `${algorithm}: ${counts[algorithm]}`);
});

test("the platform takes the exponents and sizes of RSA that the core takes, and no other exponents", async () => {
  // The core passes over keys with others, lest one host accept what the other does not.
  for (const [bits, exponent, isTaken] of [[2048, 3, true], [2048, 17, true], [2048, 37, true], [2049, 65_537, true], [3000, 65_537, true], [2048, 5, false], [2048, 257, false], [2048, 65_539, false]]) {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: bits, publicExponent: exponent });
    const { n, e } = publicKey.export({ format: "jwk" });
    const signature = sign("sha256", Buffer.from("message"), privateKey);
    const outcome = await judge({ jwk: JSON.stringify({ kty: "RSA", n, e }), algorithm: "RS256", checks: [{ message: encode("message"), signature: encode(signature) }] });
    assert.deepEqual(outcome, isTaken ? { verdicts: [true] } : { refusal: `Imported RSA key has invalid publicExponent ${exponent}.` }, `${bits} bits, ${exponent}`);
  }
});

test("jose accepts tokens that were signed in Rust", async () => {
  const tokens = lines.filter(({ token }) => token);
  assert.deepEqual(tokens.map(({ algorithm }) => algorithm), ["ES256", "EdDSA", "HS256"]);
  for (const { token, jwk, algorithm } of tokens) {
    const { payload, protectedHeader } = await compactVerify(token, await importJWK(jwk, algorithm));
    assert.deepEqual([protectedHeader.alg, JSON.parse(Buffer.from(payload))], [algorithm, { sub: "signed in Rust" }]);
    const [header, claims, signature] = token.split(".");
    const other = decode(signature);
    other[5] ^= 1;
    await assert.rejects(compactVerify(`${header}.${claims}.${encode(other)}`, await importJWK(jwk, algorithm)), { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" });
  }
});
