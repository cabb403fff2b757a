// Node's requests as a gate gets them, where the examples do not lead: HTTP/2, sockets without an address, mounted and rewritten URLs.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as ask } from "node:http";
import { connect, createServer as createServerOf2 } from "node:http2";
import net from "node:net";
import { networkInterfaces } from "node:os";
import path from "node:path";
import test from "node:test";

import { Gate } from "nodetool-edge-auth";
import { admit, answer, fromNode } from "nodetool-edge-auth/node";

import { STATIC, TOKEN, scratch } from "./support.mjs";

const AUTHORIZATION = { authorization: `Bearer ${TOKEN}` };

/** What a handler of either server would be. */
const handlerOf = (gate) => async (req, res) => {
  const decision = await gate.check(fromNode(req));
  if (decision.response) return answer(decision.response, res);
  admit(req, res, decision);
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ ...req.identity, header: req.headers["x-user-id"], url: decision.url }));
};

test("HTTP/2", async (context) => {
  const server = createServerOf2(handlerOf(new Gate(STATIC))).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const client = connect(`http://127.0.0.1:${port}`);
  context.after(() => {
    client.destroy();
    server.close();
  });
  const send = async (headers, body) => {
    const stream = client.request({ ":path": "/v1?a=b", ...headers }, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    const [answered] = await once(stream, "response");
    let text = "";
    for await (const part of stream.setEncoding("utf8")) text += part;
    return { status: answered[":status"], headers: answered, body: JSON.parse(text) };
  };
  const known = await send({ ...AUTHORIZATION, "x-user-id": "99" });
  assert.deepEqual([known.status, known.body], [200, { userId: "1", tokenType: "static", role: null, header: "1", url: `http://127.0.0.1:${port}/v1?a=b` }]);
  const stranger = await send({});
  assert.deepEqual([stranger.status, stranger.headers["www-authenticate"]], [401, "Bearer"]);
  assert.equal((await send({ ":method": "POST", ...AUTHORIZATION }, "x")).status, 200);
  assert.equal((await send({ ":path": "/health" })).status, 200);
  assert.equal((await send({ ":path": "/health" }, "a body that no header tells of")).status, 400);
  assert.equal((await send({ ":path": "/health/../v1" })).status, 401);
  assert.equal((await send({ ":path": "*", ":method": "OPTIONS" })).status, 400);
});

/** A gate of a developer's machine, with `local` by default: no setting holds a token. */
const developers = () => new Gate({ ENV: "development" }, { tokens: new Map([["worker_auth_token", TOKEN]]) });

/** An address of this machine that others reach it at. */
const OUTWARD = Object.values(networkInterfaces()).flat().find(({ internal, family }) => !internal && family === "IPv4")?.address;

test("a client of another machine is not local, whatever it says", { skip: !OUTWARD && "this machine has no network" }, async (context) => {
  const server = createServer(handlerOf(developers())).listen(0, "0.0.0.0");
  context.after(() => server.close());
  await once(server, "listening");
  const statusAt = async (host, headers) => {
    const sent = ask({ host, port: server.address().port, path: "/v1", agent: false, headers: { host: "localhost", ...headers } }).end();
    const [response] = await once(sent, "response");
    response.resume();
    return response.statusCode;
  };
  assert.equal(await statusAt("127.0.0.1"), 200);
  assert.equal(await statusAt(OUTWARD), 401);
  for (const name of ["x-forwarded-for", "cf-connecting-ip", "forwarded"]) assert.equal(await statusAt(OUTWARD, { [name]: "127.0.0.1" }), 401);
  assert.equal(await statusAt(OUTWARD, AUTHORIZATION), 200);
});

test("HTTP/1.0 comes from a proxy, so its client is not local", async (context) => {
  const server = createServer(handlerOf(developers())).listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const statusOf = async (version) => {
    const socket = net.connect(server.address().port, "127.0.0.1");
    socket.end(`GET /v1 HTTP/${version}\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    return Number((await socket.toArray()).join("").split(" ")[1]);
  };
  assert.deepEqual([await statusOf("1.1"), await statusOf("1.0")], [200, 401]);
});

test("an authority that contradicts Host is a second Host", async () => {
  const at = async (authority, host) => {
    const lines = [[":authority", authority], ...(host ? [["Host", host]] : [])];
    const { response } = await new Gate(STATIC).check(fromNode(received({ lines: [...lines, ["Authorization", `Bearer ${TOKEN}`]], httpVersionMajor: 2, stream: { endAfterHeaders: true } })));
    return response?.status ?? 200;
  };
  assert.deepEqual([await at("api.example"), await at("api.example", "API.example"), await at("public.example", "localhost")], [200, 200, 400]);
});

test("a request that was let on asks for no upgrade but to WebSocket", async (context) => {
  const seen = [];
  const server = createServer();
  server.on("upgrade", async (req, socket) => {
    admit(req, null, await new Gate(STATIC).check(fromNode(req)));
    seen.push([req.headers.upgrade, req.rawHeaders.some((word) => /^(h2c|http2-settings)$/i.test(word))]);
    socket.destroy();
  });
  context.after(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  for (const upgrade of ["h2c", "websocket"]) {
    const settings = upgrade === "h2c" ? { connection: "Upgrade, HTTP2-Settings", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA" } : { connection: "Upgrade" };
    const headers = { ...settings, upgrade, "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", ...AUTHORIZATION };
    await once(ask({ port: server.address().port, path: "/v1", agent: false, headers }).end(), "error");
  }
  assert.deepEqual(seen, [[undefined, false], ["websocket", false]]);
});

test("of a `Request` only the context tells who connected", async () => {
  const gate = developers();
  const allowed = async (context, headers) => (await gate.check(new Request("http://localhost/v1", { headers: { host: "localhost", ...headers } }), context)).allowed;
  assert.deepEqual(await Promise.all([undefined, {}, { peer: undefined }, { peer: OUTWARD ?? "192.0.2.2" }, { peer: "unknown" }, { peer: "" }].map((context) => allowed(context))), Array(6).fill(false));
  for (const peer of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) assert.equal(await allowed({ peer }), true, peer);
  assert.equal(await allowed(undefined, { "cf-connecting-ip": "127.0.0.1" }), false);
  const proxied = new Gate({ ...STATIC, AUTH_TRUSTED_PROXIES: "10.0.0.0/8" });
  const { headers } = await proxied.check(new Request("http://localhost/v1", { headers: { ...AUTHORIZATION, "x-forwarded-for": "203.0.113.9" } }), { peer: "10.0.0.1" });
  assert.equal(headers.get("x-forwarded-for"), "203.0.113.9, 10.0.0.1");
  const post = new Request("http://localhost/v1", { method: "POST", body: "a body", headers: AUTHORIZATION });
  assert.equal((await gate.check(post, { peer: "192.0.2.2" })).allowed, true);
  assert.equal(await post.text(), "a body");
});

test("a request that was let on has no identity of the client's in any form", async (context) => {
  const gate = new Gate({ ...STATIC, AUTH_FORWARD_AUTHORIZATION: "strip" });
  const server = createServer(async (req, res) => {
    // Before the gate, as a logger would: Node keeps what it made of the lines.
    const { headersDistinct: kept } = req;
    admit(req, res, await gate.check(fromNode(req)));
    const again = await gate.check(fromNode(req));
    res.end(JSON.stringify({ headers: req.headers, distinct: req.headersDistinct, kept, raw: req.rawHeaders, again: again.response.status }));
  }).listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const forged = ["x-user-id", "X-User-Id", "x_user_id", "X-Auth.Role", "x-auth-role"];
  const headers = ["Host", "localhost", "Authorization", AUTHORIZATION.authorization, "X-Own", "1", "x-own", "2", ...forged.flatMap((name) => [name, "root"])];
  const sent = ask({ port: server.address().port, path: "/v1", agent: false, headers }).end();
  const [response] = await once(sent, "response");
  let text = "";
  for await (const part of response.setEncoding("utf8")) text += part;
  assert.ok(!text.includes("root") && !text.includes(TOKEN), text);
  const told = JSON.parse(text);
  for (const distinct of [told.distinct, told.kept]) assert.deepEqual([distinct["x-user-id"], distinct["x-auth-token-type"], distinct["x-own"]], [["1"], ["static"], ["1", "2"]]);
  assert.deepEqual([told.headers["x-user-id"], told.headers["x-own"]], ["1", "1, 2"]);
  const lines = told.raw.map((item, at) => [item, told.raw[at + 1]]).filter((_, at) => at % 2 === 0);
  assert.deepEqual(lines.filter(([name]) => /^x.(user|auth)/i.test(name)).map(([name, value]) => `${name}: ${value}`).sort(), ["x-auth-token-type: static", "x-user-id: 1"]);
  assert.deepEqual(lines.filter(([name]) => /own/i.test(name)), [["X-Own", "1"], ["x-own", "2"]]);
  assert.equal(told.again, 401, "its token was taken away");
});

test("whoever comes by a socket without an address is not local", { skip: process.platform === "win32" }, async (context) => {
  const server = createServer(handlerOf(developers()));
  context.after(() => server.close());
  const statusAt = async (options) => {
    const sent = ask({ path: "/v1", agent: false, ...options }).end();
    const [response] = await once(sent, "response");
    response.resume();
    return response.statusCode;
  };
  const socketPath = path.join(scratch(context), "gate.sock");
  server.listen(socketPath);
  await once(server, "listening");
  assert.equal(await statusAt({ socketPath, headers: { host: "localhost" } }), 401);
  assert.equal(await statusAt({ socketPath, headers: { host: "localhost", ...AUTHORIZATION } }), 200);
});

/** What Node would have of such a request. */
const received = ({ lines = [], socket = {}, ...rest }) => ({
  method: "GET", url: "/v1", httpVersionMajor: 1, ...rest,
  rawHeaders: lines.flat(), headers: Object.fromEntries(lines.map(([name, value]) => [name.toLowerCase(), value])), socket,
});

test("it is the URL that the client sent, wherever a handler is mounted, byte by byte", () => {
  const lines = [["Host", "api.example:8443"]];
  for (const [request, url] of [
    [{ lines }, "http://api.example:8443/v1"],
    [{ lines, socket: { encrypted: true } }, "https://api.example:8443/v1"],
    [{ lines, url: "/models", originalUrl: "/v1/../models?a=%2F#b" }, "http://api.example:8443/v1/../models?a=%2F#b"],
    [{ lines: [["Host", "[::1]:80"]] }, "http://[::1]:80/v1"],
    [{}, "http://localhost/v1"],
    [{ lines: [["Host", "a/health?"]] }, "http://localhost/v1"],
    [{ lines: [["Host", "a@b"]] }, "http://localhost/v1"],
    [{ lines, url: "http://other.example/v1" }, "http://api.example:8443"],
    [{ lines, url: "*" }, "http://api.example:8443"],
  ]) {
    assert.equal(fromNode(received(request)).url, url);
  }
});

test("header lines stay as many as they are, and what they say of a client is told apart from who connected", () => {
  const lines = [["Authorization", "Bearer a"], ["authorization", "Bearer b"], ["X-Forwarded-For", "10.0.0.1"]];
  const { headers, peer } = fromNode(received({ lines, socket: { remoteAddress: "192.0.2.1" } }));
  assert.deepEqual([...headers], [["authorization", "Bearer a"], ["authorization", "Bearer b"], ["x-forwarded-for", "10.0.0.1"]]);
  assert.deepEqual([peer, headers.has("Authorization"), headers.has("cookie")], ["192.0.2.1", true, false]);
});

test("what a trusted proxy says of a client is believed", async () => {
  const gate = new Gate({ ...STATIC, AUTH_TRUSTED_PROXIES: "10.0.0.0/8" });
  const told = async (remoteAddress) => {
    const lines = [["Authorization", `Bearer ${TOKEN}`], ["X-Forwarded-For", "203.0.113.9"]];
    return (await gate.check(fromNode(received({ lines, socket: { remoteAddress } })))).headers.get("x-forwarded-for");
  };
  assert.deepEqual([await told("10.0.0.1"), await told("::ffff:10.0.0.1"), await told("192.0.2.1")], ["203.0.113.9, 10.0.0.1", "203.0.113.9, ::ffff:10.0.0.1", "192.0.2.1"]);
});
