// TLS in front of the native host, by a real nginx with the file that README points to.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import https from "node:https";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import tls from "node:tls";
import { WebSocket } from "ws";

import { answerTo, carriesMessages, hearsEachEvent } from "./support/clients.mjs";
import { AUTHORIZATION, ROOT, STATIC, startNative, temporaryFolder } from "./support/hosts.mjs";
import { runNginx, started, whyNoNginx } from "./support/nginx.mjs";
import { changed } from "./support/proxies.mjs";
import { deadPort, startUpstream } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const authorization = Object.fromEntries([AUTHORIZATION]);
const noOpenssl = () => spawnSync("openssl", ["version"]).status !== 0 && "openssl is not installed";

describe("nginx with TLS", { skip: whyNoNginx() || noOpenssl() }, () => {
  const folder = temporaryFolder();
  const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => path.join(folder, name));
  let upstream, host, port, ca, stopNginx;

  before(async () => {
    const made = spawnSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    ca = readFileSync(certificate);
    upstream = await startUpstream();
    host = await startNative({ settings: { ...STATIC, UPSTREAM_URL: upstream.url, AUTH_TRUSTED_PROXIES: "127.0.0.1" } });
    port = await deadPort();
    stopNginx = await started((body) => runNginx(configured(host.port, port), port, body));
  });
  after(async () => {
    await stopNginx?.();
    await host?.stop();
    await upstream?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The file with the ports and certificates of this test, and nothing else changed. */
  function configured(gateway, listen) {
    const changes = [["listen 443 ssl", `listen 127.0.0.1:${listen} ssl`], ["    listen [::]:443 ssl;\n", ""], ["127.0.0.1:8000", `127.0.0.1:${gateway}`], ["/etc/ssl/nodetool/fullchain.pem", certificate], ["/etc/ssl/nodetool/privkey.pem", key]];
    return changed(readFileSync(path.join(ROOT, "examples/nginx/tls.conf"), "utf8"), changes);
  }

  const open = (target, { at = port, ...options } = {}) => https.request({ host: "localhost", port: at, path: target, ca, agent: false, ...options });
  const get = (target, headers, options) => answerTo(open(target, { headers, ...options }).end());

  test("a good token passes, with the identity that the gateway gives it, not the one that the client claims", async () => {
    upstream.take();
    const forged = { "X-User-Id": "root", X_User_Id: "root", "X-Auth-Token-Type": "user", "X-Auth-Role": "admin", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-User": "root" };
    const { status, headers } = await get("/v1/models", { ...authorization, ...forged });
    assert.equal(status, 200);
    assert.equal(headers["strict-transport-security"], "max-age=63072000");
    const [received] = upstream.take();
    const identity = received.headers.filter(([name]) => /^x[-_](user|auth)/.test(name)).sort();
    assert.deepEqual(identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
    assert.ok(!JSON.stringify(received.headers).match(/root|6\.6\.6\.6/), JSON.stringify(received.headers));
    const forwarded = Object.fromEntries(received.headers.filter(([name]) => name.startsWith("x-forwarded-")));
    assert.deepEqual(forwarded, { "x-forwarded-for": "127.0.0.1, 127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "localhost" });
  });

  test("without one it is refused in the gateway's own words", async () => {
    upstream.take();
    const refused = [[{}, "Bearer", "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'"], [{ Authorization: "Bearer wrong" }, 'Bearer error="invalid_token"', "Invalid authentication token"]];
    for (const [sent, challenge, detail] of refused) {
      const { status, headers, body } = await get("/v1/models", sent);
      assert.deepEqual([status, headers["www-authenticate"], headers["content-type"], headers["cache-control"], body], [401, challenge, "application/json", "no-store", JSON.stringify({ detail })]);
    }
    assert.deepEqual(upstream.take(), []);
  });

  test("the gateway judges the very path that the client sent", async () => {
    for (const [target, expected] of [["/v1/models/meta-llama%2FLlama-3", 200], ["/v1//x/%7e?y=%2F", 200], ["/health/../v1/models", 401], ["/x/%2e%2e/health", 401], ["/health", 200]]) {
      upstream.take();
      const needsToken = expected === 200 && target !== "/health";
      assert.equal((await get(target, needsToken ? authorization : {})).status, expected, target);
      assert.deepEqual(upstream.take().map((received) => received.target), expected === 200 ? [target] : []);
    }
  });

  test("an event is with the client before the next one exists", async () => {
    await hearsEachEvent(open("/events", { headers: authorization }).end(), upstream);
  });

  test("an upload reaches the upstream before it ends, and may be larger than what nginx takes by itself", async () => {
    const request = open("/sink", { method: "PUT", headers: authorization });
    const progress = once(upstream.events, "progress");
    request.write("first");
    assert.deepEqual(await progress, [5]);
    const answer = answerTo(request);
    request.end(Buffer.alloc(3 << 20, "x"));
    assert.equal(JSON.parse((await answer).body).size, (3 << 20) + 5);
  });

  test("a WebSocket goes through with the token, and not without", async () => {
    await carriesMessages(new WebSocket(`wss://localhost:${port}/ws`, ["chat.v1"], { headers: authorization, ca }));
    const refused = new WebSocket(`wss://localhost:${port}/ws`, { ca });
    const [, response] = await once(refused, "unexpected-response");
    assert.deepEqual([response.statusCode, response.headers["www-authenticate"]], [401, "Bearer"]);
    response.socket.destroy();
  });

  test("TLS 1.2 and 1.3, and nothing older", async () => {
    for (const version of ["TLSv1.2", "TLSv1.3"]) {
      const socket = tls.connect({ host: "localhost", port, ca, minVersion: version, maxVersion: version });
      await once(socket, "secureConnect");
      assert.equal(socket.getProtocol(), version);
      socket.destroy();
    }
    const old = tls.connect({ host: "localhost", port, ca, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" });
    const [error] = await once(old, "error");
    assert.match(error.message, /alert protocol version/i);
  });

  test("a gateway that trusts its own machine by default does not trust what comes through here", async () => {
    const trusting = await startNative({ settings: { UPSTREAM_URL: upstream.url } });
    const other = await deadPort();
    try {
      assert.equal((await fetch(`${trusting.url}/v1/models`)).status, 200);
      await runNginx(configured(trusting.port, other), other, async () => {
        assert.equal((await get("/v1/models", {}, { at: other })).status, 401);
      });
    } finally {
      await trusting.stop();
    }
  });
});
