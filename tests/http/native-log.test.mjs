// What the native host tells of requests: ids, a line for each refusal and each pass into /admin, and no line that a stranger made up.
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test as nodeTest } from "node:test";
import WebSocket from "ws";

import { ADMIN_LISTEN, metrics } from "./support/admin.mjs";
import { until, withGateway } from "./support/gateway.mjs";
import { AUTHORIZATION, STATIC, TOKEN } from "./support/hosts.mjs";
import { KEYS, userToken } from "./support/jwt.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { serving } from "./support/serving.mjs";
import { deadPort } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 90_000 }, run);
const JSON_LOG = { AUTH_LOG_FORMAT: "json" };
const HOST = ["Host", "127.0.0.1"];
const OWN_ID = /^[0-9a-f]{32}$/;

const withUpstream = (settings, body) => serving("native", { settings: { ...STATIC, ...JSON_LOG, ...settings } }, body);

const send = (host, target, { headers = [AUTHORIZATION], ...rest } = {}) => ask(host.port, request({ target, headers: [HOST, ...headers], ...rest }));

/** Every line that is complete, as JSON. */
const lines = (host) => host.log().split("\n").slice(0, -1).map((line) => JSON.parse(line));
const line = (host, wanted) => until(JSON.stringify(wanted), 5000, () => lines(host).find((entry) => Object.entries(wanted).every(([name, value]) => entry[name] === value)));
const without = ({ timestamp, ...rest }) => {
  assert.match(timestamp, /^\d{4}-\d\d-\d\dT/);
  return rest;
};

describe("ids of requests", () => {
  test("are made where there is none, and told to the client, the upstream and the log", async () => {
    await withUpstream({ LOG_LEVEL: "debug" }, async (host, upstream) => {
      const answers = [await send(host, "/v1/models"), await send(host, "/v1/models")];
      const ids = answers.map((answer) => answer.header("x-request-id"));
      assert.ok(ids[0] !== ids[1] && ids.every((id) => OWN_ID.test(id)), ids.join());
      assert.deepEqual(upstream.requests.map(({ headers }) => headers.filter(([name]) => name === "x-request-id")), ids.map((id) => [["x-request-id", id]]));
      const { seconds, ...told } = without(await line(host, { request_id: ids[0] }));
      assert.deepEqual(told, { level: "DEBUG", message: "answered", method: "GET", path: "/v1/models", status: 200, source: "upstream", peer: "127.0.0.1", request_id: ids[0] });
      assert.ok(seconds > 0 && seconds < 60);
      const refused = await send(host, "/v1/models", { headers: [] });
      await line(host, { request_id: refused.header("x-request-id"), message: "refused" });
    });
  });

  test("are on every answer of the gateway's own", async () => {
    await withUpstream({}, async (host) => {
      for (const [target, headers] of [["/v1/x", []], ["/.auth/whoami", [AUTHORIZATION]], ["/.auth/verify", []], ["/v1/%00", []], ["/terminal", [AUTHORIZATION]], ["/die-at-once", [AUTHORIZATION]]]) {
        const own = await send(host, target, { headers: [...headers, ["X-Request-Id", "mine-1"]] });
        assert.equal(own.header("x-request-id"), "mine-1", `${target} (${own.status})`);
      }
      const [nameless] = (await exchange(host.port, "GET / HTTP/1.1\r\nX-Request-Id: mine-2\r\n\r\n")).answers;
      assert.deepEqual([nameless.status, nameless.header("x-request-id")], [400, "mine-2"]);
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: { authorization: `Bearer ${TOKEN}`, "x-request-id": "mine-3" } });
      const [answer] = await once(socket, "upgrade");
      assert.equal(answer.headers["x-request-id"], "mine-3");
      socket.terminate();
    });
  });

  const HARMLESS = ["f47ac10b-58cc-4372-a567-0e02b2c3d479", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a", "A:b.c_d-1", "x".repeat(128)];
  const HARMFUL = ["x".repeat(129), "two words", "a,b", 'a"b', "a\\nb", "<script>", "$(reboot)", "%0a", "a=b", "\u00e4", "a\tb", "{}", ""];

  test("of the client go on if they are harmless, and no other spelling does", async () => {
    await withUpstream({}, async (host, upstream) => {
      for (const id of HARMLESS) {
        const answer = await send(host, "/v1/models", { headers: [AUTHORIZATION, ["x-ReQuest-iD", id], ["X_Request_Id", "another"], ["X-Request_Id", "another"]] });
        assert.equal(answer.header("x-request-id"), id);
        const [{ headers }] = upstream.take();
        assert.deepEqual(headers.filter(([name]) => name.replaceAll("_", "-") === "x-request-id"), [["x-request-id", id]]);
      }
    });
  });

  test("of the client are replaced if they are more than an id, or two", async () => {
    await withUpstream({}, async (host, upstream) => {
      for (const given of [...HARMFUL.map((id) => [id]), ["one", "two"], ["one", "one"]]) {
        const bytes = Buffer.from(request({ target: "/v1/models", headers: [HOST, AUTHORIZATION, ...given.map((id) => ["X-Request-Id", id])] }));
        const answer = await ask(host.port, bytes);
        const id = answer.header("x-request-id");
        assert.match(id, OWN_ID, JSON.stringify(given));
        const [{ headers }] = upstream.take();
        assert.deepEqual(headers.filter(([name]) => name === "x-request-id"), [["x-request-id", id]]);
        const refused = await send(host, "/v1/models", { headers: given.map((each) => ["X-Request-Id", each]) });
        const { request_id: logged } = await line(host, { request_id: refused.header("x-request-id") });
        assert.match(logged, OWN_ID);
      }
    });
  });

  test("W3C trace headers pass as they are", async () => {
    await withUpstream({}, async (host, upstream) => {
      const trace = [["traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], ["tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], ["tracestate", "vendor@x=1"], ["baggage", "userId=alice"]];
      await send(host, "/v1/models", { headers: [AUTHORIZATION, ...trace] });
      await send(host, "/v1/models", { headers: [AUTHORIZATION] });
      const [traced, plain] = upstream.take().map(({ headers }) => headers.filter(([name]) => ["traceparent", "tracestate", "baggage"].includes(name)));
      // Among headers of different names there is no order (RFC 9110, section 5.3).
      const sorted = (headers) => headers.toSorted(([one], [other]) => one.localeCompare(other));
      assert.deepEqual(sorted(traced), sorted(trace));
      assert.deepEqual(plain, [], "none is made up");
    });
  });
});

describe("the audit", () => {
  test("a refusal names its reason, and never the query or a credential", async () => {
    await withUpstream({ ADMIN_TOKEN: "admin-token-0123456789-abcdefgh" }, async (host) => {
      const answer = await send(host, "/v1/models?api_key=query-secret-0123456789", { method: "POST", headers: [["Authorization", "Bearer wrong-token-0123456789"]] });
      const request_id = answer.header("x-request-id");
      const told = without(await line(host, { request_id }));
      assert.deepEqual(told, { level: "INFO", message: "refused", reason: "invalid_token", method: "POST", path: "/v1/models", peer: "127.0.0.1", request_id });
      const admin = await send(host, "/admin/x?secret=1", { headers: [AUTHORIZATION, ["X-Admin-Token", "wrong-admin-0123456789-ijklmnop"]] });
      const known = without(await line(host, { request_id: admin.header("x-request-id") }));
      assert.deepEqual([known.reason, known.user_id, known.role], ["invalid_admin_token", "1", undefined]);
      assert.doesNotMatch(host.log(), /secret|wrong-|admin-token/);
    });
  });

  test("a pass into /admin by any reading is a line with who it was, and no other pass is one", async () => {
    await withUpstream({}, async (host) => {
      for (const target of ["/admin", "/admin/x?y=z", "/ADMIN/x", "/v1/..%2fadmin/x"]) {
        const { header } = await send(host, target, { method: "DELETE" });
        const request_id = header("x-request-id");
        const told = without(await line(host, { request_id }));
        const path = target.split("?")[0];
        assert.deepEqual(told, { level: "INFO", message: "admitted to /admin", method: "DELETE", path, peer: "127.0.0.1", request_id, token_type: "static", user_id: "1" });
      }
      const before = lines(host).length;
      await send(host, "/v1/models");
      await send(host, "/administration");
      const preflight = [["Origin", "https://app.example"], ["Access-Control-Request-Method", "GET"]];
      assert.equal((await send(host, "/admin/x", { method: "OPTIONS", headers: preflight })).status, 200);
      assert.equal((await send(host, "/.auth/whoami", { headers: [] })).status, 401, "a health check");
      const { header } = await send(host, "/v1/last", { headers: [] });
      await line(host, { request_id: header("x-request-id") });
      assert.equal(lines(host).length, before + 1, host.log());
    });
  });

  test("knows users and roles, of those who pass and of those who may not", async () => {
    await withGateway("native", { keys: [KEYS.ES256], settings: { ...JSON_LOG, LOG_LEVEL: "info", AUTH_ADMIN_ROLES: "boss" } }, async (gateway) => {
      for (const [role, status, message] of [["boss", 200, "admitted to /admin"], ["authenticated", 403, "refused"]]) {
        const claims = gateway.claims({ role });
        const token = await userToken(KEYS.ES256, claims);
        // The second time it is remembered.
        for (const id of [`${role}-1`, `${role}-2`]) {
          assert.equal(await gateway.status(token, { target: "/admin/x", headers: [["X-Request-Id", id]] }), status);
          const told = await line(gateway.host, { request_id: id, message });
          assert.deepEqual([told.user_id, told.role], [claims.sub, role]);
        }
      }
    });
  });

  test("of what a proxy describes, it is that which is named", async () => {
    await withUpstream({}, async (host) => {
      const described = [["X-Forwarded-Method", "PUT"], ["X-Forwarded-Uri", "/admin/x?y"]];
      await send(host, "/.auth/verify", { headers: [AUTHORIZATION, ...described] });
      await line(host, { message: "admitted to /admin", method: "PUT", path: "/admin/x" });
      await send(host, "/.auth/verify", { headers: described });
      await line(host, { message: "refused", reason: "no_credential", method: "PUT", path: "/admin/x" });
    });
  });

  for (const [title, settings] of [["text", { AUTH_LOG_FORMAT: "text" }], ["json", JSON_LOG]]) {
    test(`nobody forges a line, and none is without end: ${title}`, async () => {
      await withUpstream(settings, async (host) => {
        const start = host.log().split("\n").length;
        const forged = '2026-01-01T00:00:00.000000Z  INFO admitted to /admin user_id=1 {"level":"INFO","message":"admitted to /admin"}';
        const targets = [
          `/%0a${encodeURIComponent(forged)}`,
          `/a"b'c\\nINFO`,
          `/${Buffer.from("\u202e\u2028\u00e4\u0085").toString("latin1")}`,
          `/${"a".repeat(30_000)}`,
          `/a%0D%0AINFO`,
          "/a\u0007b",
        ];
        let sent = 0;
        for (const target of targets) {
          const { answers } = await exchange(host.port, Buffer.from(`GET ${target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${"\u00ff"}\r\n\r\n`, "latin1"));
          // Some of it is refused by HTTP itself, before there is anything to tell.
          if (answers[0]?.header("x-request-id")) sent += 1;
        }
        const { answers } = await exchange(host.port, request({ method: "M".repeat(20_000), target: "/", headers: [HOST] }));
        if (answers[0]?.header("x-request-id")) sent += 1;
        for (const [name, value] of [["X-Forwarded-Uri", '/x"}{"level":"ERROR"'], ["X-Forwarded-Uri", "/x\\n\\u000aERROR"]]) {
          await send(host, "/.auth/verify", { headers: [["X-Forwarded-Method", "GET"], [name, value]] });
          sent += 1;
        }
        assert.ok(sent >= 6, `${sent} were told of`);
        const told = () => host.log().split("\n").slice(start - 1, -1);
        await until("each is told of once", 5000, () => told().length >= sent);
        assert.equal(told().length, sent, told().join("\n"));
        for (const each of told()) {
          assert.ok(each.length < 1500, `${each.length} characters`);
          assert.match(each, /^[\x20-\x7e]*$/, "visible ASCII");
          if (title === "json") {
            const entry = JSON.parse(each);
            assert.deepEqual([entry.level, entry.message, Object.keys(entry).length], ["INFO", "refused", 8]);
          } else {
            assert.match(each, /^\d{4}-\d\d-\d\dT\S+ +INFO refused reason="\w+" method=\S+ path=\S+ peer="127\.0\.0\.1" request_id="[0-9a-f]{32}"$/);
          }
        }
      });
    });
  }
});

describe("a flood", () => {
  const floods = (host, count, headers = []) =>
    exchange(host.port, Buffer.concat(Array.from({ length: count }, () => request({ target: "/v1/models", headers: [HOST, ...headers] }))), { count, timeout: 60_000 });

  test("of refusals is cut, counted, summed up, and hides no other kind", async () => {
    await withUpstream(ADMIN_LISTEN, async (host) => {
      const before = Date.now();
      await floods(host, 3000);
      const { header } = await send(host, "/v1/models", { headers: [["Authorization", "Bearer another-wrong-token-0123456789"]] });
      await line(host, { request_id: header("x-request-id"), reason: "invalid_token" });
      await send(host, "/admin/x");
      await line(host, { message: "admitted to /admin" });
      const told = lines(host).filter(({ reason }) => reason === "no_credential").length;
      const most = 100 + 5 * ((Date.now() - before) / 1000 + 1);
      assert.ok(told >= 100 && told <= most, `${told} lines, ${most} at most`);
      const { value } = await metrics(host);
      assert.equal(value("nodetool_auth_verdicts_total", { verdict: "refuse", reason: "no_credential" }), 3000, "each is counted");
      assert.equal(value("nodetool_auth_log_lines_dropped_total", { cause: "rate_limit" }), 3000 - told);
      const sum = await until("a summary", 20_000, () => lines(host).find(({ like }) => like === "no_credential"));
      assert.deepEqual([sum.level, sum.count], ["WARN", 3000 - told]);
    });
  });

  test("of an upstream that is down is cut as well", async () => {
    await withUpstream({ UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` }, async (host) => {
      await floods(host, 500, [AUTHORIZATION]);
      const { header } = await send(host, "/v1/models", { headers: [] });
      await line(host, { request_id: header("x-request-id") });
      const told = lines(host).filter(({ message }) => message === "the upstream cannot be reached").length;
      assert.ok(told >= 100 && told < 400, `${told} lines`);
    });
  });

  test("that nobody reads holds up no request, and is counted", async () => {
    await withUpstream({ LOG_LEVEL: "debug", ...ADMIN_LISTEN }, async (host) => {
      const log = host.log();
      host.child.stderr.pause();
      for (let times = 0; times < 4; times += 1) await floods(host, 2500, [AUTHORIZATION]);
      const dropped = (await metrics({ log: () => log })).value("nodetool_auth_log_lines_dropped_total", { cause: "queue_full" });
      assert.ok(dropped > 1000, `${dropped} lines`);
      assert.equal((await send(host, "/v1/models")).status, 200);
      host.child.stderr.resume();
      await until("it is told of", 20_000, () => lines(host).find(({ message }) => /not read fast enough/.test(message)));
      host.child.stderr.pause();
      for (let times = 0; times < 4; times += 1) await floods(host, 2500, [AUTHORIZATION]);
      const exited = once(host.child, "exit");
      host.child.kill("SIGTERM");
      assert.equal((await exited)[0], 0, "it ends all the same");
      host.child.stderr.resume();
    });
  });

  test("the last lines are written before the process ends", async () => {
    await withUpstream({}, async (host) => {
      await floods(host, 50);
      const { code, stderr } = await host.stop("SIGTERM");
      assert.equal(code, 0);
      assert.equal(stderr.match(/"reason":"no_credential"/g).length, 50);
      assert.match(stderr, /stopping/);
    });
  });
});
