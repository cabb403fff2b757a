// The template of a Worker in front of an API: as somebody has it who made one of it, in workerd.
import assert from "node:assert/strict";
import { once } from "node:events";
import { cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { WebSocket } from "ws";

import { ask, request } from "../http/support/raw.mjs";
import { deadPort, startUpstream } from "../http/support/upstream.mjs";
import { namespace } from "../http/support/workers.mjs";
import { INSTALLED, ROOT, STATIC, TOKEN, scratch, startWorker } from "./support.mjs";

const AUTHORIZATION = ["Authorization", `Bearer ${TOKEN}`];
const TEMPLATE = path.join(ROOT, "templates", "worker");

/** A project made of the template, with the package as it would be installed. */
function instantiate(context) {
  const project = path.join(scratch(context), "my-gateway");
  cpSync(TEMPLATE, project, { recursive: true });
  mkdirSync(path.join(project, "node_modules"));
  symlinkSync(INSTALLED, path.join(project, "node_modules", "nodetool-edge-auth"), "junction");
  return project;
}

async function start(context, settings, env) {
  const worker = await startWorker(context, path.join(instantiate(context), "wrangler.toml"), { settings, env });
  const send = (target, headers = [AUTHORIZATION], rest = {}) => ask(worker.port, request({ target, headers: [["Host", "gateway.test"], ...headers], ...rest }));
  return { ...worker, send };
}

async function withUpstream(context) {
  const upstream = await startUpstream();
  context.after(() => upstream.stop());
  return upstream;
}

test("it wants the package as it is", () => {
  const { version } = JSON.parse(readFileSync(path.join(INSTALLED, "package.json"), "utf8"));
  const { dependencies } = JSON.parse(readFileSync(path.join(TEMPLATE, "package.json"), "utf8"));
  assert.equal(dependencies["nodetool-edge-auth"], `^${version.split(".").slice(0, 2).join(".")}.0`);
});

test("who may pass gets to the API, which is told who it is", async (context) => {
  const upstream = await withUpstream(context);
  const { send, url } = await start(context, { ...STATIC, UPSTREAM_URL: `${upstream.url}/`, CORS_ORIGINS: "https://app.example" });

  const refusal = await send("/v1/models", []);
  assert.deepEqual([refusal.status, refusal.header("www-authenticate"), refusal.header("content-type")], [401, "Bearer", "application/json"]);
  assert.equal((await send("/v1/models", [["Authorization", "Bearer another-token-0123456789"]])).status, 401);
  assert.deepEqual(upstream.take(), [], "nothing of it reaches the API");

  const spoofed = [["X-User-Id", "root"], ["x_auth_role", "boss"], ["Origin", "https://app.example"]];
  const answer = await send("/v1/a%2Fb?x=1&y=%20", [AUTHORIZATION, ...spoofed], { method: "POST", body: "a body" });
  assert.deepEqual([answer.status < 300, answer.header("access-control-allow-origin")], [true, "https://app.example"]);
  const [entry, ...others] = upstream.take();
  assert.deepEqual([`${entry.method} ${entry.target}`, (await entry.body).toString(), others], ["POST /v1/a%2Fb?x=1&y=%20", "a body", []]);
  assert.deepEqual(entry.headers.filter(([name]) => /^x[-_](user|auth)/.test(name)).sort(), [["x-auth-token-type", "static"], ["x-user-id", "1"]]);

  assert.ok((await send("/health", [["X-User-Id", "root"]])).status < 300);
  const [health] = upstream.take();
  assert.deepEqual(health.headers.filter(([name]) => name.startsWith("x-user")), []);
  // What the platform adds to a request that no cache is to answer.
  assert.deepEqual(health.headers.filter(([name]) => name === "pragma"), [["pragma", "no-cache"]]);

  const socket = new WebSocket(`${url.replace("http", "ws")}/ws`, [], { headers: Object.fromEntries([AUTHORIZATION]) });
  await once(socket, "open");
  const echo = once(socket, "message");
  socket.send("hello");
  assert.equal((await echo)[0].toString(), "hello");
  socket.terminate();
});

test("the token may be in KV", async (context) => {
  const upstream = await withUpstream(context);
  const { send, miniflare } = await start(context, { AUTH_PROVIDER: "static", UPSTREAM_URL: upstream.url }, { AUTH_KV: namespace() });
  await (await miniflare.getKVNamespace("AUTH_KV")).put("worker_auth_token", TOKEN);
  assert.ok((await send("/v1/models")).status < 300);
  assert.equal((await send("/v1/models", [["Authorization", "Bearer another-token-0123456789"]])).status, 401);
});

test("an API that is down, and settings that are wrong, are answers of their own", async (context) => {
  const down = await start(context, { ...STATIC, UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` });
  const answer = await down.send("/v1/models");
  assert.deepEqual([answer.status, answer.body.toString(), answer.header("cache-control")], [502, '{"detail":"Upstream unavailable"}', "no-store"]);
  for (const wrong of [{ ...STATIC, AUTH_PROVIDER: "jwt", UPSTREAM_URL: "http://127.0.0.1:1" }, STATIC, { ...STATIC, UPSTREAM_URL: "somewhere" }]) {
    const { send } = await start(context, wrong);
    for (const target of ["/v1/models", "/health"]) {
      const refusal = await send(target);
      assert.deepEqual([refusal.status, refusal.body.toString(), refusal.header("cache-control")], [500, '{"detail":"Authentication is misconfigured"}', "no-store"], target);
    }
  }
});
