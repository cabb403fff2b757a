// The unit for systemd: understood in every line, with the token as a credential, and with next to no privileges.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { after, describe, test as nodeTest } from "node:test";

import { NATIVE_BINARY, ROOT, TOKEN, spawnNative, startNative, temporaryFolder, writeFile } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const UNIT = readFileSync(path.join(ROOT, "examples/systemd/nodetool-auth.service"), "utf8");
const INSTALLED = "/usr/local/bin/nodetool-auth";

function whyNot() {
  const version = /^systemd (\d+)/.exec(spawnSync("systemd-analyze", ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1];
  if (!version) return "systemd-analyze is not installed";
  return Number(version) < 250 && `systemd ${version} does not judge units that are not installed`;
}

describe("the unit", { skip: whyNot() }, () => {
  const folder = temporaryFolder();
  after(() => rmSync(folder, { recursive: true, force: true }));
  const analyze = (unit, ...args) => {
    // It looks for the program as well.
    const file = writeFile(path.join(folder, "nodetool-auth.service"), unit.replace(INSTALLED, NATIVE_BINARY));
    const { status, stdout, stderr } = spawnSync("systemd-analyze", [...args, file], { encoding: "utf8" });
    return { status, stdout, said: stderr.split("\n").filter((line) => line.includes("nodetool-auth.service")) };
  };

  test("is understood in every line", () => {
    assert.ok(UNIT.includes(`ExecStart=${INSTALLED} serve\n`));
    assert.deepEqual(analyze(UNIT, "verify").said, []);
    // What it does not understand, it says.
    assert.match(analyze(UNIT.replace("ProtectHome=", "ProtectHomes="), "verify").said.join(), /ProtectHomes/);
  });

  test("and so is its socket", () => {
    const socket = readFileSync(path.join(ROOT, "examples/systemd/nodetool-auth.socket"), "utf8");
    const verify = (text) => {
      writeFile(path.join(folder, "nodetool-auth.service"), UNIT.replace(INSTALLED, NATIVE_BINARY));
      const file = writeFile(path.join(folder, "nodetool-auth.socket"), text);
      const { stderr } = spawnSync("systemd-analyze", ["verify", file], { encoding: "utf8" });
      return stderr.split("\n").filter((line) => line.includes("nodetool-auth.s"));
    };
    assert.deepEqual(verify(socket), []);
    assert.match(verify(socket.replace("Backlog=", "Backlogs=")).join(), /Backlogs/);
  });

  test("is exposed to little more than the network", () => {
    const { status, stdout } = analyze(UNIT, "security", "--offline=yes", "--threshold=15");
    assert.equal(status, 0, stdout);
    assert.notEqual(analyze(UNIT.replace("\nCapabilityBoundingSet=\n", "\n"), "security", "--offline=yes", "--threshold=15").status, 0, "the threshold is a near one");
  });
});

describe("a credential", () => {
  /** As systemd hands it over: a file that its user may only read, in a folder that nobody may write to. */
  const settings = (unit) => Object.fromEntries([...unit.matchAll(/^Environment=(.+)$/gm)].flatMap(([, line]) => line.split(" ").map((pair) => pair.split("="))));

  test("is where the token comes from, and the folder may be read-only", async () => {
    const home = temporaryFolder();
    const file = writeFile(path.join(home, "deployment.yaml"), `worker_auth_token: ${TOKEN}\n`, 0o400);
    const own = settings(UNIT);
    assert.equal(own.NODETOOL_CONFIG_PATH, "%d/deployment.yaml");
    chmodSync(home, 0o500);
    const host = await startNative({ home, settings: { ...own, NODETOOL_CONFIG_PATH: file, AUTH_LISTEN: "127.0.0.1:0" } });
    try {
      const answer = await ask(host.port, request({ target: "/v1/models", headers: [["Host", "api.example.com"], ["Authorization", `Bearer ${TOKEN}`]] }));
      assert.equal(answer.status, 200);
      assert.ok(host.output.stdout.includes(`Source: Config file (${file})`));
      assert.ok(!host.log().includes("chmod"), host.log());
    } finally {
      assert.equal((await host.stop("SIGTERM")).code, 0);
      chmodSync(home, 0o700);
      rmSync(home, { recursive: true, force: true });
    }
  });

  test("that is missing is an error, not a new token that would be lost", async () => {
    const { code, stderr } = await spawnNative({ settings: { ...settings(UNIT), NODETOOL_CONFIG_PATH: "/proc/none/deployment.yaml", AUTH_LISTEN: "127.0.0.1:0" } }).exited;
    assert.equal(code, 1);
    assert.match(stderr, /WORKER_AUTH_TOKEN/);
  });
});
