// What the Worker tells of requests: lines of JSON, the ids of the platform, and data points where there is somewhere to put them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";

import { until, withGateway } from "./support/gateway.mjs";
import { AUTHORIZATION, GATEWAY, ROOT, STATIC } from "./support/hosts.mjs";
import { KEYS, userToken } from "./support/jwt.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { serving } from "./support/serving.mjs";
import { deadPort } from "./support/upstream.mjs";
import { behind } from "./support/workers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const HOST = ["Host", "127.0.0.1"];
const RAY = ["CF-Ray", "8f1c2d3e4f5a6b7c-AMS"];

const withEdge = ({ settings, ...options }, body) => serving("edge", { settings: { ...STATIC, ...settings }, ...options }, body);

const send = (host, target, { headers = [AUTHORIZATION], ...rest } = {}) => ask(host.port, request({ target, headers: [HOST, ...headers], ...rest }));
const lines = (host) => host.log().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
const line = (host, wanted) => until(JSON.stringify(wanted), 10_000, () => lines(host).find((entry) => Object.entries(wanted).every(([name, value]) => entry[name] === value)));
const ids = ({ headers }) => headers.filter(([name]) => name.replaceAll("_", "-") === "x-request-id");

describe("edge: the log", () => {
  test("a refusal and a pass into /admin are an object each, and no other request is", async () => {
    await withEdge({ settings: { ADMIN_TOKEN: "admin-token-0123456789-abcdefgh" } }, async (host) => {
      const peer = ["CF-Connecting-IP", "203.0.113.9"];
      await send(host, "/v1/models?api_key=query-secret-0123456789", { headers: [["Authorization", "Bearer wrong-token-0123456789"], RAY, peer] });
      assert.deepEqual(await line(host, { message: "refused" }), { level: "info", message: "refused", reason: "invalid_token", method: "GET", path: "/v1/models", peer: "203.0.113.9", request_id: RAY[1] });
      await send(host, "/admin/x?y", { headers: [AUTHORIZATION, ["X-Admin-Token", "wrong-admin-0123456789-ijklmnop"]] });
      const known = await line(host, { reason: "invalid_admin_token" });
      assert.deepEqual([known.user_id, known.token_type], ["1", "static"]);
      const before = lines(host).length;
      await send(host, "/v1/models");
      await send(host, "/health", { headers: [] });
      // A health check.
      await send(host, "/.auth/whoami", { headers: [] });
      await send(host, "/admin/x", { method: "OPTIONS", headers: [["Origin", "https://app.example"], ["Access-Control-Request-Method", "GET"]] });
      await send(host, "/admin/x?y", { method: "DELETE", headers: [AUTHORIZATION, ["X-Admin-Token", "admin-token-0123456789-abcdefgh"], peer] });
      assert.deepEqual(await line(host, { message: "admitted to /admin" }), { level: "info", message: "admitted to /admin", method: "DELETE", path: "/admin/x", peer: "203.0.113.9", token_type: "static", user_id: "1" });
      assert.equal(lines(host).length, before + 1, host.log());
      assert.doesNotMatch(host.log(), /secret|wrong-|admin-token-/);
    });
  });

  test("knows users and roles", async () => {
    await withGateway("edge", { keys: [KEYS.ES256], settings: { AUTH_ADMIN_ROLES: "boss" } }, async (gateway) => {
      for (const [role, status, message] of [["boss", 200, "admitted to /admin"], ["authenticated", 403, "refused"]]) {
        const claims = gateway.claims({ role });
        assert.equal(await gateway.status(await userToken(KEYS.ES256, claims), { target: "/admin/x" }), status);
        const told = await line(gateway.host, { message });
        assert.deepEqual([told.user_id, told.role, told.token_type], [claims.sub, role, "user"]);
      }
    });
  });

  test("nobody forges a line, and none is without end", async () => {
    await withEdge({ settings: { AUTH_VERIFY_OPEN: "1" } }, async (host) => {
      for (const target of ["/%0a%7B%22level%22:%22info%22%7D", `/a"b'c`, `/${"a".repeat(8000)}`, `/${Buffer.from("\u202e\u00e4").toString("latin1")}`]) {
        await exchange(host.port, Buffer.from(`GET ${target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: a"},{"level":"x\r\n\r\n`, "latin1"));
      }
      await send(host, "/.auth/verify", { headers: [["X-Forwarded-Method", "GET"], ["X-Forwarded-Uri", '/x"}{"level":"error"']] });
      await line(host, { path: '/x\\"}{\\"level\\":\\"error\\"' });
      const told = lines(host);
      assert.equal(told.length, 5, host.log());
      assert.equal(host.log().trim().split("\n").length, 5, "and nothing else");
      for (const entry of told) {
        assert.deepEqual([entry.level, entry.message], ["info", "refused"]);
        assert.match(JSON.stringify(entry), /^[\x20-\x7e]{1,1200}$/);
        if (entry.request_id !== undefined) assert.match(entry.request_id, /^[0-9a-f]{32}$/);
      }
    });
  });

  test("what goes wrong is an object too, with its level", async () => {
    await withEdge({ settings: { AUTH_PROVIDER: "none-such" } }, async (host) => {
      assert.equal((await send(host, "/x")).status, 500);
      assert.match((await line(host, { level: "error" })).message, /misconfigured.*\nAUTH_PROVIDER/s);
    });
    await withEdge({ settings: { UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` } }, async (host) => {
      assert.equal((await send(host, "/x")).status, 502);
      assert.match((await line(host, { level: "error" })).message, /upstream cannot be reached/);
    });
    await withEdge({ settings: { WORKER_AUTH_TOKEN: "" } }, async (host) => {
      assert.equal((await send(host, "/x")).status, 503);
      assert.match((await line(host, { level: "error" })).message, /No token is configured/);
    });
  });

  test("with LOG_LEVEL=warn there are no lines about who was refused", async () => {
    await withEdge({ settings: { LOG_LEVEL: "warn", UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` } }, async (host) => {
      assert.equal((await send(host, "/x", { headers: [] })).status, 401);
      assert.equal((await send(host, "/admin/x")).status, 502);
      await line(host, { level: "error" });
      assert.equal(lines(host).length, 1, host.log());
    });
  });

  for (const [title, settings, said] of [
    ["NodeTool's name of ENV, which is not read", { NODETOOL_ENV: "development" }, /NODETOOL_ENV is `development`, but this gateway reads ENV/],
    ["NodeTool's multi_user, which is no provider here", { AUTH_PROVIDER: "multi_user" }, /`multi_user` is a mode of NodeTool's own server/],
  ]) {
    test(`tells of ${title}`, () => withEdge({ settings }, async (host) => {
      await send(host, "/v1/models");
      await until("it does", 5000, () => said.test(host.log()));
    }));
  }

  test("Workers Logs are on in the example deployment, without what may hold a token", () => {
    for (const file of ["wrangler.toml", "templates/worker/wrangler.toml"]) {
      const text = readFileSync(path.join(ROOT, file), "utf8");
      assert.match(text, /^\[observability\]\n(\w+ = .+\n)*redact_query_string = true$/m, file);
      assert.match(text, /^\[observability\.logs\]\nenabled = true\ninvocation_logs = false$/m, file);
    }
  });
});

describe("edge: ids of requests", () => {
  test("are those of Cloudflare, whatever the client says", async () => {
    await withEdge({}, async (host, upstream) => {
      await send(host, "/v1/models", { headers: [AUTHORIZATION, RAY, ["X-Request-Id", "mine"], ["X_Request_Id", "mine"]] });
      assert.deepEqual(upstream.take().map(ids), [[["x-request-id", RAY[1]]]]);
    });
  });

  test("without Cloudflare are the client's, if they are harmless", async () => {
    await withEdge({}, async (host, upstream) => {
      for (const [given, sent] of [[["mine-1"], /^mine-1$/], [["a b"], /^[0-9a-f]{32}$/], [["one", "two"], /^[0-9a-f]{32}$/], [["x".repeat(129)], /^[0-9a-f]{32}$/]]) {
        await send(host, "/v1/models", { headers: [AUTHORIZATION, ...given.map((id) => ["X-Request-Id", id])] });
        const [[[, id], ...others]] = upstream.take().map(ids);
        assert.match(id, sent);
        assert.deepEqual(others, []);
      }
      await send(host, "/v1/models");
      assert.deepEqual(upstream.take().map(ids), [[]], "none is made up where nobody has use for it");
    });
  });

  test("W3C trace headers pass as they are", async () => {
    await withEdge({}, async (host, upstream) => {
      const trace = [["traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], ["tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]];
      await send(host, "/v1/models", { headers: [AUTHORIZATION, ...trace] });
      const [{ headers }] = upstream.take();
      assert.deepEqual(headers.filter(([name]) => name.startsWith("trace")), trace);
    });
  });
});

/** In place of the dataset: in real workerd there is nobody to ask what was written. */
const dataset = (body) => ({
  manifest: behind(`const AUTH_ANALYTICS = { ${body} };
export default { fetch: (request, env, context) => gateway.fetch(request, { ...env, AUTH_ANALYTICS }, context) };`, GATEWAY),
});
const RECORDS = "writeDataPoint(point) { console.log('data point ' + JSON.stringify(point)); }";
const points = (host) => [...host.log().matchAll(/^data point (.+)$/gm)].map(([, point]) => JSON.parse(point));

describe("edge: Analytics Engine", () => {
  test("gets a data point for each judgement", async () => {
    await withEdge({ settings: { ADMIN_TOKEN: "admin-token-0123456789-abcdefgh" }, ...dataset(RECORDS) }, async (host) => {
      await send(host, "/v1/models?secret=1");
      await send(host, "/health", { headers: [] });
      await send(host, "/v1/models", { headers: [], method: "POST", body: "x" });
      await send(host, "/admin/x", { headers: [AUTHORIZATION] });
      await send(host, "/v1/%00");
      await until("five points", 10_000, () => points(host).length === 5);
      const point = (blobs, index) => ({ blobs, doubles: [1], indexes: [index] });
      assert.deepEqual(points(host), [
        point(["pass", "none", "static", "GET"], "pass"),
        point(["pass", "none", "", "GET"], "pass"),
        point(["refuse", "no_credential", "", "POST"], "no_credential"),
        point(["refuse", "no_admin_token", "static", "GET"], "no_admin_token"),
        point(["refuse", "malformed_request", "", "GET"], "malformed_request"),
      ]);
    });
  });

  for (const [title, body] of [
    ["throws", "writeDataPoint() { throw new Error('no'); }"],
    ["breaks its promise", "writeDataPoint() { return Promise.reject(new Error('no')); }"],
    ["never answers", "writeDataPoint() { return new Promise(() => {}); }"],
    ["has no such method", "write() {}"],
    ["has a getter that throws", "get writeDataPoint() { throw new Error('no'); }"],
    ["gives back something odd", "writeDataPoint() { return { get then() { throw new Error('no'); } }; }"],
  ]) {
    test(`is of no consequence if it ${title}`, async () => {
      await withEdge(dataset(body), async (host) => {
        for (let times = 0; times < 3; times += 1) {
          assert.equal((await send(host, "/v1/models")).status, 200);
          assert.equal((await send(host, "/v1/models", { headers: [] })).status, 401);
        }
        assert.doesNotMatch(host.log(), /failed and refused|uncaught|unhandled/i);
      });
    });
  }

  test("is of no consequence if its name is that of a text", async () => {
    await withEdge({ settings: { AUTH_ANALYTICS: "yes" } }, async (host) => assert.equal((await send(host, "/v1/models")).status, 200));
  });

  test("is written to in workerd's own manner", async () => {
    await withEdge({ env: { AUTH_ANALYTICS: { type: "analytics-engine-dataset", name: "nodetool_edge_auth" } } }, async (host) => {
      assert.equal((await send(host, "/v1/models")).status, 200);
      assert.equal((await send(host, "/v1/models", { headers: [] })).status, 401);
    });
  });
});
