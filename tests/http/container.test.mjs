// The image of the native host, built from the Dockerfile and run as README says, by whatever engine is here.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";

import { COMPOSE, IMAGE, buildImage, engine, logsOf, must, remove, whyNoContainers } from "./support/containers.mjs";
import { until } from "./support/gateway.mjs";
import { ROOT, TOKEN, temporaryFolder, writeFile } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { secret } from "./support/transcripts.mjs";
import { deadPort } from "./support/upstream.mjs";

const test = (title, options, run) => nodeTest(title, { timeout: 120_000, ...(run ? options : {}) }, run ?? options);
const skip = whyNoContainers();
const HARDENED = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "host"];
const USER = 65_532;

const folder = temporaryFolder();
after(() => rmSync(folder, { recursive: true, force: true }));

const status = async (port, token) => {
  const headers = [["Host", "127.0.0.1"], ...(token === undefined ? [] : [["Authorization", `Bearer ${token}`]])];
  return (await ask(port, request({ target: "/v1/models", headers }))).status;
};
const listening = (container) => until("it listens", 20_000, () => logsOf(container).stderr.includes("listening on"));

describe("the image", { skip }, () => {
  const volume = `nodetool-auth-test-${randomBytes(4).toString("hex")}`;
  const started = [];
  before(() => buildImage());
  after(() => {
    for (const container of started) remove(container);
    engine("volume", "rm", "--force", volume);
  });

  /** Starts the gateway in a container, on a port of this machine. */
  async function start(...options) {
    const port = await deadPort();
    const container = must("run", "--detach", ...HARDENED, "--env", `AUTH_LISTEN=127.0.0.1:${port}`, ...options, IMAGE).split("\n").at(-1);
    started.push(container);
    await listening(container);
    return { container, port, inside: (...args) => engine("exec", container, "/nodetool-auth", ...args) };
  }

  test("holds one program, which its user cannot change, and one folder that is private to them", () => {
    const container = must("create", IMAGE).split("\n").at(-1);
    started.push(container);
    const archive = path.join(folder, "image.tar");
    must("export", "--output", archive, container);
    const { stdout } = spawnSync("tar", ["--list", "--verbose", "--numeric-owner", "--file", archive], { encoding: "utf8" });
    const entries = stdout.trim().split("\n").map((line) => line.split(/\s+/)).map(([mode, owner, , , , name]) => [name, mode, owner]);
    // What Docker puts into every container.
    const own = entries.filter(([name]) => !/^(dev|etc|proc|sys|\.dockerenv)/.test(name));
    assert.deepEqual(own, [["config/", "drwx------", `${USER}/${USER}`], ["nodetool-auth", "-rwxr-xr-x", "0/0"]]);
  });

  test("generates its token into the volume, on a file system that is read-only otherwise, without any privilege", async () => {
    const { container, port, inside } = await start("--volume", `${volume}:/config`);
    const { stdout } = logsOf(container);
    const token = inside("token", "show", "--reveal").stdout.trim();
    secret("the token in the volume", token);
    assert.match(token, /^[\w-]{43}$/);
    assert.match(stdout, /Source: Auto-generated and saved to \/config\/deployment\.yaml$/m);
    assert.ok(stdout.includes(`   Authorization: Bearer ${token}\n`));
    assert.deepEqual([await status(port, token), await status(port, `${token}x`), await status(port)], [200, 401, 401]);

    const pid = must("inspect", "--format", "{{.State.Pid}}", container);
    const state = readFileSync(`/proc/${pid}/status`, "utf8");
    for (const line of [`Uid:\t${USER}\t${USER}\t${USER}\t${USER}`, "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]) assert.ok(state.includes(line), `${line} in\n${state}`);
    assert.match(state, /^NSpid:\t\d+\t1$/m, "it is the first process");

    const outside = must("volume", "inspect", "--format", "{{.Mountpoint}}", volume);
    // The folder of the engine is for root alone.
    if (process.getuid() === 0) {
      const shown = (file) => [(statSync(file).mode & 0o777).toString(8), statSync(file).uid];
      assert.deepEqual(shown(outside), ["700", USER]);
      assert.deepEqual(shown(path.join(outside, "deployment.yaml")), ["600", USER]);
    }

    const rotated = inside("token", "rotate", "--reveal").stdout.trim();
    secret("the rotated token in the volume", rotated);
    await until("the new token passes", 15_000, async () => (await status(port, rotated)) === 200);
    assert.equal(await status(port, token), 401);

    const began = Date.now();
    must("stop", "--time", "20", container);
    assert.ok(Date.now() - began < 10_000, "SIGTERM is enough");
    assert.equal(must("inspect", "--format", "{{.State.ExitCode}}", container), "0");

    // Another container with the same volume.
    const next = await start("--volume", `${volume}:/config`);
    assert.equal(await status(next.port, rotated), 200);
    assert.match(logsOf(next.container).stdout, /Source: Config file \(\/config\/deployment\.yaml\)$/m);
  });

  test("takes its token from a variable, and then needs no volume", async () => {
    const { container, port } = await start("--env", `WORKER_AUTH_TOKEN=${TOKEN}`);
    assert.deepEqual([await status(port, TOKEN), await status(port)], [200, 401]);
    assert.match(logsOf(container).stdout, /Source: Environment variable/);
  });

  test("is healthy while it answers, and not while it cannot", async () => {
    const { container, inside } = await start("--env", `WORKER_AUTH_TOKEN=${TOKEN}`, "--env", `UPSTREAM_URL=http://127.0.0.1:${await deadPort()}`);
    const check = JSON.parse(must("image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", IMAGE));
    assert.deepEqual(check, ["CMD", "/nodetool-auth", "health"]);
    assert.equal(inside("health").status, 0, "whatever its upstream does");
    const pid = Number(must("inspect", "--format", "{{.State.Pid}}", container));
    process.kill(pid, "SIGSTOP");
    const { status: code, stderr } = inside("health", "--timeout", "500ms");
    process.kill(pid, "SIGCONT");
    assert.equal(code, 1);
    assert.match(stderr, /does not answer: timed out/);
    assert.equal(inside("health").status, 0);
  });

  test("lets nobody in by mistake: local needs to be insisted on", () => {
    const { status: code, stderr } = engine("run", "--rm", ...HARDENED, "--env", "AUTH_PROVIDER=local", IMAGE);
    assert.equal(code, 78);
    assert.match(stderr, /^AUTH_PROVIDER: /m);
  });
});

describe("compose.yaml", { skip: skip || (!COMPOSE && "neither `docker compose` nor podman-compose is here") }, () => {
  const project = `nodetool-auth-test-${randomBytes(4).toString("hex")}`;
  const [command, ...rest] = COMPOSE ?? [];
  const compose = (variables, ...args) => {
    const env = { ...process.env, ...variables };
    return spawnSync(command, [...rest, "--project-name", project, "--file", file, ...args], { env, encoding: "utf8", cwd: ROOT, timeout: 120_000 });
  };
  let file;
  before(() => {
    buildImage();
    // Nothing but the name of the image is another, so that nobody's own is in the way.
    file = writeFile(path.join(folder, "compose.yaml"), readFileSync(path.join(ROOT, "compose.yaml"), "utf8").replace("image: nodetool-auth\n", `image: ${IMAGE}\n`).replace("    build: .\n", ""));
  });
  after(() => {
    compose({}, "down", "--volumes");
    // Some forget their network.
    engine("network", "rm", `${project}_default`);
  });

  for (const [title, variables] of [["a token in the variable", { WORKER_AUTH_TOKEN: TOKEN }], ["a token in the volume", {}]]) {
    test(title, async () => {
      const port = await deadPort();
      const up = compose({ GATEWAY_PORT: String(port), ...variables }, "up", "--detach");
      assert.equal(up.status, 0, up.stderr);
      try {
        const container = must("ps", "--quiet", "--filter", `label=com.docker.compose.project=${project}`);
        await listening(container);
        const token = variables.WORKER_AUTH_TOKEN ?? engine("exec", container, "/nodetool-auth", "token", "show", "--reveal").stdout.trim();
        secret("the token of the service", token);
        assert.deepEqual([await status(port, token), await status(port, "wrong"), await status(port)], [200, 401, 401]);
        remove(container);
      } finally {
        compose({}, "down");
      }
    });
  }
});
