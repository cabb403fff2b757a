// Gates as a program holds them: many at once, freed, forgotten, misused.
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { Gate, generateToken, maskToken } from "nodetool-edge-auth";
import { load } from "nodetool-edge-auth/wasm";

import { ALL_KEYS, KEYS, claimsOf, makeKey, userToken } from "../http/support/jwt.mjs";
import { INSTALLED, STATIC, TOKEN } from "./support.mjs";

// What is compiled is there once, however it is asked for.
const { initSync } = await import(pathToFileURL(path.join(INSTALLED, "glue", "gate.js")).href);
const { memory, __wbindgen_externrefs: table } = initSync({});
const taken = () => [memory.buffer.byteLength, table.length];

const PROJECT = "http://127.0.0.1:54321";
const SUPABASE = { AUTH_PROVIDER: "supabase", ENV: "test", SUPABASE_URL: PROJECT, SUPABASE_KEY: "sb_publishable_test", AUTH_ADMIN_ROLES: "admin" };
const DOCUMENT = JSON.stringify({ keys: ALL_KEYS.map(({ jwk }) => jwk) });
const asked = (token) => new Request("http://gateway.test/v1/models", { headers: { authorization: `Bearer ${token}` } });

test("many gates in one program, each with its own settings", async () => {
  const gates = Array.from({ length: 50 }, () => {
    const token = generateToken();
    return { token, gate: new Gate({ ...STATIC, WORKER_AUTH_TOKEN: token }) };
  });
  for (const [index, { token }] of gates.entries()) {
    const decisions = await Promise.all(gates.map(({ gate }) => gate.check(asked(token))));
    assert.deepEqual(decisions.flatMap(({ allowed }, at) => (allowed ? [at] : [])), [index]);
  }
});

test("a gate that was freed says so", async () => {
  const gate = new Gate(STATIC);
  assert.equal((await gate.check(asked(TOKEN))).allowed, true);
  gate.free();
  gate.free();
  await assert.rejects(gate.check(asked(TOKEN)), { message: "This gate was freed: make another one" });
  await assert.rejects(gate.verify(TOKEN), { message: "This gate was freed: make another one" });
  assert.equal((await new Gate(STATIC).check(asked(TOKEN))).allowed, true, "others go on");
});

test("a gate is freed at the end of a using block", { skip: !Symbol.dispose }, async () => {
  const gate = new Gate(STATIC);
  gate[Symbol.dispose]();
  await assert.rejects(gate.check(asked(TOKEN)), /freed/);
});

test("what is no request, token or object of settings is an error, and costs nothing", async () => {
  const gate = new Gate(STATIC);
  const before = taken();
  for (let time = 0; time < 2000; time += 1) {
    for (const wrong of [undefined, null, "http://gateway.test/", {}, { url: "http://gateway.test/" }, { url: 1, headers: new Headers() }]) await assert.rejects(gate.check(wrong), TypeError);
    for (const wrong of [undefined, null, 1, {}]) await assert.rejects(gate.verify(wrong), TypeError);
  }
  assert.deepEqual(taken(), before);
  for (const wrong of [undefined, null, "x", 1]) assert.throws(() => new Gate(wrong), TypeError);
});

test("what only looks like a request is judged as malformed, and costs nothing", async () => {
  const gate = new Gate(STATIC);
  const authorization = `Bearer ${TOKEN}`;
  const like = (changes) => ({ method: "GET", url: "http://gateway.test/v1", headers: new Map(Object.entries({ authorization, ...changes.lines })), body: null, ...changes });
  assert.equal((await gate.check(like({}))).allowed, true);
  const before = taken();
  for (let time = 0; time < 2000; time += 1) {
    for (const changes of [
      { url: "http://gateway.test/v1\nbody\n10.0.0.1" },
      { url: "" },
      { url: "/v1" },
      { url: "http://gateway.test" },
      { method: "GET\nhttp://gateway.test/health" },
      { method: undefined },
      { peer: "10.0.0.1\nauthorization" },
      { peer: {} },
      { lines: { "x-a": "b\nauthorization\nBearer x" } },
      { lines: { "x-a": "b\r" } },
      { lines: { "x-a": "✓" } },
      { lines: { "x a": "b" } },
      { lines: { "": "b" } },
      { headers: { has: () => false, forEach() { throw new Error("unreadable"); } } },
      { get body() { throw new Error("unreadable"); } },
    ]) {
      const request = Object.defineProperties(like({ ...(changes.lines ? { lines: changes.lines } : {}) }), Object.getOwnPropertyDescriptors(changes));
      const { allowed, response } = await gate.check(request);
      assert.deepEqual([allowed, response?.status], [false, 400], Object.keys(changes)[0]);
    }
  }
  assert.deepEqual(taken(), before);
});

test("thousands of gates that are made, asked and freed leave nothing behind", async () => {
  const fetch = async () => new Response(DOCUMENT);
  const token = await userToken(KEYS.ES256, claimsOf({ issuer: `${PROJECT}/auth/v1` }));
  const round = async (count) => {
    for (let time = 0; time < count; time += 1) {
      const [one, other] = [new Gate(STATIC), new Gate(SUPABASE, { fetch, store: new Map(), waitUntil() {} })];
      assert.equal((await one.check(asked(TOKEN))).allowed, true);
      assert.equal((await one.check(asked("wrong"))).allowed, false);
      assert.equal((await other.check(asked(token), { waitUntil() {} })).allowed, true);
      one.free();
      other.free();
    }
  };
  await round(200);
  const before = taken();
  await round(2000);
  assert.deepEqual(taken(), before);
});

test("what a store holds is looked at before it is taken", async () => {
  const huge = `${Date.now()}\n600\n${DOCUMENT}${" ".repeat(64 * 1024 * 1024)}`;
  const gate = new Gate(SUPABASE, { fetch: async () => new Response(DOCUMENT), store: { get: () => huge, put() {} } });
  const before = taken();
  const token = await userToken(KEYS.ES256, claimsOf({ issuer: `${PROJECT}/auth/v1` }));
  assert.equal((await gate.check(asked(token))).allowed, true);
  assert.deepEqual(taken(), before);
});

test("gates that are freed with judgements under way finish these, and leave nothing behind", async () => {
  const token = await userToken(KEYS.ES256, claimsOf({ issuer: `${PROJECT}/auth/v1` }));
  const round = async (count) => {
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    const fetch = async () => (await held, new Response(DOCUMENT));
    const pending = Array.from({ length: count }, () => {
      const gate = new Gate(SUPABASE, { fetch });
      const judged = gate.check(asked(token));
      gate.free();
      return judged;
    });
    answer();
    for (const { allowed } of await Promise.all(pending)) assert.equal(allowed, true);
  };
  // As many at once need no more memory than before, once the allocator has found places for all.
  for (let time = 0; time < 4; time += 1) await round(500);
  const before = taken();
  for (let time = 0; time < 6; time += 1) await round(500);
  assert.deepEqual(taken(), before);
});

test("gates that nobody frees are freed when they are forgotten", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  // What the platform does of this it does between turns of the event loop.
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const round = async () => {
    for (let time = 0; time < 1000; time += 1) new Gate(STATIC);
    collect();
    await turn();
    await turn();
  };
  for (let time = 0; time < 5; time += 1) await round();
  const before = taken();
  for (let time = 0; time < 10; time += 1) await round();
  assert.deepEqual(taken(), before);
});

test("where a platform has no Ed25519, tokens signed with it are refused, and others are not", async () => {
  const [edwards, curve] = [makeKey("EdDSA"), makeKey("ES256")];
  const gate = new Gate({ ...SUPABASE, SUPABASE_JWKS: JSON.stringify({ keys: [edwards.jwk, curve.jwk] }) });
  const claims = claimsOf({ issuer: `${PROJECT}/auth/v1` });
  const tokens = await Promise.all([edwards, curve].map((key) => userToken(key, claims)));
  const { subtle } = crypto;
  const { importKey } = Object.getPrototypeOf(subtle);
  subtle.importKey = (format, key, algorithm, ...rest) =>
    algorithm.name === "Ed25519" ? Promise.reject(new DOMException("Unrecognized name", "NotSupportedError")) : importKey.call(subtle, format, key, algorithm, ...rest);
  try {
    const { allowed, response } = await gate.verify(tokens[0]);
    assert.deepEqual([allowed, response.status], [false, 401]);
    assert.equal((await gate.verify(tokens[1])).allowed, true);
  } finally {
    delete subtle.importKey;
  }
});

test("the module may be loaded by hand, and is the same library", async () => {
  const { Gate: loaded } = load(new Uint8Array());
  assert.equal(loaded, Gate);
  assert.equal(maskToken("abcdefgh-0123456789-0123456789-01234wxyz"), "abcdefgh...wxyz");
});
