// Gates in workerd, with its own cache and KV: what one isolate leaves others find, and a client that leaves takes nothing along.
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import net from "node:net";
import test from "node:test";

import { ALL_KEYS, KEYS, claimsOf, userToken } from "../http/support/jwt.mjs";
import { namespace, service } from "../http/support/workers.mjs";
import { startWorker } from "./support.mjs";

const SUPABASE = { AUTH_PROVIDER: "supabase", ENV: "test", AUTH_ADMIN_ROLES: "admin", SUPABASE_KEY: "sb_publishable_test", SUPABASE_URL: "http://127.0.0.1:54321" };
const KEYS_AT = `${SUPABASE.SUPABASE_URL}/auth/v1/.well-known/jwks.json`;
const DOCUMENT = JSON.stringify({ keys: ALL_KEYS.map(({ jwk }) => jwk) });

const token = await userToken(KEYS.ES256, claimsOf({ issuer: `${SUPABASE.SUPABASE_URL}/auth/v1` }));
const forged = `${token.slice(0, -10)}AAAAAAAAAA`;

/** The project as the Worker's fetches find it. */
function project() {
  const events = new EventEmitter();
  const state = { asked: [], events, held: undefined };
  state.answer = async (request) => {
    state.asked.push(request.url);
    events.emit("asked");
    await state.held;
    return new Response(DOCUMENT, { headers: { "cache-control": "max-age=600" } });
  };
  return state;
}

async function start(context) {
  const state = project();
  const worker = await startWorker(context, "examples/worker-js/wrangler.toml", { settings: SUPABASE, env: { AUTH_KV: namespace() }, outbound: service(state.answer) });
  const ask = async (bearer, url = worker.url) => (await fetch(`${url}/v1`, { headers: { authorization: `Bearer ${bearer}` } })).status;
  return { ...worker, project: state, ask };
}

test("keys that an isolate left are found by one that starts later, and by one that has no cache of it", async (context) => {
  const { miniflare, project, ask } = await start(context);
  assert.deepEqual([await ask(token), await ask(forged), project.asked], [200, 401, [KEYS_AT]]);
  const kv = await miniflare.getKVNamespace("AUTH_KV");
  // It is left there after the answer.
  const key = `jwks:${KEYS_AT}`;
  while ((await kv.get(key)) === null) await new Promise((resolve) => setImmediate(resolve));
  const { keys: [{ expiration }] } = await kv.list();
  assert.ok(Math.abs(expiration - Date.now() / 1000 - 4200) < 60, "for as long as the keys may be used");
  const record = await kv.get(key);

  const other = await start(context);
  await (await other.miniflare.getKVNamespace("AUTH_KV")).put(key, record);
  assert.deepEqual([await other.ask(token), await other.ask(forged), other.project.asked], [200, 401, []]);

  const near = await start(context);
  const url = `https://nodetool-edge-auth.invalid/${encodeURIComponent(key)}`;
  const kept = await (await miniflare.getCaches()).default.match(url);
  assert.equal(await kept.clone().text(), record);
  await (await near.miniflare.getCaches()).default.put(url, kept);
  assert.deepEqual([await near.ask(token), await near.ask(forged), near.project.asked], [200, 401, []]);

  const spoiled = await start(context);
  await (await spoiled.miniflare.getKVNamespace("AUTH_KV")).put(key, "garbage");
  assert.deepEqual([await spoiled.ask(token), await spoiled.ask(forged), spoiled.project.asked], [200, 401, [KEYS_AT]]);
});

test("a client that leaves takes no fetch along", async (context) => {
  const { port, url, project, ask } = await start(context);
  let release;
  project.held = new Promise((resolve) => (release = resolve));
  const asked = once(project.events, "asked");
  const client = net.connect(port, "127.0.0.1");
  client.write(`GET /v1 HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  await asked;
  client.resetAndDestroy();
  // Turn after turn of its loop: by now it knows.
  for (let time = 0; time < 20; time += 1) assert.equal((await fetch(`${url}/health`)).status, 200);
  const later = ask(token);
  release();
  assert.equal(await later, 200);
  assert.deepEqual(project.asked, [KEYS_AT], "what it had begun was of use to the next");
});
