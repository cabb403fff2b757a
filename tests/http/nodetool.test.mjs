// NodeTool's own worker behind the gateway: `nodetool-core` from Python's registry, where `tools/peers.sh` could install it.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";

import { built } from "../../tools/paths.mjs";
import { AUTHORIZATION, ROOT, STATIC, TOKEN, startHost, temporaryFolder } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { secret } from "./support/transcripts.mjs";
import { deadPort } from "./support/upstream.mjs";

const PYTHON = process.env.NODETOOL_TEST_WORKER ?? built("nodetool", "bin", "python");
const CLIENT = path.join(ROOT, "tests/clients/nodetool_client.py");
const WORKER_TOKEN = "test-worker-0123456789-abcdefgh";
const LARGE = 30_000_000;
const skip = !existsSync(PYTHON) && `nodetool-core is not installed (${path.relative(ROOT, PYTHON)})`;
const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);

secret("the token of NodeTool's worker", WORKER_TOKEN);

/** The worker on a port of its own, ready for connections. */
async function startWorker() {
  const port = await deadPort();
  const home = temporaryFolder();
  const env = { PATH: process.env.PATH, HOME: home, NODETOOL_WORKER_TOKEN: WORKER_TOKEN };
  const child = spawn(PYTHON, ["-m", "nodetool.worker", "--host", "127.0.0.1", "--port", String(port), "--namespaces", "none"], { env, cwd: home, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const listens = new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
        if (output.includes(`NODETOOL_WORKER_PORT=${port}`) || output.includes(`:${port}`)) resolve();
      });
    }
    child.once("exit", (code) => reject(new Error(`the worker ended (${code}):\n${output}`)));
  });
  await listens;
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      child.removeAllListeners("exit");
      child.kill("SIGKILL");
      await once(child, "close");
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function connect(url, credential, size = 1000) {
  const env = { PATH: process.env.PATH, ...(credential && { CREDENTIAL: credential }) };
  const { status, stdout, stderr } = spawnSync(PYTHON, [CLIENT, `${url.replace("http", "ws")}/`, String(size)], { env, encoding: "utf8", timeout: 60_000 });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

const served = (size) => ({ status: "websocket", ids: ["1", "2"], repeated: size });

describe("NodeTool's worker behind the gateway", { skip }, () => {
  let worker;
  before(async () => {
    worker = await startWorker();
  });
  after(() => worker?.stop());

  test("by itself it takes exactly its own token", () => {
    assert.deepEqual(connect(worker.url, `Bearer ${WORKER_TOKEN}`), served(1000));
    for (const credential of [undefined, `bearer ${WORKER_TOKEN}`, `Bearer  ${WORKER_TOKEN}`, `Bearer ${TOKEN}`]) assert.equal(connect(worker.url, credential).refused, 401);
  });

  for (const name of ["native", "edge"]) {
    describe(name, () => {
      let host;
      before(async () => {
        host = await startHost(name, { settings: { ...STATIC, UPSTREAM_URL: worker.url, UPSTREAM_AUTHORIZATION: `Bearer ${WORKER_TOKEN}`, AUTH_HEALTH: "self" } });
      });
      after(() => host?.stop());

      test("clients with the gateway's token are served, in any form of it", () => {
        for (const credential of [`Bearer ${TOKEN}`, `bearer   ${TOKEN}`]) assert.deepEqual(connect(host.url, credential), served(1000));
      });

      // Cloudflare's limit for one message is 32 MiB.
      test("a frame of 30 MB passes in both directions", () => {
        assert.deepEqual(connect(host.url, `Bearer ${TOKEN}`, LARGE), served(LARGE));
      });

      test("others are refused by the gateway, with the worker's own token too", () => {
        for (const credential of [undefined, `Bearer ${WORKER_TOKEN}`, "Bearer wrong-0123456789"]) {
          const { refused, body } = connect(host.url, credential);
          assert.equal(refused, 401);
          assert.match(body, /^\{"detail":"/);
        }
      });

      test("the gateway answers for its own health, which the worker has no answer for", async () => {
        const health = (port) => ask(port, request({ target: "/health", headers: [["Host", `127.0.0.1:${port}`]] }));
        assert.ok([401, 426].includes((await health(Number(new URL(worker.url).port))).status));
        const answer = await health(host.port);
        assert.deepEqual([answer.status, JSON.parse(answer.body).status], [200, "healthy"]);
      });
    });
  }

  test("under keep the worker can have the token of the gateway's clients", async () => {
    const host = await startHost("native", { settings: { ...STATIC, WORKER_AUTH_TOKEN: WORKER_TOKEN, UPSTREAM_URL: worker.url } });
    try {
      assert.deepEqual(connect(host.url, `bEARER   ${WORKER_TOKEN}`), served(1000), "in the one form that the worker takes");
      assert.equal((await ask(host.port, request({ target: "/x", headers: [["Host", "x"], AUTHORIZATION] }))).status, 401);
    } finally {
      await host.stop();
    }
  });
});
