// The examples over real sockets: Node's servers in processes of their own, Workers in workerd, as wrangler makes them.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import test from "node:test";
import { WebSocket } from "ws";

import { WEBSOCKET, ask, request } from "../http/support/raw.mjs";
import { namespace } from "../http/support/workers.mjs";
import { STATIC, TOKEN, startServer, startWorker } from "./support.mjs";

const AUTHORIZATION = ["Authorization", `Bearer ${TOKEN}`];
const ADMIN_TOKEN = "test-admin-token-0123456789";
const PAGE = "https://app.example";
const SETTINGS = { ...STATIC, ADMIN_TOKEN, CORS_ORIGINS: PAGE };

/** `isRaw`: whether it sees the path that the client sent, where a `Request` has another one. */
const SERVERS = {
  express: { isRaw: true, start: (context, settings = SETTINGS) => startServer(context, "examples/express/server.mjs", settings) },
  fastify: { isRaw: true, start: (context, settings = SETTINGS) => startServer(context, "examples/fastify/server.mjs", settings) },
  node: { isRaw: true, start: (context, settings = SETTINGS) => startServer(context, "examples/node/server.mjs", settings) },
  hono: { isRaw: false, start: (context, settings = SETTINGS) => startWorker(context, "examples/hono/wrangler.toml", { settings }) },
  "worker-js": { isRaw: false, start: startPlainWorker },
};

/** Its token is in KV. */
async function startPlainWorker(context) {
  const { WORKER_AUTH_TOKEN: token, ...settings } = SETTINGS;
  const worker = await startWorker(context, "examples/worker-js/wrangler.toml", { settings, env: { AUTH_KV: namespace() } });
  await (await worker.miniflare.getKVNamespace("AUTH_KV")).put("worker_auth_token", token);
  return worker;
}

/** By which a stranger would like to get to what is not public. */
const TRICKS = [
  "/admin/../health", "/v1/../health", "/./health", "/health/", "/health/.", "/health/../v1", "/health/..%2fv1", "/health%2f..%2fadmin", "/health%2F..%2Fv1", "/%68ealth", "/health;/v1",
  "/health;x", "//health", "/HEALTH", "/health.json", "/healthz", "/health%20", "/health%00", "/health%23", "/health%3f", "/health\\..\\v1", "/\\health", "/health/%2e%2e/v1", "/v1?x=/health", "/v1#/health",
  "/health/../../v1", "/health%252f..%252fv1", "/health/..;/v1", "http://gateway.test/v1", "http://gateway.test/health/../v1", "health",
];

/** By which somebody with the token would like to get to what needs another one too. */
const ADMIN_TRICKS = [
  "/admin", "/admin/", "/admin/x", "/ADMIN", "/%61dmin", "//admin", "/admin;x", "/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2fadmin", "/health/../admin", "/health%2f..%2fadmin", "/admin/../health", "/admin/../v1", "/admin%2fx",
  "/v1/..%5cadmin", "/.//admin", "/%2561dmin", "/admin?x=/v1",
];

for (const [name, { isRaw, start }] of Object.entries(SERVERS)) {
  test(`${name}: who may pass, and as whom`, async (context) => {
    const { port } = await start(context);
    const send = (options) => ask(port, request({ target: "/v1/models", ...options, headers: [["Host", "gateway.test"], ...(options.headers ?? [])] }), { head: options.method === "HEAD", spoiled: true });
    const json = ({ body }) => JSON.parse(body.toString());

    const stranger = await send({});
    assert.deepEqual([stranger.status, stranger.header("www-authenticate"), stranger.header("content-type"), stranger.header("cache-control")], [401, "Bearer", "application/json", "no-store"]);
    assert.deepEqual(json(stranger), { detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'" });
    assert.equal((await send({ method: "HEAD" })).status, 401);

    const wrong = await send({ headers: [["Authorization", "Bearer wrong"]] });
    assert.deepEqual([wrong.status, wrong.header("www-authenticate")], [401, 'Bearer error="invalid_token"']);
    for (const headers of [[AUTHORIZATION, AUTHORIZATION], [["Authorization", "Bearer wrong"], AUTHORIZATION], [["Authorization", `Bearer ${TOKEN}, Bearer ${TOKEN}`]]]) {
      const twice = await send({ headers });
      assert.deepEqual([twice.status, twice.header("www-authenticate")], [401, 'Bearer error="invalid_request"'], JSON.stringify(headers));
    }

    const spoofed = [["X-User-Id", "99"], ["x_user_id", "98"], ["X-Auth-Role", "admin"], ["Connection", "x-user-id"]];
    const known = json(await send({ headers: [AUTHORIZATION, ...spoofed] }));
    assert.equal(known.user, "1");
    if ("header" in known) assert.equal(known.header, "1", "what a handler reads in the header is what the gate says");
    assert.equal((await send({ method: "HEAD", headers: [AUTHORIZATION] })).status, 200);

    const health = await send({ target: "/health", headers: [["X-User-Id", "99"]] });
    assert.equal(health.status, 200);
    assert.doesNotMatch(health.body.toString(), /99/);
  });

  test(`${name}: bodies, methods, and pages of others`, async (context) => {
    const { port } = await start(context);
    const send = (options) => ask(port, request({ target: "/v1/models", ...options, headers: [["Host", "gateway.test"], ...(options.headers ?? [])] }));
    const text = "a body ✓".repeat(1000);
    const posted = await send({ method: "POST", headers: [AUTHORIZATION, ["Content-Type", "text/plain"]], body: text });
    assert.equal(posted.status, 200, posted.body.toString());
    const chunked = `POST /v1/models HTTP/1.1\r\nHost: gateway.test\r\n${AUTHORIZATION.join(": ")}\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`;
    const streamed = await ask(port, chunked);
    assert.equal(streamed.status, 200);
    if (name !== "worker-js") {
      assert.equal(JSON.parse(posted.body).body, text);
      assert.equal(JSON.parse(streamed.body).body, "abc");
    }
    // Its handler would read it, or take it for the next request.
    assert.equal((await send({ headers: [AUTHORIZATION], body: "GET /v1 HTTP/1.1\r\n\r\n" })).status, 400);
    assert.equal((await send({ target: "/health", body: "x" })).status, 400);

    assert.equal((await send({ method: "OPTIONS" })).status, 401, "no preflight");
    const preflight = await send({ method: "OPTIONS", headers: [["Origin", PAGE], ["Access-Control-Request-Method", "POST"]] });
    assert.deepEqual([preflight.status, preflight.header("access-control-allow-origin"), preflight.body.length], [204, PAGE, 0]);
    const read = await send({ headers: [AUTHORIZATION, ["Origin", PAGE]] });
    assert.deepEqual([read.status, read.header("access-control-allow-origin")], [200, PAGE]);
    assert.match(read.header("vary"), /Origin/);
    const other = await send({ headers: [AUTHORIZATION, ["Origin", "https://evil.example"]] });
    assert.deepEqual([other.status, other.header("access-control-allow-origin")], [200, undefined]);
    assert.equal((await send({ headers: [["Origin", PAGE]] })).header("access-control-allow-origin"), PAGE, "a page may read why it was refused");
  });

  test(`${name}: no path is judged otherwise than it is served`, async (context) => {
    const { port } = await start(context);
    const send = (target, headers = []) => ask(port, Buffer.from(`GET ${target} HTTP/1.1\r\nHost: gateway.test\r\n${headers.map((header) => `${header.join(": ")}\r\n`).join("")}Connection: close\r\n\r\n`, "latin1"));
    for (const target of TRICKS) {
      const { status, body } = await send(target);
      // What is none, workerd refuses in its own way.
      if (!isRaw && status === 500 && !target.startsWith("/")) continue;
      // A platform that resolves a path before anybody sees it serves what it resolved it to.
      const resolved = isRaw || !URL.canParse(target, "http://gateway.test") ? target : new URL(target, "http://gateway.test").pathname;
      // It may also leave it as it is, by a date of compatibility.
      if (resolved === "/health") assert.ok([200, 400, ...(isRaw ? [] : [401])].includes(status), `${target}: ${status}`);
      else assert.ok([400, 401, 403, 404].includes(status), `${target}: ${status} ${body}`);
    }
    for (const target of ADMIN_TRICKS) {
      const { status, body } = await send(target, [AUTHORIZATION]);
      const resolved = new URL(target, "http://gateway.test").pathname;
      if (isRaw || !["/health", "/v1"].includes(resolved)) assert.ok([400, 403].includes(status), `${target}: ${status} ${body}`);
    }
    const admin = await send("/admin/x", [AUTHORIZATION, ["X-Admin-Token", ADMIN_TOKEN]]);
    assert.equal(admin.status, 200);
    assert.equal((await send("/v1/a%2Fb?c=%20", [AUTHORIZATION])).status, 200);
  });
}

for (const name of ["express", "fastify", "node"]) {
  test(`${name}: what is no path, and hosts that try to be one`, async (context) => {
    const { port } = await SERVERS[name].start(context);
    const send = (line, host) => ask(port, Buffer.from(`${line} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`, "latin1"));
    for (const line of ["GET http://gateway.test/health", "OPTIONS *", "GET *"]) assert.equal((await send(line, "gateway.test")).status, 400, line);
    for (const host of ["gateway.test/health?", "gateway.test/health#", "x/health\\", "a@gateway.test/health?", "gateway.test:80/health?"]) {
      const { status } = await send("GET /v1", host);
      assert.ok(status === 400 || status === 401, `${host}: ${status}`);
    }
  });

  test(`${name}: no client is local where a token is set`, async (context) => {
    const { port } = await SERVERS[name].start(context, { ENV: "development", WORKER_AUTH_TOKEN: TOKEN });
    const send = (headers) => ask(port, request({ target: "/v1", headers }));
    assert.equal((await send([["Host", `127.0.0.1:${port}`]])).status, 401);
    assert.equal((await send([["Host", `127.0.0.1:${port}`], ["Authorization", `Bearer ${TOKEN}`]])).status, 200);
    assert.equal((await send([["Host", "evil.example"]])).status, 401);
    assert.equal((await send([["Host", `127.0.0.1:${port}`], ["X-Forwarded-For", "127.0.0.1"]])).status, 401);
  });
}

test("node: WebSockets by header, subprotocol and query, and none for strangers", async (context) => {
  const { port, child } = await SERVERS.node.start(context, { ...SETTINGS, AUTH_WS_TOKEN_SOURCES: "header,protocol,query" });
  const open = async (target, protocols, options) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${target}`, protocols, options);
    try {
      const [data] = await once(socket, "message");
      return { ...JSON.parse(data), protocol: socket.protocol };
    } finally {
      socket.terminate();
    }
  };
  const byHeader = { headers: { authorization: `Bearer ${TOKEN}` } };
  assert.deepEqual(await open("/ws?a=1", [], byHeader), { user: "1", url: "/ws?a=1", protocol: "" });
  assert.deepEqual(await open("/ws?a=1", ["chat"], byHeader), { user: "1", url: "/ws?a=1", protocol: "chat" });
  assert.deepEqual(await open("/ws", ["bearer", TOKEN]), { user: "1", url: "/ws", protocol: "bearer" });
  assert.deepEqual(await open("/ws", ["bearer", TOKEN, "chat"]), { user: "1", url: "/ws", protocol: "bearer" });
  assert.deepEqual(await open(`/ws?token=${TOKEN}&a=1`, []), { user: "1", url: "/ws?a=1", protocol: "" });
  await assert.rejects(open("/ws", []), /Unexpected server response: 401/);
  await assert.rejects(open("/ws", ["bearer", "wrong"]), /Unexpected server response: 401/);
  await assert.rejects(open("/ws", [], { ...byHeader, origin: "https://evil.example" }), /Unexpected server response: 403/);

  const UPGRADE = [["Host", "gateway.test"], ...WEBSOCKET];
  const refused = await ask(port, request({ target: "/ws", headers: UPGRADE }));
  assert.deepEqual([refused.status, refused.header("www-authenticate"), refused.header("connection")], [401, "Bearer", "close"]);
  assert.match(refused.body.toString(), /^\{"detail":"Authorization header required/);

  // Clients that break off at once do not take the server along.
  for (let time = 0; time < 50; time += 1) {
    const socket = net.connect(port, "127.0.0.1");
    await once(socket, "connect");
    socket.write(request({ target: "/ws", headers: UPGRADE }));
    socket.resetAndDestroy();
  }
  assert.equal((await open("/ws", [], byHeader)).user, "1");
  assert.equal(child.exitCode, null);
});
