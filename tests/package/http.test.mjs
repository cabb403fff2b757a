// Node's requests as a gate gets them, where the examples do not lead: HTTP/2, sockets without an address, mounted and rewritten URLs.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as ask } from "node:http";
import { connect, createServer as createServerOf2 } from "node:http2";
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

test("whoever comes by a socket without an address is not local", { skip: process.platform === "win32" }, async (context) => {
  const server = createServer(handlerOf(new Gate({ ...STATIC, AUTH_PROVIDER: undefined, ENV: "development" })));
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
