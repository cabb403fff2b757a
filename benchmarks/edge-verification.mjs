// One token judged in workerd, by `jose` and by the compiled core, in one Worker: `node benchmarks/edge-verification.mjs [--rounds 25]`.
//
// Both get the same tokens, with the key imported before, and check signature, exp, nbf, iss, aud and sub. A clock stands still in workerd
// while nothing is awaited from outside, so the time is taken here, around hundreds of verifications by one request, less an empty one.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { buildJs } from "../tools/build-js.mjs";
import { ROOT } from "../tools/paths.mjs";
import { ensureNodeModules } from "../tools/setup.mjs";
import { heading } from "../tools/steps.mjs";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "25" }, count: { type: "string", default: "200" }, json: { type: "boolean" } },
});
await ensureNodeModules();
const built = await buildJs("edge");
const { startWorkerd } = await import("../tools/workerd.mjs");
const { SignJWT, exportJWK, generateKeyPair } = await import("jose");

const ALGORITHMS = ["ES256", "RS256", "EdDSA"];
const PROJECT = "http://127.0.0.1:54321";
const ISSUER = `${PROJECT}/auth/v1`;

const WORKER = `
import module from "./gate/gate_bg.wasm";
import { Gate, initSync } from "./gate/gate.js";
import { importJWK, jwtVerify } from "./jose/index.js";

initSync({ module });

const work = new Map();

async function prepare({ alg, jwk, tokens }) {
  const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: "${PROJECT}", SUPABASE_KEY: "benchmark-key", SUPABASE_JWKS: JSON.stringify({ keys: [jwk] }) };
  const forgetful = new Gate({ ...settings, AUTH_CACHE_TTL: "0" });
  const mindful = new Gate({ ...settings, AUTH_CACHE_TTL: "3600" });
  const key = await importJWK(jwk, alg);
  const rules = { issuer: "${ISSUER}", audience: "authenticated", algorithms: [alg], clockTolerance: 30, requiredClaims: ["exp", "sub"] };
  const requests = tokens.map((token) => new Request("https://api.test/v1/models", { headers: { authorization: "Bearer " + token, accept: "*/*", "user-agent": "benchmark" } }));
  const known = new Map();
  const verified = async (token) => {
    const { payload } = await jwtVerify(token, key, rules);
    if (payload.role === undefined) throw new Error("no role");
    return payload;
  };
  const outgoing = (request, payload) => {
    const headers = new Headers(request.headers);
    headers.set("x-user-id", payload.sub);
    headers.set("x-auth-role", payload.role);
    headers.set("x-auth-token-type", "user");
    return headers;
  };
  const bearer = (request) => request.headers.get("authorization").slice(7);
  work.set("empty", async () => {});
  work.set(alg + " fresh, jose", async (at) => verified(tokens[at]));
  work.set(alg + " fresh, ours", async (at) => passed(await forgetful.verify(tokens[at])));
  work.set(alg + " fresh request, jose", async (at) => outgoing(requests[at], await verified(bearer(requests[at]))));
  work.set(alg + " fresh request, ours", async (at) => passed(await forgetful.check(requests[at])).headers);
  work.set(alg + " repeated, jose and a map", async (at) => {
    const token = tokens[at];
    if (!known.has(token)) known.set(token, await verified(token));
    return known.get(token);
  });
  work.set(alg + " repeated, ours", async (at) => passed(await mindful.verify(tokens[at])));
  work.set(alg + " repeated request, ours", async (at) => passed(await mindful.check(requests[at])).headers);
}

function passed(decision) {
  if (!decision.allowed) throw new Error("refused");
  return decision;
}

export default {
  async fetch(request) {
    const url = new URL(request.url);
    if (request.method === "POST") await prepare(await request.json());
    else {
      const run = work.get(url.searchParams.get("work"));
      const [count, of] = [Number(url.searchParams.get("count")), Number(url.searchParams.get("of"))];
      for (let at = 0; at < count; at += 1) await run(at % of);
    }
    return new Response("done");
  },
};
`;

const folder = mkdtempSync(path.join(tmpdir(), "benchmark-"));
writeFileSync(path.join(folder, "index.js"), WORKER);
cpSync(built, path.join(folder, "gate"), { recursive: true });
cpSync(path.join(ROOT, "node_modules", "jose", "dist", "webapi"), path.join(folder, "jose"), { recursive: true });

const workerd = await startWorkerd({ folder });
const url = new URL(`http://127.0.0.1:${workerd.port}/`);
const count = Number(options.count);
const DISTINCT = 200;

for (const alg of ALGORITHMS) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "benchmark", alg };
  const issued = Math.floor(Date.now() / 1000);
  const claims = (number) => ({
    iss: ISSUER, sub: `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`, aud: "authenticated", exp: issued + 86_400, iat: issued,
    email: `user${number}@example.com`, phone: "", app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: { email_verified: true, name: "A user of the benchmark" }, role: "authenticated", aal: "aal1",
    amr: [{ method: "password", timestamp: issued }], session_id: `00000000-0000-4000-9000-${String(number).padStart(12, "0")}`, is_anonymous: false,
  });
  const tokens = await Promise.all(
    Array.from({ length: DISTINCT }, (_, number) => new SignJWT(claims(number)).setProtectedHeader({ alg, kid: "benchmark", typ: "JWT" }).sign(privateKey)),
  );
  await ask({}, { method: "POST", body: JSON.stringify({ alg, jwk, tokens }) });
}

const names = ["empty", ...ALGORITHMS.flatMap((alg) => ["fresh, jose", "fresh, ours", "fresh request, jose", "fresh request, ours"].map((what) => `${alg} ${what}`))];
names.push(...["repeated, jose and a map", "repeated, ours", "repeated request, ours"].map((what) => `ES256 ${what}`));

const times = Object.fromEntries(names.map((name) => [name, []]));
for (const name of names) await measure(name);
for (let round = 1; round <= Number(options.rounds); round += 1) {
  if (!options.json && round % 5 === 0) heading(`Round ${round} of ${options.rounds}`);
  // Interleaved, so that a slow second of the machine hits all alike.
  for (const name of names) times[name].push(await measure(name));
}
await workerd.stop();
rmSync(folder, { recursive: true });

const empty = median(times.empty);
const microseconds = Object.fromEntries(names.slice(1).map((name) => [name, times[name].map((time) => ((time - empty) * 1000) / count)]));
if (options.json) {
  console.log(JSON.stringify(microseconds));
} else {
  console.log("\n| | us, median | range |\n|---|---|---|");
  for (const [name, values] of Object.entries(microseconds)) {
    console.log(`| ${name} | ${median(values).toFixed(1)} | ${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)} |`);
  }
  // Round by round, since the two stand next to each other there.
  const ratio = (one, other) => median(microseconds[one].map((time, round) => time / microseconds[other][round])).toFixed(2);
  console.log("\n| ours / jose | verification | whole request |\n|---|---|---|");
  for (const alg of ALGORITHMS) {
    console.log(`| ${alg} fresh | ${ratio(`${alg} fresh, ours`, `${alg} fresh, jose`)} | ${ratio(`${alg} fresh request, ours`, `${alg} fresh request, jose`)} |`);
  }
  console.log(`| ES256 repeated / fresh by jose | ${ratio("ES256 repeated, ours", "ES256 fresh, jose")} | ${ratio("ES256 repeated request, ours", "ES256 fresh request, jose")} |`);
  console.log(`\nMedians of ${options.rounds} rounds of ${count}, ${DISTINCT} tokens in turn.`);
}

async function measure(name) {
  const began = performance.now();
  await ask({ work: name, count: options.count, of: DISTINCT });
  return performance.now() - began;
}

async function ask(query, init) {
  const response = await fetch(new URL(`?${new URLSearchParams(query)}`, url), init);
  if (response.status !== 200) throw new Error(await response.text());
  await response.text();
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
