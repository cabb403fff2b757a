// `nodetool-auth health`: what a container asks whether the gateway is there.
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test as nodeTest } from "node:test";

import { STATIC, spawnNative, startNative } from "./support/hosts.mjs";
import { listen } from "./support/servers.mjs";
import { deadPort } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const health = (settings, ...args) => spawnNative({ settings, args: ["health", ...args] }).exited;

/** Runs a server that says `answer` to whoever connects. */
async function saying(answer, body) {
  const server = net.createServer((socket) => socket.on("error", () => {}).resume().write(answer));
  const { port, stop } = await listen(server);
  try {
    return await body(port);
  } finally {
    await stop();
  }
}

describe("health", () => {
  for (const [provider, settings, status] of [["static", STATIC, 401], ["local", { AUTH_PROVIDER: "local" }, 200], ["none", { AUTH_PROVIDER: "none" }, 200]]) {
    test(`0 while the gateway is there, whether the upstream is or not: ${provider}`, async () => {
      const host = await startNative({ settings: { ...settings, UPSTREAM_URL: `http://127.0.0.1:${await deadPort()}` } });
      const address = `127.0.0.1:${host.port}`;
      assert.deepEqual(await health({ AUTH_LISTEN: address }), { code: 0, signal: null, stdout: `http://${address} answers\n`, stderr: "" });
      // A listener on every address is asked on this machine; a flag goes before its variable; other settings do not matter.
      const { stdout } = await health({ AUTH_LISTEN: "x", AUTH_PROVIDER: "jwt" }, "--listen", `0.0.0.0:${host.port}`, "--json");
      assert.deepEqual(JSON.parse(stdout), { healthy: true, url: `http://${address}`, status });
      await host.stop("SIGTERM");
      assert.ok(!host.log().includes("whoami"), "and the log is not filled with it");
      const { code, stderr } = await health({ AUTH_LISTEN: address });
      assert.equal(code, 1);
      assert.match(stderr, /does not answer: .*refused/);
    });
  }

  test("1 when another server has its port", async () => {
    for (const answer of ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 502 Bad Gateway\r\n\r\n", "SSH-2.0-x\r\n", "x".repeat(5000)]) {
      await saying(answer, async (port) => {
        const { code, stderr } = await health({ AUTH_LISTEN: `127.0.0.1:${port}` });
        assert.equal(code, 1, answer);
        assert.match(stderr, /which no gateway would/);
      });
    }
  });

  test("1 when it does not answer in time, however slowly it begins to", async () => {
    for (const answer of ["", "HTTP/1.1 200"]) {
      await saying(answer, async (port) => {
        const began = Date.now();
        const { code, stderr } = await health({ AUTH_LISTEN: `127.0.0.1:${port}` }, "--timeout", "300ms");
        assert.equal(code, 1);
        assert.match(stderr, /does not answer: timed out/);
        const took = Date.now() - began;
        assert.ok(took >= 300 && took < 10_000, `${took} ms`);
      });
    }
  });

  test("78 when nobody can know whom to ask", async () => {
    for (const listen of ["127.0.0.1:0", "nowhere"]) {
      const { code, stderr } = await health({ AUTH_LISTEN: listen });
      assert.equal(code, 78);
      assert.match(stderr, /AUTH_LISTEN/);
    }
  });
});
