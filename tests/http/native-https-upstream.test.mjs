// An upstream by https: whose certificate is taken, and what becomes of a request if it is not.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket, WebSocketServer } from "ws";

import { makeCertificate } from "./support/certificates.mjs";
import { carriesMessages } from "./support/clients.mjs";
import { until } from "./support/gateway.mjs";
import { AUTHORIZATION, NATIVE_BINARY, STATIC, spawnNative, temporaryFolder, withHost, writeFile } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { listen } from "./support/servers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

describe("an upstream by https", () => {
  const folder = temporaryFolder();
  const authority = makeCertificate({ isAuthority: true });
  const file = (name, text) => writeFile(path.join(folder, name), text);
  const ca = file("ca.pem", authority.certificate);
  const others = file("others.pem", makeCertificate({ isAuthority: true }).certificate);
  const open = [];
  let upstream;

  /** An upstream that shows this certificate, and remembers what it heard. */
  async function startTls(shown, options = {}) {
    const received = [];
    const server = https.createServer({ cert: shown.certificate, key: shown.key, ...options }, (incoming, response) => {
      const chunks = [];
      incoming.on("data", (chunk) => chunks.push(chunk)).on("end", () => {
        received.push({ target: incoming.url, headers: incoming.headers, servername: incoming.socket.servername, alpn: incoming.socket.alpnProtocol, protocol: incoming.socket.getProtocol(), port: incoming.socket.remotePort });
        response.setHeader("x-size", Buffer.concat(chunks).length);
        response.end("by TLS");
      });
    });
    new WebSocketServer({ server }).on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
    const { port, stop } = await listen(server);
    const started = { received, port, stop };
    open.push(started);
    return started;
  }
  /** Runs `body` with a gateway in front of it. */
  const through = (url, settings, body) => withHost("native", { settings: { ...STATIC, UPSTREAM_URL: url, ...settings } }, body);
  const get = (host, options = {}) => ask(host.port, request({ target: "/v1/x%2Fy?z=1", headers: [["Host", "api.example.com"], AUTHORIZATION], ...options }));

  before(async () => {
    upstream = await startTls(makeCertificate({ issuer: authority }));
  });
  after(async () => {
    for (const server of open) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("with the right certificate is spoken to under its own name, over connections that are kept", () =>
    through(`https://localhost:${upstream.port}`, { UPSTREAM_CA: ca }, async (host) => {
      upstream.received.length = 0;
      for (let round = 0; round < 3; round += 1) {
        const answer = await get(host);
        assert.deepEqual([answer.status, answer.body.toString()], [200, "by TLS"], host.log());
      }
      const [{ target, headers, servername, alpn, protocol }] = upstream.received;
      assert.deepEqual([target, headers.host, servername, alpn, protocol], ["/v1/x%2Fy?z=1", `localhost:${upstream.port}`, "localhost", "http/1.1", "TLSv1.3"]);
      assert.deepEqual([headers["x-user-id"], headers["x-forwarded-proto"]], ["1", "http"]);
      assert.ok(new Set(upstream.received.map(({ port }) => port)).size < 3, "connections are kept");
      const body = Buffer.alloc(3 << 20, "x");
      assert.equal((await get(host, { method: "POST", body })).header("x-size"), String(body.length));
    }),
  );

  test("may be an address, and speak TLS 1.2", async () => {
    const old = await startTls(makeCertificate({ issuer: authority }), { maxVersion: "TLSv1.2" });
    await through(`https://127.0.0.1:${old.port}`, { UPSTREAM_CA: ca }, async (host) => {
      assert.equal((await get(host)).status, 200, host.log());
      assert.deepEqual([old.received[0].protocol, old.received[0].servername], ["TLSv1.2", false]);
    });
  });

  test("that vouches for itself is trusted if it is named", async () => {
    const own = makeCertificate();
    const server = await startTls(own);
    await through(`https://localhost:${server.port}`, { UPSTREAM_CA: file("own.pem", own.certificate) }, async (host) => {
      assert.equal((await get(host)).status, 200, host.log());
    });
  });

  test("carries WebSockets", () =>
    through(`https://localhost:${upstream.port}`, { UPSTREAM_CA: ca }, (host) =>
      carriesMessages(new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: Object.fromEntries([AUTHORIZATION]) })),
    ),
  );

  for (const [title, options, settings, reason] of [
    ["has expired", { issuer: authority, from: -10, days: 5 }, { UPSTREAM_CA: ca }, /certificate expired/],
    ["does not hold yet", { issuer: authority, from: 5 }, { UPSTREAM_CA: ca }, /not valid yet/],
    ["is for another name", { issuer: authority, names: ["elsewhere.example"] }, { UPSTREAM_CA: ca }, /not valid for name "localhost"/],
    ["vouches for itself", {}, { UPSTREAM_CA: ca }, /UnknownIssuer/],
    ["is vouched for by others than are named", { issuer: authority }, { UPSTREAM_CA: others }, /UnknownIssuer|BadSignature/],
    ["is not vouched for by Mozilla's authorities", { issuer: authority }, {}, /UnknownIssuer/],
  ]) {
    test(`whose certificate ${title} is unavailable: it hears nothing, and the log says why`, async () => {
      const server = await startTls(makeCertificate(options));
      await through(`https://localhost:${server.port}`, settings, async (host) => {
        const answer = await get(host);
        assert.deepEqual([answer.status, JSON.parse(answer.body).detail], [502, "Upstream unavailable"]);
        const said = new RegExp(`the upstream cannot be reached.*(${reason.source})`);
        await until(`the log says ${said}`, 10_000, () => said.test(host.log()));
        assert.deepEqual(server.received, []);
      });
    });
  }

  test("that speaks plain HTTP, or nothing at all, is unavailable in time", async () => {
    const plain = net.createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    const silent = net.createServer((socket) => socket.on("error", () => {}).resume());
    for (const [server, reason] of [[plain, /cannot be reached/], [silent, /timed out/]]) {
      const { port, stop } = await listen(server);
      await through(`https://localhost:${port}`, { UPSTREAM_CONNECT_TIMEOUT: "1" }, async (host) => {
        assert.equal((await get(host)).status, 502);
        await until(`the log says ${reason}`, 10_000, () => reason.test(host.log()));
      });
      await stop();
    }
  });

  test("check takes the same care", async () => {
    const check = (settings) => {
      const env = { PATH: process.env.PATH, HOME: folder, ...STATIC, AUTH_LISTEN: "127.0.0.1:0", UPSTREAM_URL: `https://localhost:${upstream.port}`, ...settings };
      // Not `spawnSync`: the upstream that it asks is in this process.
      const running = spawnNative({ settings: env, home: folder, args: ["check", "--json"] });
      return running.exited.then(({ stdout }) => JSON.parse(stdout).find(({ check: title }) => title === "upstream"));
    };
    assert.equal((await check({ UPSTREAM_CA: ca })).status, "ok");
    const refused = await check({ UPSTREAM_CA: others });
    assert.equal(refused.status, "failed");
    assert.match(refused.remedy, /UPSTREAM_CA/);
  });

  test("with a UPSTREAM_CA that cannot be used nothing starts", () => {
    for (const [text, expected] of [[undefined, /UPSTREAM_CA: .* cannot be read/], ["nothing", /UPSTREAM_CA: .* holds no certificate/], ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /UPSTREAM_CA: .* holds what is no certificate/]]) {
      const named = text === undefined ? path.join(folder, "none.pem") : file("bad.pem", text);
      const env = { PATH: process.env.PATH, HOME: folder, ...STATIC, AUTH_LISTEN: "127.0.0.1:0", UPSTREAM_URL: "https://localhost:1", UPSTREAM_CA: named };
      const { status, stderr } = spawnSync(NATIVE_BINARY, ["serve"], { env, encoding: "utf8" });
      assert.equal(status, 78);
      assert.match(stderr, expected);
    }
  });
});
