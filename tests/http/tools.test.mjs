// The scripts of `tools`: where they look for what Cargo builds, what they print, and files that hold secrets.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";

import { ROOT, temporaryFolder } from "./support/hosts.mjs";
import { WRANGLER_ENV } from "./support/wrangler.mjs";

/** What a script prints that imports from these modules of `tools`. */
function script(text, environment = {}) {
  const tools = path.join(ROOT, "tools");
  const { CARGO_TARGET_DIR, CARGO_BUILD_TARGET_DIR, NODETOOL_VERBOSE, ...inherited } = process.env;
  const imports = `const { built } = await import(${JSON.stringify(path.join(tools, "paths.mjs"))}); const { run, step, summary } = await import(${JSON.stringify(path.join(tools, "steps.mjs"))});`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", `${imports} ${text}`], { encoding: "utf8", env: { ...inherited, ...environment } });
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
  const scripts = ["tools", "tests", "benchmarks", ".ci"].flatMap((folder) =>
    readdirSync(path.join(ROOT, folder), { recursive: true })
      .filter((name) => /(\.mjs|\.sh|^run)$/.test(name) && !name.includes("node_modules") && !name.endsWith("tools.test.mjs"))
      .map((name) => path.join(folder, name)),
  );
  assert.ok(scripts.length > 100, `${scripts.length} scripts`);
  for (const name of scripts) assert.doesNotMatch(readFileSync(path.join(ROOT, name), "utf8"), /["'`=/ ]target\/(?!\$)|"target"(?!, "add"|: )/, name);
});

test("a command is heard when it fails, or when asked for", () => {
  const noise = (code) => `await run(process.execPath, ["-e", "console.log('compiling'); console.error('a remark'); process.exit(${code})"]); console.log("done");`;
  assert.deepEqual(script(noise(0)), { status: 0, stdout: "done\n", stderr: "" });
  const failed = script(noise(3));
  assert.deepEqual([failed.status, failed.stdout], [1, ""]);
  assert.match(failed.stderr, /compiling\n/);
  assert.match(failed.stderr, /a remark\n[^]*failed with status 3/);
  const verbose = script(noise(0), { NODETOOL_VERBOSE: "1" });
  assert.deepEqual([verbose.stdout, verbose.stderr], ["compiling\ndone\n", "a remark\n"]);
});

test("a program that is not there is named with the remedy", () => {
  const { status, stderr } = script('await run("cargo", ["--version"])', { PATH: "/nonexistent" });
  assert.equal(status, 1);
  assert.match(stderr, /^cargo cannot be run \(ENOENT\)\. Install Rust from https:\/\/rustup\.rs/);
});

test("a step that takes a while has a line, and its time another one", () => {
  const waiting = (milliseconds) => `await step("Waiting", () => new Promise((resolve) => setTimeout(resolve, ${milliseconds})));`;
  assert.equal(script(waiting(1)).stdout, "");
  assert.match(script(waiting(700)).stdout, /^\S*==> Waiting\S* \(\d\d:\d\d:\d\d\)\n {4}Waiting: 0\.\d s\n$/);
  assert.match(script(`${waiting(1100)} ${waiting(1)} console.log(summary())`).stdout, /\n +1\.\d s {2}Waiting\n$/);
});

test("the types of the Worker's bindings are those of wrangler.toml", () => {
  const { status, stdout, stderr } = spawnSync("npx", ["wrangler", "types", "--include-runtime=false", "--check"], { cwd: ROOT, env: WRANGLER_ENV, encoding: "utf8" });
  assert.equal(status, 0, `${stdout}${stderr}\nnpm run wrangler -- types --include-runtime=false makes them`);
});

test("files that may hold a token are in no commit and no image", () => {
  const ignored = (name) => spawnSync("git", ["check-ignore", "--quiet", "--no-index", name], { cwd: ROOT }).status === 0;
  for (const name of [".env", ".env.production", ".dev.vars", ".dev.vars.dev", "examples/.env"]) assert.ok(ignored(name), name);
  const docker = readFileSync(path.join(ROOT, ".dockerignore"), "utf8").split("\n");
  for (const line of ["**/.env", "**/.env.*", "**/.dev.vars*"]) assert.ok(docker.includes(line), line);
});
