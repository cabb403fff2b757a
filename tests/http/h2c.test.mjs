// Upgrades to h2c in front of an API that performs them: a connection that changes its protocol carries requests that are not judged.
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { promisify } from "node:util";

import { until } from "./support/gateway.mjs";
import { AUTHORIZATION, ROOT, STATIC, TOKEN, gatherOutput, startHost } from "./support/hosts.mjs";
import { PROXIES, startProxy, whyNoProxy } from "./support/proxies.mjs";
import { ask, request } from "./support/raw.mjs";
import { secret } from "./support/transcripts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const run = promisify(execFile);

const PYTHON = process.env.NODETOOL_TEST_PYTHON;
const skip = !PYTHON ? "NODETOOL_TEST_PYTHON is not set" : spawnSync(PYTHON, ["-c", "import h2, hypercorn"]).status !== 0 && "h2 and hypercorn are not installed";
const program = (name) => path.join(ROOT, "tests", "clients", name);

const ADMIN_TOKEN = "admin-token-0123456789-abcdefgh";
secret("the admin token behind upgrades", ADMIN_TOKEN);

const CONNECTION = ["Connection", "Upgrade, HTTP2-Settings"];
const SETTINGS = ["HTTP2-Settings", "SETTINGS"];
const UPGRADES = [
  [CONNECTION, ["Upgrade", "h2c"], SETTINGS],
  [["Connection", "Upgrade"], ["Upgrade", "H2C"], SETTINGS],
  [CONNECTION, ["Upgrade", "h2c, websocket"], SETTINGS],
  [CONNECTION, ["Upgrade", "websocket"], ["Upgrade", "h2c"], SETTINGS],
  [CONNECTION, ["Upgrade", "h2c"], ["Upgrade", "websocket"], SETTINGS],
  [["Upgrade", "h2c"], SETTINGS],
  [CONNECTION, SETTINGS],
];

describe("an API that upgrades to h2c", { skip }, () => {
  let api;
  before(async () => (api = await startServer()));
  after(() => api?.stop());

  test("does so for a client that reaches it", async () => {
    assert.deepEqual(await upgrade(api.port, UPGRADES[0]), { status: 101, admin: 200 });
    assert.deepEqual(await api.askedUntil("/admin"), [["/v1/models", "2", null], ["/admin", "2", "root"]]);
  });

  for (const host of ["native", "edge"]) {
    describe(`behind the gateway ${host}`, () => {
      let gateway;
      before(async () => (gateway = await startHost(host, { settings: { ...STATIC, ADMIN_TOKEN, UPSTREAM_URL: `http://127.0.0.1:${api.port}` } })));
      after(() => gateway?.stop());
      neverUpgrades(() => gateway.port);
    });
  }

  for (const name of PROXIES) {
    describe(`behind ${name}, which asks the gateway`, { skip: whyNoProxy(name) }, () => {
      let gateway, proxy;
      before(async () => {
        gateway = await startHost("native", { settings: { ...STATIC, ADMIN_TOKEN } });
        proxy = await startProxy(name, { gateway: gateway.port, api: api.port });
      });
      after(async () => {
        await proxy?.stop();
        await gateway?.stop();
      });
      neverUpgrades(() => proxy.port);
    });
  }

  function neverUpgrades(port) {
    for (const headers of UPGRADES) {
      test(`never does so: ${headers.map((header) => header.join(": ")).join("; ")}`, async () => {
        const { status, admin } = await upgrade(port(), headers);
        // The next client is served.
        assert.equal((await ask(port(), request({ target: "/v1/next", headers: [["Host", "api.example.com"], AUTHORIZATION] }))).status, 200);
        const reached = await api.askedUntil("/v1/next");
        assert.ok([200, 400, 403].includes(status) && admin === null, `${status}, and ${admin} at /admin`);
        assert.deepEqual(reached, [...(status === 200 ? [["/v1/models", "1.1", "1"]] : []), ["/v1/next", "1.1", "1"]]);
      });
    }
  }
});

async function upgrade(port, headers) {
  const { stdout } = await run(PYTHON, [program("h2c_client.py"), `${port}`, TOKEN, JSON.stringify(headers)]);
  return JSON.parse(stdout);
}

/** Hypercorn, and what it has been asked: path, version of HTTP, `x-user-id`. */
async function startServer() {
  const child = spawn(PYTHON, [program("h2c_server.py")], { stdio: ["ignore", "pipe", "pipe"] });
  const output = gatherOutput(child, "hypercorn");
  const port = await until("hypercorn listens", 20_000, () => {
    assert.equal(child.exitCode, null, output.stderr);
    return /Running on http:\/\/127\.0\.0\.1:(\d+)/.exec(output.stderr)?.[1];
  });
  let seen = 0;
  return {
    port: Number(port),
    /** What it was asked since the last call, up to the request for this path. */
    askedUntil: (last) =>
      until(`${last} is asked for`, 5000, () => {
        const lines = output.stdout.slice(seen).split("\n").slice(0, -1);
        const asked = lines.map((line) => JSON.parse(line)).map(({ path, version, user }) => [path, version, user]);
        if (asked.at(-1)?.[0] !== last) return false;
        seen = output.stdout.length;
        return asked;
      }),
    async stop() {
      child.kill("SIGKILL");
      await once(child, "close");
    },
  };
}
