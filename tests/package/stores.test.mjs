// What a gate uses of its surroundings: another fetch, stores for keys and tokens, and what outlives a request; and what becomes of it
// when these fail.
import assert from "node:assert/strict";
import test from "node:test";

import { Gate, cacheStore } from "nodetool-edge-auth";

import { ALL_KEYS, KEYS, SECRET, claimsOf, legacyToken, makeKey, userToken } from "../http/support/jwt.mjs";
import { TOKEN } from "./support.mjs";

const PROJECT = "http://127.0.0.1:54321";
const KEYS_AT = `${PROJECT}/auth/v1/.well-known/jwks.json`;
const USER_AT = `${PROJECT}/auth/v1/user`;
const SETTINGS = { AUTH_PROVIDER: "supabase", ENV: "test", SUPABASE_URL: PROJECT, SUPABASE_KEY: "sb_publishable_test", AUTH_ADMIN_ROLES: "admin", AUTH_FETCH_TIMEOUT: 1 };
const supabase = { issuer: `${PROJECT}/auth/v1` };
const DOCUMENT = JSON.stringify({ keys: ALL_KEYS.map(({ jwk }) => jwk) });

const good = await userToken(KEYS.ES256, claimsOf(supabase));
const impostor = makeKey("ES256", { kid: KEYS.ES256.kid });
const forged = await userToken(impostor, claimsOf(supabase));

console.warn = () => {};

/** A project that counts what it is asked for. */
function project(answer = () => new Response(DOCUMENT, { headers: { "cache-control": "max-age=600" } })) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, ...init });
    return answer(url, init);
  };
  return { asked, fetch };
}

const never = () => new Promise(() => {});
const statusOf = async (gate, token, context) => {
  const { allowed, response } = await gate.verify(token, context);
  assert.equal(allowed, response === null);
  return response?.status ?? 200;
};

test("keys come by the fetch that is given, which is told to follow nobody", async () => {
  const { asked, fetch } = project();
  const gate = new Gate(SETTINGS, { fetch });
  assert.equal(await statusOf(gate, good), 200);
  assert.equal(await statusOf(gate, forged), 401);
  assert.deepEqual(asked.map(({ url, redirect, headers }) => [url, redirect, headers]), [[KEYS_AT, "manual", []]]);
  assert.ok(asked[0].signal instanceof AbortSignal);
});

test("a fetch that fails in whatever way lets nobody in, and keeps nobody waiting", async (context) => {
  const broken = {
    "throws at once": () => { throw new Error("broken"); },
    rejects: async () => { throw new Error("broken"); },
    "hangs, and does not heed the signal": never,
    "hangs within the body": async () => new Response(new ReadableStream({ pull: never })),
    "gives nothing": async () => undefined,
    "gives no Response": async () => ({ status: 200, json: () => JSON.parse(DOCUMENT) }),
    "gives a page": async () => new Response("<!doctype html>"),
    "gives too much": async () => new Response(`${DOCUMENT}${" ".repeat(2_000_000)}`),
    "gives a redirect": async () => new Response(null, { status: 302, headers: { location: KEYS_AT } }),
    "gives an error": async () => new Response(DOCUMENT, { status: 500 }),
  };
  for (const [name, fetch] of Object.entries(broken)) {
    await context.test(name, async () => {
      const gate = new Gate(SETTINGS, { fetch });
      assert.deepEqual(await Promise.all([statusOf(gate, good), statusOf(gate, forged)]), [503, 503]);
      assert.equal(await statusOf(gate, await legacyToken(claimsOf(supabase))), 503, "nor for the user endpoint");
    });
  }
});

test("of an answer without end no more is taken than there may be keys", async () => {
  let taken = 0;
  const spaces = new TextEncoder().encode(" ".repeat(65_536));
  const pull = (controller) => {
    taken += spaces.length;
    controller.enqueue(spaces);
  };
  const gate = new Gate(SETTINGS, { fetch: async () => new Response(new ReadableStream({ pull })) });
  assert.equal(await statusOf(gate, good), 503);
  assert.ok(taken < 2_000_000, `${taken} bytes`);
});

test("users are asked about by that fetch, with nothing but their token", async () => {
  const claims = claimsOf(supabase);
  const token = legacyToken(claims, { secret: SECRET });
  const { asked, fetch } = project(() => Response.json({ id: claims.sub, role: "authenticated" }));
  assert.equal(await statusOf(new Gate(SETTINGS, { fetch }), token), 200);
  assert.deepEqual(asked.map(({ url, headers }) => [url, headers]), [[USER_AT, [["apikey", "sb_publishable_test"], ["authorization", `Bearer ${token}`]]]]);
});

/** As Workers KV: texts only, and it wants to know for how long. */
class KV {
  values = new Map();
  async get(key) {
    return this.values.get(key)?.value ?? null;
  }
  async put(key, value, { expirationTtl }) {
    assert.equal(typeof value, "string");
    assert.ok(expirationTtl >= 60);
    this.values.set(key, { value, expirationTtl });
  }
}

/** As a cache of the Cache API. */
class FakeCache {
  #kept = new Map();
  async match(url) {
    return this.#kept.get(new URL(url).href)?.clone();
  }
  async put(url, response) {
    assert.match(response.headers.get("cache-control"), /^max-age=\d+$/);
    this.#kept.set(new URL(url).href, response);
  }
}

for (const [name, make] of [
  ["a Map", () => new Map()],
  ["KV", () => new KV()],
  ["a cache", () => cacheStore(new FakeCache())],
  ["a cache that is still to be opened", () => cacheStore(Promise.resolve(new FakeCache()))],
  ["two, of which the first forgets", () => [{ get: () => null, put() {} }, new Map()]],
  ["two, of which the first has nothing to say", () => [{ get: never, put: never }, new KV()]],
]) {
  test(`keys that one gate leaves in ${name} are found by others`, async () => {
    const { asked, fetch } = project();
    const store = make();
    assert.equal(await statusOf(new Gate(SETTINGS, { fetch, store }), good), 200);
    for (let time = 0; time < 3; time += 1) {
      const other = new Gate(SETTINGS, { fetch, store });
      assert.deepEqual([await statusOf(other, good), await statusOf(other, forged)], [200, 401]);
    }
    assert.equal(asked.length, 1);
  });
}

test("keys are left for as long as they may be used, under the project's own name", async () => {
  const store = new KV();
  await statusOf(new Gate(SETTINGS, { fetch: project().fetch, store }), good);
  const [[key, { expirationTtl }]] = store.values;
  assert.deepEqual([store.values.size, key, expirationTtl], [1, `jwks:${KEYS_AT}`, 600 + 3600]);
});

test("a store that fails in whatever way is passed by, and lets nobody in", async (context) => {
  const fails = () => { throw new Error("broken"); };
  const foreign = JSON.stringify({ keys: [impostor.jwk] });
  const stores = {
    throws: { get: fails, put: fails },
    rejects: { get: async () => fails(), put: async () => fails() },
    hangs: { get: never, put: never },
    "holds nothing": { get: () => undefined, put() {} },
    "holds a number": { get: () => 42, put() {} },
    "holds an object": { get: () => ({ keys: [impostor.jwk] }), put() {} },
    "holds bytes": { get: () => new TextEncoder().encode(DOCUMENT), put() {} },
    "holds garbage": { get: () => "garbage", put() {} },
    "holds keys without their age": { get: () => foreign, put() {} },
    "holds keys of the future": { get: () => `${Date.now() + 3_600_000}\n600\n${foreign}`, put() {} },
    "holds keys of long ago": { get: () => `${Date.now() - 86_400_000}\n600\n${foreign}`, put() {} },
    "holds half of it": { get: () => `${Date.now()}\n600\n${foreign.slice(0, -10)}`, put() {} },
    "holds no keys": { get: () => `${Date.now() - 700_000}\n600\n{"keys":[]}`, put() {} },
    "holds far too much": { get: () => `${Date.now()}\n600\n${foreign}${" ".repeat(2_000_000)}`, put() {} },
  };
  for (const [name, store] of Object.entries(stores)) {
    await context.test(name, async () => {
      for (const given of [store, [store, store, store]]) {
        const { asked, fetch } = project();
        const gate = new Gate(SETTINGS, { fetch, store: given });
        assert.deepEqual([await statusOf(gate, good), await statusOf(gate, forged), asked.length], [200, 401, 1]);
        const alone = new Gate(SETTINGS, { fetch: async () => new Response("", { status: 500 }), store: given });
        assert.notEqual(await statusOf(alone, forged), 200);
      }
    });
  }
});

test("what outlives a request is handed to its context, else to the gate's own", async () => {
  const [handed, own] = [[], []];
  const store = new KV();
  const gate = new Gate(SETTINGS, { fetch: project().fetch, store, waitUntil: (work) => own.push(work) });
  assert.equal(await statusOf(gate, good, { waitUntil: (work) => handed.push(work) }), 200);
  assert.ok(handed.length >= 2 && handed.every((work) => work instanceof Promise), "the judgement and what was left");
  assert.equal(own.length, 0);
  await Promise.all(handed);
  assert.equal(store.values.size, 1);
  const again = new Gate(SETTINGS, { fetch: project().fetch, store: new KV(), waitUntil: (work) => own.push(work) });
  assert.equal(await statusOf(again, good), 200);
  assert.ok(own.length >= 2);
  for (const context of [{ waitUntil() { throw new Error("the request is over"); } }, {}, { get waitUntil() { throw new Error("there is none"); } }, null, undefined]) {
    assert.equal(await statusOf(new Gate(SETTINGS, { fetch: project().fetch }), good, context), 200);
  }
});

test("static tokens are read from a store where no setting holds one", async () => {
  const STATIC = { AUTH_PROVIDER: "static" };
  const hash = "0585831e329297845ece076832d8195573024ead3f1e366f2c44ad89a40d115c";
  const asked = [];
  const of = (value) => new Gate(STATIC, { tokens: { get: async (key) => (asked.push(key), value) } });
  for (const [value, token, status] of [
    [TOKEN, TOKEN, 200],
    [TOKEN, "wrong", 401],
    [`{"tokens":[{"name":"ci","sha256":"${hash}"}]}`, TOKEN, 200],
    [`{"tokens":[{"name":"ci","sha256":"${hash}"}]}`, hash, 401],
    [`{"tokens":[{"name":"ci","sha256":"${hash}","not_after":1}]}`, TOKEN, 401],
    ['{"tokens":[]}', TOKEN, 503],
    ['{"tokens":', TOKEN, 500],
    [null, TOKEN, 503],
    [undefined, TOKEN, 503],
    ["  ", "  ", 503],
    [42, "42", 503],
    [{ tokens: [] }, TOKEN, 503],
  ]) {
    assert.equal(await statusOf(of(value), token), status, `${JSON.stringify(value)}, ${token}`);
  }
  assert.ok(asked.every((key) => key === "worker_auth_token"));
  const broken = new Gate(STATIC, { tokens: { get() { throw new Error("broken"); } } });
  assert.equal(await statusOf(broken, TOKEN), 503);
  const set = new Gate({ ...STATIC, WORKER_AUTH_TOKEN: TOKEN }, { tokens: new Map([["worker_auth_token", "another-token-0123456789"]]) });
  assert.deepEqual([await statusOf(set, TOKEN), await statusOf(set, "another-token-0123456789")], [200, 401], "a setting goes before the store");
  const users = new Gate(SETTINGS, { fetch: project().fetch, tokens: new Map([["worker_auth_token", TOKEN]]) });
  assert.deepEqual([await statusOf(users, TOKEN), await statusOf(users, good)], [200, 200], "beside users");
});

test("options that are none are refused when the gate is made", () => {
  for (const options of [{ stores: new Map() }, { fetch: "x" }, { store: {} }, { store: { get() {} } }, { store: [new Map(), undefined] }, { store: "x" }, { tokens: {} }, { waitUntil: {} }]) {
    assert.throws(() => new Gate(SETTINGS, options), TypeError, JSON.stringify(options));
  }
  for (const options of [undefined, null, {}, { fetch: undefined, store: undefined, tokens: undefined, waitUntil: undefined }]) new Gate(SETTINGS, options).free();
});
