// The scripts of `tools`: where they look for what Cargo builds, what they print, and files that hold secrets.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";

import { ROOT, temporaryFolder } from "./support/hosts.mjs";

/** What a script prints that imports from `setup.mjs`. */
function script(text, environment = {}) {
  const setup = JSON.stringify(path.join(ROOT, "tools", "setup.mjs"));
  const { CARGO_TARGET_DIR, CARGO_BUILD_TARGET_DIR, NODETOOL_VERBOSE, ...inherited } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", `const { built, runQuietly } = await import(${setup}); ${text}`], { encoding: "utf8", env: { ...inherited, ...environment } });
  return { status, stdout, stderr };
}

test("what Cargo builds is looked for where Cargo puts it", () => {
  const home = temporaryFolder();
  try {
    const elsewhere = path.join(home, "built");
    mkdirSync(path.join(home, "cargo"));
    writeFileSync(path.join(home, "cargo", "config.toml"), `[build]\ntarget-dir = ${JSON.stringify(elsewhere)}\n`);
    const found = (environment) => script('console.log(built("release", "nodetool-auth"))', environment).stdout.trim();
    assert.equal(found({}), path.join(ROOT, "target", "release", "nodetool-auth"));
    for (const environment of [{ CARGO_TARGET_DIR: elsewhere }, { CARGO_BUILD_TARGET_DIR: elsewhere }, { CARGO_HOME: path.join(home, "cargo") }]) {
      assert.equal(found(environment), path.join(elsewhere, "release", "nodetool-auth"), Object.keys(environment)[0]);
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});

test("no script names the folder of Cargo's by itself", () => {
  for (const name of ["build-worker.mjs", "build-js.mjs", "build-embed.mjs", "build-package.mjs", "sizes.mjs", "setup.mjs", "start.mjs", "playground.mjs"]) {
    assert.doesNotMatch(readFileSync(path.join(ROOT, "tools", name), "utf8"), /ROOT, "target/, name);
  }
});

test("a compiler is heard when it fails, or when asked for", () => {
  const noise = (code) => `runQuietly(process.execPath, ["-e", "console.log('compiling'); console.error('a remark'); process.exit(${code})"]); console.log("done");`;
  assert.deepEqual(script(noise(0)), { status: 0, stdout: "done\n", stderr: "" });
  const failed = script(noise(3));
  assert.deepEqual([failed.status, failed.stdout], [1, ""]);
  assert.match(failed.stderr, /compiling\na remark\n[^]*failed with status 3/);
  const verbose = script(noise(0), { NODETOOL_VERBOSE: "1" });
  assert.deepEqual([verbose.stdout, verbose.stderr], ["compiling\ndone\n", "a remark\n"]);
});

test("files that may hold a token are in no commit and no image", () => {
  const ignored = (name) => spawnSync("git", ["check-ignore", "--quiet", "--no-index", name], { cwd: ROOT }).status === 0;
  for (const name of [".env", ".env.production", ".dev.vars", ".dev.vars.dev", "examples/.env"]) assert.ok(ignored(name), name);
  const docker = readFileSync(path.join(ROOT, ".dockerignore"), "utf8").split("\n");
  for (const line of ["**/.env", "**/.env.*", "**/.dev.vars*"]) assert.ok(docker.includes(line), line);
});
