// `npm run test:deep`: what takes hours and is no part of `npm test`. `npm run test:deep -- --help` says more.
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { ROOT, built } from "./paths.mjs";
import { ensureNodeModules } from "./setup.mjs";
import { duration, fail, heading, say } from "./steps.mjs";

const TOOLS = built("ci");
const PYTHON = built("deep", "venv", "bin", "python");
const CROSS = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/** Each task: what it is, and its commands. Those of one task run one after the other, until one fails. */
const TASKS = {
  properties: {
    text: "Property tests and simulations, a hundred times as many cases",
    commands: ({ seed }) => [
      ["cargo", "test", "--locked", "--release", "--workspace", "--exclude", "wasm-bindgen-tools", "--", "--nocapture"],
      { NODETOOL_TEST_CASES: "100", PROPTEST_RNG_SEED: String(seed) },
    ],
  },
  fuzz: {
    text: "Every fuzz target for a minute; what it finds is merged into fuzz/corpus",
    commands: ({ seed }) => [
      [process.execPath, "tools/fuzz.mjs", "--seconds", "60", "--seed", String(seed)],
      [process.execPath, "tools/fuzz.mjs", "--merge"],
    ],
  },
  soak: {
    text: "All kinds of clients together, for an hour",
    commands: ({ seed }) => [
      ["cargo", "build", "--locked", "--release", "--package", "nodetool-auth"],
      [process.execPath, "tools/build-worker.mjs"],
      [process.execPath, "--test", "tests/http/soak.test.mjs"],
      { NODETOOL_TEST_SOAK: "3600", NODETOOL_TEST_SEED: String(seed) },
    ],
  },
  cross: {
    text: "The native host for other systems, linked by Zig",
    commands: () => [
      ["python3", "-m", "venv", built("deep", "venv")],
      [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "ziglang==0.17.1", "cargo-zigbuild==0.24.1"],
      ...CROSS.flatMap((target) => [
        ["rustup", "target", "add", target],
        [PYTHON.replace(/python$/, "cargo-zigbuild"), "zigbuild", "--locked", "--release", "--package", "nodetool-auth", "--target", target],
      ]),
    ],
  },
  image: {
    text: "The image of the Dockerfile, built and run (needs docker or podman, and musl-gcc)",
    commands: () => [
      ["rustup", "target", "add", "x86_64-unknown-linux-musl"],
      ["cargo", "build", "--locked", "--release", "--package", "nodetool-auth", "--target", "x86_64-unknown-linux-musl"],
      [process.execPath, "--test", "tests/http/container.test.mjs"],
      { TARGET_CC: "musl-gcc" },
    ],
  },
  msrv: {
    text: "Compiled by the oldest compiler that `rust-version` allows (rustup has to reach it)",
    commands: () => {
      const [, version] = /^rust-version = "([^"]+)"/m.exec(readFileSync(path.join(ROOT, "Cargo.toml"), "utf8"));
      const check = ["run", "--install", version, "cargo", "check", "--locked", "--target-dir", built("deep", "msrv")];
      return [
        ["rustup", ...check, "--package", "nodetool-edge-auth", "--package", "nodetool-auth"],
        ["rustup", "target", "add", "--toolchain", version, "wasm32-unknown-unknown"],
        ["rustup", ...check, "--package", "nodetool-edge-auth", "--target", "wasm32-unknown-unknown", "--features", "worker,explain"],
      ];
    },
  },
  mutants: {
    text: "Mutation testing of the core: each change to the code must fail a test (hours)",
    commands: () => [
      ["cargo", "install", "--quiet", "--locked", "--root", TOOLS, "--version", "27.1.0", "cargo-mutants"],
      [path.join(TOOLS, "bin", "cargo-mutants"), "mutants", "--package", "nodetool-edge-auth", "--iterate", "--no-shuffle", "--jobs", "2", "--output", built("deep")],
    ],
  },
};

const HELP = `npm run test:deep [-- TASK... [--seed N] [--again] [--json]]

Runs all tasks, or those named. What has passed at this commit is not run again, so that a run may be stopped and continued. The
report is ${path.relative(ROOT, built("deep"))}/COMMIT.md, beside the output of each task.

${Object.entries(TASKS).map(([name, { text }]) => `  ${name.padEnd(12)} ${text}`).join("\n")}

  --seed N     what decides where chance does [default: one of its own, which is shown]
  --again      also runs what has passed
  --json       prints the results as JSON
  --help       this`;

const git = (...args) => spawnSync("git", args, { cwd: ROOT, encoding: "utf8" }).stdout.trim();

const { values: options, positionals: named } = parse();
if (options.help) {
  console.log(HELP);
  process.exit(0);
}
const unknown = named.filter((name) => !(name in TASKS));
if (unknown.length > 0) fail(`There is no task ${unknown.join(", ")}.\n\n${HELP}`);

const commit = `${git("rev-parse", "--short=12", "HEAD")}${git("status", "--porcelain") ? "-changed" : ""}`;
const folder = built("deep", commit);
mkdirSync(folder, { recursive: true });
const file = `${folder}.json`;
const report = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { commit, tasks: {} };
const seed = Number(options.seed ?? report.seed ?? randomInt(2 ** 31));
if (!Number.isSafeInteger(seed) || seed < 0) fail("--seed takes a whole number.");
report.seed = seed;

await ensureNodeModules();
if (!options.json) say(`Commit ${commit}, seed ${seed}`);
for (const [name, { text, commands }] of Object.entries(TASKS)) {
  if (named.length > 0 && !named.includes(name)) continue;
  if (report.tasks[name]?.status === "passed" && !options.again) {
    if (!options.json) say(`  ✓ ${name} passed before`);
    continue;
  }
  if (!options.json) heading(`${name}: ${text}`);
  report.tasks[name] = runTask(name, commands({ seed }));
  save();
  const { status, milliseconds, log } = report.tasks[name];
  if (!options.json) say(`  ${status === "passed" ? "✓" : "✗"} ${name}: ${status} (${duration(milliseconds)}), ${log}`);
}
console.log(options.json ? JSON.stringify(report, null, 2) : `\nThe report is ${path.relative(ROOT, `${folder}.md`)}.`);
if (Object.values(report.tasks).some(({ status }) => status !== "passed")) process.exitCode = 1;

function parse() {
  try {
    return parseArgs({ allowPositionals: true, options: { seed: { type: "string" }, again: { type: "boolean" }, json: { type: "boolean" }, help: { type: "boolean" } } });
  } catch (error) {
    return fail(`${error.message}\n\n${HELP}`);
  }
}

/** Runs the commands of a task; their environment is an object among them. What they print is in a file. */
function runTask(name, commands) {
  const began = Date.now();
  const env = Object.assign({ ...process.env }, ...commands.filter((entry) => !Array.isArray(entry)));
  const log = path.join(folder, `${name}.log`);
  writeFileSync(log, "");
  let status = "passed";
  for (const [program, ...args] of commands.filter(Array.isArray)) {
    writeFileSync(log, `\n$ ${program} ${args.join(" ")}\n`, { flag: "a" });
    const ended = spawnSync("/bin/sh", ["-c", 'exec "$0" "$@" >>"$LOG" 2>&1', program, ...args], { cwd: ROOT, env: { ...env, LOG: log }, stdio: ["ignore", "inherit", "inherit"] });
    if (ended.signal === "SIGINT") process.exit(130);
    if (ended.status !== 0) {
      status = `failed with ${ended.signal ?? `status ${ended.status}`}: ${program} ${args.join(" ")}`;
      break;
    }
  }
  return { status, milliseconds: Date.now() - began, date: new Date().toISOString(), log: path.relative(ROOT, log) };
}

/** Both files whole, or as they were. */
function save() {
  const rows = Object.entries(report.tasks).map(([name, { status, milliseconds, date, log }]) => `| ${name} | ${status} | ${duration(milliseconds)} | ${date} | ${log} |`);
  const text = `# Deep tests of ${commit}\n\nSeed ${seed}. \`npm run test:deep -- --seed ${seed}\` repeats them.\n\n| task | result | time | ended | output |\n|---|---|---|---|---|\n${rows.join("\n")}\n`;
  for (const [name, contents] of [[file, JSON.stringify(report, null, 2)], [`${folder}.md`, text]]) {
    writeFileSync(`${name}.new`, contents);
    renameSync(`${name}.new`, name);
  }
}
