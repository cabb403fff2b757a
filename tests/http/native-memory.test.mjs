// The memory of the native host holds tokens: no dump of it is left behind, and no neighbour reads it. And it is little.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, readFileSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";

import { AUTHORIZATION, STATIC, TOKEN, startNative, temporaryFolder } from "./support/hosts.mjs";
import { kilobytes, oneCore } from "./support/process.mjs";

const test = (title, options, run) => nodeTest(title, { timeout: 60_000, ...options }, run);
const LINUX = process.platform === "linux" ? false : "only Linux has /proc";
const AS_ROOT = process.getuid?.() === 0;
/** Root may read everything, so that as root the gateway and its neighbour are run by somebody else. */
const NOBODY = 65_532;
const asUser = (command) => (AS_ROOT ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", ...command] : command);

const run = ([program, ...args]) => spawnSync(program, args, { encoding: "utf8" });

/** Runs the gateway in a folder of its own, after `prefix`, a line of shell, for as long as `body` takes. */
async function serving(prefix, body) {
  const [home, programs] = [temporaryFolder(), temporaryFolder()];
  chmodSync(home, 0o777);
  // Where it was built nobody else may be allowed.
  chmodSync(programs, 0o755);
  const wrap = ([binary, ...args]) => {
    const copy = path.join(programs, "nodetool-auth");
    copyFileSync(binary, copy);
    return asUser(["sh", "-ec", `${prefix}exec "$0" "$@"`, copy, ...args]);
  };
  let host;
  try {
    host = await startNative({ home, settings: STATIC, wrap });
    return await body(host, home);
  } finally {
    await host?.stop();
    for (const folder of [home, programs]) rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether a program that is aborted in a folder leaves a dump there, on this machine. */
function whyNoDumps() {
  if (process.platform === "win32") return "there are no core dumps";
  const home = temporaryFolder();
  spawnSync("sh", ["-c", "ulimit -c unlimited; kill -ABRT $$"], { cwd: home });
  const isDumped = readdirSync(home).length > 0;
  rmSync(home, { recursive: true, force: true });
  return isDumped ? false : "this machine leaves no core dumps where programs run";
}

describe("memory", () => {
  test("the limit of a core dump is 0, whatever it was before", { skip: LINUX }, () =>
    serving("ulimit -c unlimited; ", ({ pid }) => {
      assert.match(readFileSync(`/proc/${pid}/limits`, "utf8"), /^Max core file size +0 +0 /m);
    }),
  );

  test("a process of the same user reads neither its environment nor its memory", { skip: LINUX }, () =>
    serving("", ({ pid }) => {
      for (const name of ["environ", "maps", "mem"]) {
        const { status, stdout, stderr } = run(asUser(["cat", `/proc/${pid}/${name}`]));
        assert.deepEqual([status, stdout.includes(TOKEN)], [1, false], name);
        assert.match(stderr, /Permission denied/);
      }
    }),
  );

  test("when it is aborted it leaves no core dump", { skip: whyNoDumps() }, () =>
    serving("ulimit -c unlimited; ", async (host, home) => {
      const { signal } = await host.stop("SIGABRT");
      assert.equal(signal, "SIGABRT");
      assert.deepEqual(readdirSync(home), []);
    }),
  );

  test("at rest it has 3 MB for itself at the most, and no huge pages", { skip: LINUX }, () =>
    serving(`taskset -cp ${oneCore()} $$ >/dev/null; `, async ({ pid, url }) => {
      assert.equal((await fetch(`${url}/.auth/whoami`, { headers: [AUTHORIZATION] })).status, 200);
      // Half of it is in use. One of its pages made huge would take 2 MB more, and there were five.
      const own = kilobytes(pid, "RssAnon");
      assert.ok(own < 3072, `${own} KB`);
      // Older systems do not tell.
      assert.doesNotMatch(readFileSync(`/proc/${pid}/status`, "utf8"), /^THP_enabled:\s+1$/m);
    }),
  );
});
