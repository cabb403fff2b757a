// Probes and metrics: apart from everything else, right in every state, and exact.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";
import WebSocket from "ws";

import { ADMIN_LISTEN, adminPort, metrics, moved, probe, reasons } from "./support/admin.mjs";
import { until, withGateway } from "./support/gateway.mjs";
import { AUTHORIZATION, ROOT, STATIC, TOKEN, spawnNative, temporaryFolder, withHost, writeFile } from "./support/hosts.mjs";
import { KEYS, legacyToken, now, userToken } from "./support/jwt.mjs";
import { ask, exchange, request } from "./support/raw.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";
import { serving as servingBoth } from "./support/serving.mjs";
import { deadPort } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 90_000 }, run);
const { ES256 } = KEYS;
const HOST = ["Host", "127.0.0.1"];

const serving = (settings, body, options) => withHost("native", { settings: { ...ADMIN_LISTEN, ...settings }, ...options }, body);
const withUpstream = (settings, body) => servingBoth("native", { settings: { ...STATIC, ...ADMIN_LISTEN, ...settings } }, body);

const send = (host, target, { headers = [AUTHORIZATION], ...rest } = {}) => ask(host.port, request({ target, headers: [HOST, ...headers], ...rest }));
const onSupabase = (options, body) => withGateway("native", { keys: [ES256], ...options, settings: { ...ADMIN_LISTEN, AUTH_FETCH_TIMEOUT: "1", ...options.settings } }, body);

describe("the admin listener", () => {
  test("is off unless it is asked for", async () => {
    await serving({ ...STATIC, AUTH_ADMIN_LISTEN: "" }, async (host) => assert.ok(!host.log().includes("probes")));
  });

  test("serves three paths, to GET and HEAD, and nothing else", async () => {
    await withUpstream({}, async (host, upstream) => {
      for (const target of ["/livez", "/readyz", "/metrics", "/metrics?name=x"]) {
        const answer = await probe(host, target);
        assert.equal(answer.status, 200, target);
        assert.equal(answer.headers.get("cache-control"), "no-store");
        const head = await probe(host, target, { method: "HEAD" });
        assert.deepEqual([head.status, head.body], [200, ""]);
        assert.ok(Number(head.headers.get("content-length")) > 0);
        for (const method of ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) {
          const refused = await probe(host, target, { method });
          assert.deepEqual([refused.status, refused.headers.get("allow")], [405, "GET, HEAD"], `${method} ${target}`);
        }
      }
      const headers = { authorization: `Bearer ${TOKEN}` };
      for (const target of ["/", "/health", "/v1/models", "/.auth/whoami", "/.auth/verify", "/livez/", "/readyz/x", "/metrics%2f", "//metrics", "/METRICS", "/admin"]) {
        for (const method of ["GET", "POST"]) assert.equal((await probe(host, target, { method, headers })).status, 404, `${method} ${target}`);
      }
      assert.deepEqual(upstream.requests, [], "nothing comes through");
    });
  });

  test("is not what the public port serves, with or without a token", async () => {
    await withUpstream({}, async (host, upstream) => {
      for (const target of ["/livez", "/readyz", "/metrics"]) {
        assert.equal((await send(host, target, { headers: [] })).status, 401, "it is a path like any other");
        assert.deepEqual((await send(host, target)).body.toString(), '{"from":"upstream"}');
      }
      assert.deepEqual(upstream.requests.map(({ target }) => target), ["/livez", "/readyz", "/metrics"]);
    });
  });

  test("cannot be held up by clients that send nothing", async () => {
    await serving({ AUTH_PROVIDER: "none" }, async (host) => {
      const idle = Array.from({ length: 100 }, () => net.connect(adminPort(host), "127.0.0.1").on("error", () => {}));
      await Promise.all(idle.map((socket) => once(socket, "connect")));
      idle[0].write("GET /livez HTTP/1.1\r\nHost:");
      const closed = Promise.all(idle.map((socket) => once(socket.resume(), "close")));
      // Those before it are cut off, and it has its turn.
      assert.equal((await probe(host, "/livez")).status, 200);
      await closed;
    });
  });

  test("ends a connection after one request, and refuses an endless head", async () => {
    await serving({ AUTH_PROVIDER: "none" }, async (host) => {
      const one = request({ target: "/livez", headers: [HOST] });
      const { answers, closed } = await exchange(adminPort(host), Buffer.concat([one, one]), { count: 2 });
      assert.deepEqual([answers.length, closed], [1, true]);
      const { answers: refused } = await exchange(adminPort(host), request({ target: "/livez", headers: [HOST, ["X", "a".repeat(40_000)]] }));
      assert.ok(refused.every(({ status }) => status === 431), "by HTTP itself");
    });
  });

  test("a port that is taken is named with its setting, and nothing starts", async () => {
    await serving({ AUTH_PROVIDER: "none" }, async (host) => {
      const { code, stderr } = await spawnNative({ settings: { ...STATIC, AUTH_LISTEN: "127.0.0.1:0", AUTH_ADMIN_LISTEN: `127.0.0.1:${adminPort(host)}` } }).exited;
      assert.equal(code, 1);
      assert.match(stderr, /cannot listen on 127\.0\.0\.1:\d+.*AUTH_ADMIN_LISTEN/);
    });
  });

  test("beyond this machine there is a warning, and `check` looks at its port", async () => {
    const port = await deadPort();
    const settings = { ...STATIC, AUTH_LISTEN: "127.0.0.1:0", AUTH_ADMIN_LISTEN: `0.0.0.0:${port}` };
    await serving(settings, async (host) => {
      assert.match(host.log(), /WARN AUTH_ADMIN_LISTEN shows metrics to everyone who can reach/);
      const { stdout } = await spawnNative({ settings, args: ["check"] }).exited;
      assert.match(stdout, /warning +admin_listen: a gateway listens on/);
    });
    const { stdout } = await spawnNative({ settings, args: ["check"] }).exited;
    assert.match(stdout, /ok +admin_listen: /);
  });
});

describe("/readyz", () => {
  test("none: at once", async () => {
    await serving({ AUTH_PROVIDER: "none" }, async (host) => {
      assert.deepEqual(await reasons(host), []);
      assert.deepEqual((await probe(host, "/livez")).body, '{"live":true}');
    });
  });

  test("static: as long as any token would pass", async () => {
    const home = temporaryFolder();
    const file = path.join(home, "nodetool", "deployment.yaml");
    const list = (end) => `accepted_tokens:\n  - name: ci\n    sha256: ${createHash("sha256").update(TOKEN).digest("hex")}\n    not_after: ${end}\n`;
    mkdirSync(path.dirname(file), { mode: 0o700 });
    writeFile(file, list(now() - 60));
    try {
      await serving({ AUTH_PROVIDER: "static" }, async (host) => {
        assert.deepEqual(await reasons(host), ["no_token"]);
        assert.equal((await metrics(host)).value("nodetool_auth_ready"), 0);
        assert.equal((await probe(host, "/livez")).status, 200);
        writeFile(file, list(now() + 3600));
        await until("it is ready", 10_000, async () => (await reasons(host)).length === 0);
        assert.equal((await metrics(host)).value("nodetool_auth_ready"), 1);
      }, { home });
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  test("supabase: not before there are keys, and as long as they will do", async () => {
    await onSupabase({ prepare: (supabase) => supabase.down() }, async ({ host, supabase }) => {
      assert.deepEqual(await reasons(host), ["no_keys"]);
      assert.equal((await metrics(host)).value("nodetool_auth_key_age_seconds"), undefined);
      await supabase.up();
      await until("it is ready", 20_000, async () => (await reasons(host)).length === 0);
      const { value } = await metrics(host);
      const age = value("nodetool_auth_key_age_seconds");
      assert.ok(age >= 0 && age < 60, `${age} s`);
      assert.ok(value("nodetool_auth_key_fetches_total", { outcome: "failure" }) >= 1);
      assert.equal(value("nodetool_auth_key_fetches_total", { outcome: "success" }), 1);
      await supabase.down();
      assert.deepEqual(await reasons(host), [], "an outage is no reason while keys will do");
    });
  });

  test("supabase: keys that are pinned are there at once", async () => {
    const settings = { SUPABASE_JWKS: JSON.stringify({ keys: [ES256.jwk] }) };
    await onSupabase({ settings, prepare: (supabase) => supabase.down() }, async ({ host }) => assert.deepEqual(await reasons(host), []));
  });

  test("says no while the process is drained, and /livez yes", async () => {
    await withUpstream({}, async (host, upstream) => {
      const held = once(upstream.events, "held");
      const answer = send(host, "/held");
      await held;
      const ended = host.stop("SIGTERM");
      await until("it is draining", 10_000, async () => (await reasons(host)).length > 0);
      assert.deepEqual(await reasons(host), ["draining"]);
      assert.equal((await probe(host, "/livez")).status, 200);
      assert.equal((await metrics(host)).value("nodetool_auth_requests_in_flight"), 1);
      upstream.release();
      assert.equal((await answer).status, 200);
      assert.equal((await ended).code, 0);
    });
  });
});

describe("/metrics", () => {
  test("every kind of refusal is counted by its reason, and a pass as one", async () => {
    await withUpstream({ ADMIN_TOKEN: "admin-token-0123456789-abcdefgh" }, async (host) => {
      const wrong = ["Authorization", "Bearer wrong-token-0123456789-abcdefgh"];
      for (const [reason, count, status, target, options] of [
        ["no_credential", 3, 401, "/v1/models", { headers: [] }],
        ["malformed_credential", 2, 401, "/v1/models", { headers: [["Authorization", "Basic eDp5"]] }],
        ["invalid_token", 4, 401, "/v1/models", { headers: [wrong] }],
        ["no_admin_token", 2, 403, "/admin/x", {}],
        ["invalid_admin_token", 1, 403, "/admin/x", { headers: [AUTHORIZATION, ["X-Admin-Token", "another-admin-0123456789"]] }],
        ["malformed_request", 2, 400, "/v1/%00", {}],
        ["terminal_not_served", 1, 404, "/terminal", {}],
        ["no_such_own_path", 1, 404, "/.auth/x", {}],
        ["forbidden_method", 1, 405, "/v1/models", { method: "TRACE" }],
      ]) {
        const changes = await moved(host, async () => {
          for (let times = 0; times < count; times += 1) assert.equal((await send(host, target, options)).status, status, reason);
        });
        assert.deepEqual(changes, { [`verdicts_total reason=${reason} verdict=refuse`]: count, "requests_total source=gateway status=4xx": count });
      }
      const nothing = await moved(host, async () => assert.equal((await exchange(host.port, "GET / HTTP/1.1\r\n\r\n")).answers[0].status, 400));
      assert.deepEqual(nothing, { "verdicts_total reason=malformed_request verdict=refuse": 1, "requests_total source=gateway status=4xx": 1 }, "without a Host");
      const passes = await moved(host, async () => {
        for (const [target, status] of [["/v1/models", 200], ["/v1/models", 200], ["/redirect", 302], ["/teapot", 418]]) assert.equal((await send(host, target)).status, status);
        assert.equal((await send(host, "/health", { headers: [] })).status, 200);
        assert.equal((await send(host, "/.auth/whoami")).status, 200);
      });
      assert.deepEqual(passes, {
        "verdicts_total reason=none verdict=pass": 6,
        "requests_total source=upstream status=2xx": 3,
        "requests_total source=upstream status=3xx": 1,
        "requests_total source=upstream status=4xx": 1,
        "requests_total source=gateway status=2xx": 1,
        upstream_response_seconds_count: 5,
      });
    });
  });

  test("the time to the first byte, and not that of the body", async () => {
    await withUpstream({}, async (host, upstream) => {
      const bucket = async (le) => (await metrics(host)).value("nodetool_auth_upstream_response_seconds_bucket", { le });
      const held = once(upstream.events, "held");
      const answer = send(host, "/held");
      await held;
      await new Promise((resolve) => setTimeout(resolve, 300));
      upstream.release();
      await answer;
      assert.deepEqual([await bucket("0.25"), await bucket("+Inf")], [0, 1], "it took longer than it was held");
      const { value } = await metrics(host);
      assert.ok(value("nodetool_auth_upstream_response_seconds_sum") >= 0.3);
    });
  });

  test("failures of the upstream, by kind", async () => {
    await withUpstream({ UPSTREAM_TIMEOUT: "1" }, async (host) => {
      const after = async (target, status) => moved(host, async () => assert.equal((await send(host, target)).status, status));
      const failure = (kind) => ({ "verdicts_total reason=none verdict=pass": 1, "requests_total source=gateway status=5xx": 1, [`upstream_errors_total kind=${kind}`]: 1 });
      assert.deepEqual(await after("/die-at-once", 502), failure("reset"));
      assert.deepEqual(await after("/hang", 504), failure("timeout"));
      const body = await moved(host, async () => assert.ok(!(await send(host, "/die")).complete));
      assert.deepEqual(body, { "verdicts_total reason=none verdict=pass": 1, "requests_total source=upstream status=2xx": 1, upstream_response_seconds_count: 1, "upstream_errors_total kind=body": 1 });
    });
    await serving({ ...STATIC, UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` }, async (host) => {
      const changes = await moved(host, async () => assert.equal((await send(host, "/x")).status, 502));
      assert.equal(changes["upstream_errors_total kind=connect"], 1);
    });
    const raw = await startRawUpstream(({ socket }) => void socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
    try {
      await serving({ ...STATIC, UPSTREAM_URL: raw.url }, async (host) => {
        const changes = await moved(host, async () => assert.equal((await send(host, "/x")).status, 502));
        assert.equal(changes["upstream_errors_total kind=protocol"], 1);
      });
    } finally {
      await raw.stop();
    }
  });

  test("what is open at the moment: requests, connections, WebSockets", async () => {
    await withUpstream({}, async (host, upstream) => {
      const gauges = async () => {
        const { value } = await metrics(host);
        return ["requests_in_flight", "connections_open", "websockets_open"].map((name) => value(`nodetool_auth_${name}`));
      };
      const are = (expected) => until(`${expected}`, 10_000, async () => `${await gauges()}` === `${expected}`);
      await are([0, 0, 0]);
      const held = [1, 2, 3].map(() => once(upstream.events, "held"));
      const answers = [1, 2, 3].map(() => send(host, "/held"));
      await Promise.all(held);
      await until("three are held", 10_000, async () => upstream.requests.length === 3);
      await are([3, 3, 0]);
      upstream.release();
      await Promise.all(answers);
      await are([0, 0, 0]);
      const events = net.connect(host.port, "127.0.0.1");
      events.write(request({ target: "/events", headers: [HOST, AUTHORIZATION] }));
      await once(events, "data");
      await are([1, 1, 0]);
      events.destroy();
      await are([0, 0, 0]);
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: { authorization: `Bearer ${TOKEN}` } });
      await once(socket, "open");
      await are([0, 1, 1]);
      socket.close();
      await are([0, 0, 0]);
    });
  });

  test("remembered tokens, fetches of keys, and questions about users", async () => {
    await onSupabase({}, async (gateway) => {
      const { host, supabase } = gateway;
      await until("keys are there", 10_000, async () => (await reasons(host)).length === 0);
      const token = await userToken(ES256, gateway.claims());
      const once = (status, send) => moved(host, async () => assert.equal(await send(), status));
      const passed = { "verdicts_total reason=none verdict=pass": 1, "requests_total source=upstream status=2xx": 1, upstream_response_seconds_count: 1 };
      const refused = (reason, status = "4xx") => ({ [`verdicts_total reason=${reason} verdict=refuse`]: 1, [`requests_total source=gateway status=${status}`]: 1 });
      assert.deepEqual(await once(200, () => gateway.status(token)), { ...passed, "token_cache_lookups_total result=miss": 1 });
      assert.deepEqual(await once(200, () => gateway.status(token)), { ...passed, "token_cache_lookups_total result=hit": 1 });
      assert.deepEqual(await once(200, () => gateway.status(TOKEN)), passed, "the static token is looked up nowhere");

      const legacy = legacyToken(gateway.claims());
      const asked = (outcome) => ({ "token_cache_lookups_total result=miss": 1, [`user_questions_total outcome=${outcome}`]: 1 });
      assert.deepEqual(await once(200, () => gateway.status(legacy)), { ...passed, ...asked("accepted") });
      supabase.user.mode = "session_not_found";
      assert.deepEqual(await once(401, () => gateway.status(legacyToken(gateway.claims()))), { ...refused("user_refused"), ...asked("refused") });
      supabase.user.mode = "500";
      assert.deepEqual(await once(503, () => gateway.status(legacyToken(gateway.claims()))), { ...refused("user_unavailable", "5xx"), ...asked("failure") });
      supabase.user.mode = "bad_api_key";
      assert.deepEqual(await once(503, () => gateway.status(legacyToken(gateway.claims()))), { ...refused("api_key_refused", "5xx"), ...asked("failure") });
      supabase.user.mode = "reset";
      assert.deepEqual(await once(503, () => gateway.status(legacyToken(gateway.claims()))), { ...refused("user_unavailable", "5xx"), ...asked("failure") });

      supabase.jwks.mode = "500";
      const unknown = await userToken(ES256, gateway.claims(), { kid: "no-such-key" });
      assert.deepEqual(await once(503, () => gateway.status(unknown)), { ...refused("keys_unavailable", "5xx"), "token_cache_lookups_total result=miss": 1, "key_fetches_total outcome=failure": 1 });
      const cut = `${token.slice(0, -12)}AAAAAAAAAAAA`;
      assert.deepEqual(await once(401, () => gateway.status(cut)), { ...refused("bad_signature"), "token_cache_lookups_total result=miss": 1 });
    });
  });

  test("each use of stale keys in an outage", async () => {
    const prepare = (supabase) => (supabase.jwks.cacheControl = "public, max-age=1");
    await onSupabase({ prepare }, async (gateway) => {
      const { host } = gateway;
      await until("keys are there", 10_000, async () => (await reasons(host)).length === 0);
      gateway.supabase.jwks.mode = "500";
      const fresh = async () => gateway.status(await userToken(ES256, gateway.claims()));
      const stale = async () => (await metrics(host)).value("nodetool_auth_stale_key_uses_total");
      await until("keys are past their age", 60_000, async () => {
        assert.equal(await fresh(), 200);
        return (await stale()) > 0;
      });
      const before = await stale();
      for (let times = 0; times < 3; times += 1) assert.equal(await fresh(), 200);
      assert.equal(await stale(), before + 3);
      assert.ok((await metrics(host)).value("nodetool_auth_key_age_seconds") >= 30);
      assert.deepEqual(await reasons(host), [], "it serves, and is ready");
    });
  });

  test("reloads of the deployment file, by outcome", async () => {
    const home = temporaryFolder();
    const file = path.join(home, "nodetool", "deployment.yaml");
    mkdirSync(path.dirname(file), { mode: 0o700 });
    writeFile(file, `worker_auth_token: ${TOKEN}\n`);
    try {
      await serving({ AUTH_PROVIDER: "static" }, async (host) => {
        const reload = async (outcome, expected) => until(`${outcome}: ${expected}`, 10_000, async () => (await metrics(host)).value("nodetool_auth_token_file_reloads_total", { outcome }) === expected);
        process.kill(host.pid, "SIGHUP");
        await reload("unchanged", 1);
        writeFile(file, "worker_auth_token: another-token-0123456789-abcdefgh\n");
        await reload("changed", 1);
        writeFile(file, "worker_auth_token: [\n");
        await reload("failure", 1);
        process.kill(host.pid, "SIGHUP");
        await reload("failure", 2);
        await reload("changed", 1);
      }, { home });
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  test("the version, the start, and nothing that a request could make up", async () => {
    await withUpstream({}, async (host) => {
      const { samples: before } = await metrics(host);
      for (const target of ["/v1/a", "/v1/b?x=1", "/metrics", "/%41"]) {
        await send(host, target, { headers: [AUTHORIZATION, ["X-Request-Id", "id-1"], ["User-Agent", "agent-1"]] });
        await send(host, target, { headers: [], method: "BREW" });
      }
      const { samples, value } = await metrics(host);
      assert.deepEqual([...samples.keys()], [...before.keys()], "the same series as before");
      const version = /^version = "(.+)"/m.exec(readFileSync(path.join(ROOT, "Cargo.toml"), "utf8"))[1];
      assert.equal(value("nodetool_auth_build_info", { version }), 1);
      const started = value("process_start_time_seconds");
      assert.ok(started <= Date.now() / 1000 && started > Date.now() / 1000 - 600);
    });
  });
});

describe("examples", () => {
  const read = (file) => readFileSync(path.join(ROOT, "examples", file), "utf8");
  /** Names in a query, of what is ours. */
  const named = (text) => new Set(text.match(/\b(?:nodetool_auth|process)_\w+/g) ?? []);

  test("every metric in the dashboard and the alerts is one, and each of ours is in docs/watching.md", async () => {
    await onSupabase({}, async ({ host }) => {
      await until("keys are there", 10_000, async () => (await reasons(host)).length === 0);
      const { samples, families } = await metrics(host);
      const series = new Set([...samples.keys()].map((key) => key.replace(/\[.*/, "")));
      const labels = new Set([...samples.keys()].flatMap((key) => JSON.parse(/\[.*/.exec(key)[0]).map(([label]) => label)));
      const dashboard = JSON.parse(read("grafana/nodetool-auth.json"));
      const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
      const rules = [...read("prometheus/alerts.yml").matchAll(/^ +expr: (.+)$/gm)].map(([, expr]) => expr);
      assert.ok(queries.length >= 10 && rules.length >= 5, `${queries.length} queries, ${rules.length} rules`);
      for (const query of [...queries, ...rules]) {
        assert.ok(named(query).size > 0 || /\bup\b/.test(query), query);
        for (const name of named(query)) assert.ok(series.has(name), `${name}, in ${query}`);
        for (const [, list] of query.matchAll(/\{([^}]*)\}/g)) {
          for (const [, label] of list.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) assert.ok(labels.has(label) || ["job", "instance"].includes(label), `${label}, in ${query}`);
        }
        for (const [, list] of query.matchAll(/\bby \(([^)]*)\)/g)) {
          for (const label of list.split(/,\s*/)) assert.ok(labels.has(label) || ["job", "instance"].includes(label), `${label}, in ${query}`);
        }
      }
      const page = readFileSync(path.join(ROOT, "docs/watching.md"), "utf8");
      for (const name of families.keys()) assert.ok(page.includes(`\`${name}`), `${name} is in docs/watching.md`);
      const shown = new Set(queries.flatMap((query) => [...named(query)]));
      for (const name of families.keys()) assert.ok([...shown].some((other) => other.startsWith(name)) || name.endsWith("build_info"), `${name} is on the dashboard`);
    });
  });
});
