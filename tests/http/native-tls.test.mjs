// TLS for clients, by the native host itself: what it speaks, how its certificate is renewed, and what it takes for wrong.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import tls from "node:tls";
import { WebSocket } from "ws";

import { certificateFiles, makeCertificate } from "./support/certificates.mjs";
import { answerTo, carriesMessages } from "./support/clients.mjs";
import { AUTHORIZATION, NATIVE_BINARY, STATIC, spawnNative, startNative } from "./support/hosts.mjs";
import { exchange, request as bytesOf } from "./support/raw.mjs";
import { startUpstream } from "./support/upstream.mjs";

const test = (title, options, run = options) => nodeTest(title, { timeout: 60_000, ...(run === options ? {} : options) }, run);
const authorization = Object.fromEntries([AUTHORIZATION]);

/** Waits until the log says so. */
async function logged(host, pattern) {
  while (!pattern.test(host.log())) await once(host.child.stderr, "data");
}

describe("TLS", () => {
  const files = certificateFiles();
  const authority = makeCertificate({ isAuthority: true });
  const ca = authority.certificate;
  let upstream, host;

  before(async () => {
    files.put(makeCertificate({ issuer: authority }));
    upstream = await startUpstream();
    host = await startNative({ settings: { ...STATIC, ...files.settings, UPSTREAM_URL: upstream.url, LOG_LEVEL: "debug" } });
  });
  after(async () => {
    await host?.stop();
    await upstream?.stop();
    files.remove();
  });

  const connect = async (options) => {
    const socket = tls.connect({ host: "127.0.0.1", port: host.port, servername: "localhost", ca, ...options });
    await once(socket, "secureConnect");
    return socket;
  };
  const open = (target, options = {}) => https.request({ host: "localhost", port: host.port, path: target, ca, agent: false, ...options });
  const get = (target, headers = authorization, options = {}) => answerTo(open(target, { headers, ...options }).end());

  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    test(`${version}, and the protocol that the client prefers of those there are`, async () => {
      const only = { minVersion: version, maxVersion: version };
      for (const [offered, expected] of [[["h2", "http/1.1"], "h2"], [["http/1.1"], "http/1.1"], [undefined, false]]) {
        const socket = await connect({ ...only, ALPNProtocols: offered });
        assert.deepEqual([socket.getProtocol(), socket.alpnProtocol, socket.authorized], [version, expected, true]);
        socket.destroy();
      }
      assert.equal((await get("/v1/models", authorization, only)).status, 200);
    });
  }

  test("nothing older, and no other protocol", async () => {
    const old = tls.connect({ host: "127.0.0.1", port: host.port, ca, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" });
    const [error] = await once(old, "error");
    assert.match(error.message, /alert (protocol version|handshake failure)/i);
    const strange = tls.connect({ host: "127.0.0.1", port: host.port, servername: "localhost", ca, ALPNProtocols: ["smtp"] });
    const [refused] = await once(strange, "error");
    assert.match(refused.message, /no application protocol/i);
  });

  test("a client that comes back resumes its session", async () => {
    const first = await connect({ maxVersion: "TLSv1.2" });
    const session = first.getSession();
    first.destroy();
    const second = await connect({ maxVersion: "TLSv1.2", session });
    assert.ok(second.isSessionReused());
    second.destroy();
  });

  test("a client that names no host, or another one, is shown the certificate, and judges it itself", async () => {
    for (const servername of ["", "elsewhere.example"]) {
      const socket = tls.connect({ host: "127.0.0.1", port: host.port, servername, ca, rejectUnauthorized: false });
      await once(socket, "secureConnect");
      assert.match(socket.getPeerCertificate().subject.CN, /^localhost/);
      socket.destroy();
    }
  });

  test("the upstream hears that the client spoke https, and the rules are the same", async () => {
    upstream.take();
    assert.equal((await get("/v1/models")).status, 200);
    const [{ headers }] = upstream.take();
    assert.deepEqual(headers.filter(([name]) => name === "x-forwarded-proto"), [["x-forwarded-proto", "https"]]);
    assert.equal((await get("/v1/models", {})).status, 401);
    assert.deepEqual(upstream.take(), []);
  });

  test("HTTP/2 by ALPN: many requests at once, bodies both ways", async () => {
    const session = http2.connect(`https://localhost:${host.port}`, { ca });
    const send = async (headers, body) => {
      const stream = session.request({ authorization: AUTHORIZATION[1], ...headers }, { endStream: body === undefined });
      if (body !== undefined) stream.end(body);
      const [answer] = await once(stream, "response");
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      return { status: answer[":status"], body: Buffer.concat(chunks).toString() };
    };
    try {
      const answers = await Promise.all(Array.from({ length: 100 }, () => send({ ":path": "/v1/models" })));
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
      assert.equal(session.alpnProtocol, "h2");
      const sent = "x".repeat(3_000_000);
      assert.equal(JSON.parse((await send({ ":path": "/sink", ":method": "PUT" }, sent)).body).size, sent.length);
      assert.equal((await send({ ":path": "/source?bytes=3000000" })).body.length > 0, true);
      assert.equal((await send({ ":path": "/v1/models", authorization: "Bearer wrong" })).status, 401);
    } finally {
      session.destroy();
    }
  });

  test("events, WebSockets and large bodies go through", async () => {
    const [response] = await once(open("/events", { headers: authorization }).end(), "response");
    response.setEncoding("utf8");
    upstream.push("one");
    assert.deepEqual(await once(response, "data"), ["data: one\n\n"]);
    response.destroy();

    await carriesMessages(new WebSocket(`wss://localhost:${host.port}/ws`, { headers: authorization, ca }));

    const { status, body } = await answerTo(open("/sink", { method: "PUT", headers: authorization }).end(Buffer.alloc(3 << 20, "x")));
    assert.deepEqual([status, JSON.parse(body).size], [200, 3 << 20]);
  });

  test("plain HTTP is told what this port speaks, and reaches nobody", async () => {
    upstream.take();
    const { answers } = await exchange(host.port, bytesOf({ target: "/v1/models", headers: [["Host", "x"], AUTHORIZATION] }));
    assert.deepEqual([answers[0].status, JSON.parse(answers[0].body).detail, answers[0].header("content-type")], [400, "This port speaks HTTPS", "application/json"]);
    assert.deepEqual(upstream.take(), []);
  });

  test("what is no TLS at all ends, and others are served meanwhile", async () => {
    for (const bytes of [Buffer.from([22, 3, 1, 0, 5, 1, 2, 3, 4, 5]), Buffer.from("\0\0\0\0"), Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]) {
      const socket = net.connect(host.port, "127.0.0.1");
      const ended = once(socket.resume().on("error", () => {}), "close");
      socket.write(bytes);
      await ended;
    }
    assert.equal((await get("/v1/models")).status, 200);
  });

  test("health and check speak TLS too", () => {
    const env = { PATH: process.env.PATH, HOME: files.folder, ...STATIC, ...files.settings, AUTH_LISTEN: `127.0.0.1:${host.port}` };
    const run = (...args) => spawnSync(NATIVE_BINARY, args, { env, encoding: "utf8" });
    const health = run("health", "--json");
    assert.deepEqual([health.status, JSON.parse(health.stdout)], [0, { healthy: true, url: `https://127.0.0.1:${host.port}`, status: 401 }], health.stderr);
    const checked = JSON.parse(run("check", "--json").stdout);
    const finding = (name) => checked.find(({ check }) => check === name);
    assert.equal(finding("listen").detail, `a gateway listens on 127.0.0.1:${host.port} already`);
    assert.match(finding("certificate").detail, /fits its key, and expires at 20\d\d-/);
    assert.equal(finding("certificate").status, "ok");
  });
});

describe("a client that stalls in its TLS handshake", () => {
  test("is cut off in time, while others are served", async () => {
    const files = certificateFiles();
    const made = makeCertificate();
    files.put(made);
    const host = await startNative({ settings: { ...STATIC, ...files.settings, AUTH_HEADER_TIMEOUT: "1" } });
    try {
      const stalled = Array.from({ length: 20 }, (_, index) => {
        const socket = net.connect(host.port, "127.0.0.1");
        const ended = once(socket.resume().on("error", () => {}), "close");
        // Some say nothing, some the beginning of a hello.
        if (index % 2) socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0]));
        return ended;
      });
      // A handshake without a request has the same time.
      const silent = tls.connect({ host: "127.0.0.1", port: host.port, servername: "localhost", ca: made.certificate });
      await once(silent, "secureConnect");
      const silentEnded = once(silent.resume().on("error", () => {}), "close");
      const { status } = await answerTo(https.request({ host: "localhost", port: host.port, path: "/health", ca: made.certificate, agent: false }).end());
      assert.equal(status, 200);
      await Promise.all([...stalled, silentEnded]);
    } finally {
      await host.stop();
      files.remove();
    }
  });
});

describe("a changed certificate", () => {
  /** Runs `body` with a gateway whose files it can change. */
  async function serving(body, first = makeCertificate()) {
    const files = certificateFiles();
    files.put(first);
    const upstream = await startUpstream();
    const host = await startNative({ settings: { ...STATIC, ...files.settings, UPSTREAM_URL: upstream.url } });
    try {
      await body({ files, host, first, upstream });
    } finally {
      await host.stop();
      await upstream.stop();
      files.remove();
    }
  }
  /** Whom a new connection is shown. */
  async function shown(host) {
    const socket = tls.connect({ host: "127.0.0.1", port: host.port, servername: "localhost", rejectUnauthorized: false });
    await once(socket, "secureConnect");
    const { CN } = socket.getPeerCertificate().subject;
    socket.destroy();
    return CN;
  }

  test("is taken up by itself: new connections see it, open ones go on, and no request fails", () =>
    serving(async ({ files, host, first }) => {
      const second = makeCertificate();
      const ca = [first.certificate, second.certificate];
      // One connection that was there before, and many that come and go.
      const kept = new https.Agent({ keepAlive: true, maxSockets: 1 });
      const get = (agent) => answerTo(https.request({ host: "localhost", port: host.port, path: "/v1/models", ca, agent, headers: authorization }).end());
      assert.equal((await get(kept)).status, 200);
      const [keptSocket] = Object.values(kept.freeSockets).flat();
      let isOver = false;
      const load = Array.from({ length: 4 }, async () => {
        const statuses = [];
        while (!isOver) statuses.push((await get(false)).status);
        return statuses;
      });
      assert.equal(await shown(host), first.subject);
      files.put(second);
      await logged(host, /the certificate has changed, and expires at/);
      assert.equal(await shown(host), second.subject);
      isOver = true;
      const statuses = (await Promise.all(load)).flat();
      assert.deepEqual([...new Set(statuses)], [200]);
      assert.equal((await get(kept)).status, 200);
      assert.equal(keptSocket.getPeerCertificate().subject.CN, first.subject);
      assert.equal(Object.values(kept.freeSockets).flat()[0], keptSocket);
      kept.destroy();
    }),
  );

  test("that is broken is logged, and the one before stays in force until it is mended; SIGHUP looks at once", () =>
    serving(async ({ files, host, first }) => {
      const second = makeCertificate();
      files.put({ certificate: second.certificate, key: first.key });
      await logged(host, /key\.pem is not the key of the first certificate in .*; the certificate from before stays in force/);
      assert.equal(await shown(host), first.subject);
      rmSync(files.settings.AUTH_TLS_CERT);
      await logged(host, /cert\.pem cannot be read: .*stays in force/);
      assert.equal(await shown(host), first.subject);
      files.put(second);
      host.child.kill("SIGHUP");
      await logged(host, /the certificate has changed/);
      assert.equal(await shown(host), second.subject);
      host.child.kill("SIGHUP");
      await logged(host, /the certificate is the same as before/);
    }),
  );
});

describe("at the start", () => {
  const good = makeCertificate();
  const files = certificateFiles();
  after(() => files.remove());

  /** How a start with these files ends. */
  async function ending(pair, { settings = files.settings } = {}) {
    if (pair) files.put(pair);
    const running = spawnNative({ settings: { ...STATIC, ...settings, AUTH_LISTEN: "127.0.0.1:0" } });
    const { code, stderr } = await running.exited;
    rmSync(running.home, { recursive: true, force: true });
    for (const line of pair?.key.split("\n").filter((text) => text.length > 30) ?? []) assert.ok(!stderr.includes(line), "no key is shown");
    return { code, stderr };
  }

  for (const [title, pair, expected] of [
    ["a key that is another's", { certificate: good.certificate, key: makeCertificate().key }, /AUTH_TLS_KEY: .*key\.pem is not the key of the first certificate/],
    ["a chain in the wrong order", { certificate: makeCertificate({ isAuthority: true }).certificate + good.certificate, key: good.key }, /AUTH_TLS_KEY: .*put the server's own certificate first/],
    ["a certificate that is none", { certificate: "nothing", key: good.key }, /AUTH_TLS_CERT: .*cert\.pem holds no certificate; it must be PEM/],
    ["a certificate of garbage", { certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key: good.key }, /AUTH_TLS_CERT: .*cert\.pem holds what is no certificate/],
    ["a key that is none", { certificate: good.certificate, key: good.certificate }, /AUTH_TLS_KEY: .*key\.pem holds no private key; it must be PEM: PKCS#8/],
    ["a key under a password", { certificate: good.certificate, key: good.privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" }) }, /AUTH_TLS_KEY: .*is encrypted.*openssl pkey/],
  ]) {
    test(`${title} is a wrong setting, with a remedy`, async () => {
      const { code, stderr } = await ending(pair);
      assert.equal(code, 78, stderr);
      assert.match(stderr, expected);
    });
  }

  test("a file that is not there is named", async () => {
    const { code, stderr } = await ending(good, { settings: { ...files.settings, AUTH_TLS_KEY: "/none/key.pem" } });
    assert.equal(code, 78);
    assert.match(stderr, /AUTH_TLS_KEY: \/none\/key\.pem cannot be read: No such file.*; correct the path/);
  });

  for (const [title, options] of [["PKCS#1, RSA", { type: "rsa", form: "pkcs1" }], ["SEC1, P-256", { form: "sec1" }], ["PKCS#8, RSA", { type: "rsa" }]]) {
    test(`a key may be ${title}`, async () => {
      const made = makeCertificate(options);
      files.put(made);
      const host = await startNative({ settings: { ...STATIC, ...files.settings } });
      try {
        assert.equal((await answerTo(https.request({ host: "localhost", port: host.port, path: "/health", ca: made.certificate, agent: false }).end())).status, 200);
        assert.ok(!host.log().includes("chmod"));
      } finally {
        await host.stop();
      }
    });
  }

  test("a key that every user can read, and a certificate near its end, are warnings", { skip: process.platform === "win32" }, async () => {
    files.put(makeCertificate({ days: 5 }), 0o644);
    const host = await startNative({ settings: { ...STATIC, ...files.settings } });
    try {
      assert.match(host.log(), /WARN.*every user of this machine can read the key in .*key\.pem, whose mode is 0644; run: chmod o= '/);
      assert.match(host.log(), /WARN.*cert\.pem expires at .*; renew it/);
    } finally {
      await host.stop();
    }
    const check = (settings) => JSON.parse(spawnSync(NATIVE_BINARY, ["check", "--json"], { env: { PATH: process.env.PATH, HOME: files.folder, ...STATIC, AUTH_LISTEN: "127.0.0.1:0", ...settings }, encoding: "utf8" }).stdout);
    const found = (findings, name) => findings.find(({ check: title }) => title === name);
    const soon = check(files.settings);
    assert.deepEqual([found(soon, "certificate").status, found(soon, "key").status], ["warning", "warning"]);
    files.put(makeCertificate({ from: -10, days: 5 }));
    const over = check(files.settings);
    assert.deepEqual([found(over, "certificate").status, found(over, "key")], ["failed", undefined]);
    assert.match(found(over, "certificate").detail, /expired at/);
  });
});
