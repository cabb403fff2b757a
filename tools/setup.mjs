// What a machine with rustup and Node still lacks, each piece fetched or built once. Every script here begins with it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const WASM_TARGET = "wasm32-unknown-unknown";

/** Says what is being done, so that nobody wonders about a silent minute, and when, so that one sees what took long. */
export function step(text) {
  console.log(`\x1b[1m==> ${text}\x1b[0m (${new Date().toTimeString().slice(0, 8)})`);
}

/** Runs a command in the project's folder and ends this script with its status if it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: ROOT, stdio: "inherit", shell: process.platform === "win32", ...options });
  if (result.error) fail(`${command} cannot be run (${result.error.code}). ${REMEDIES[command] ?? ""}`);
  if (result.status !== 0) {
    console.error(`\n${command} ${args.join(" ")}\nfailed with ${result.signal ?? `status ${result.status}`}`);
    process.exit(result.status ?? 1);
  }
}

/** Runs a command whose output matters only if it fails, or if `--verbose` was asked for. */
export function runQuietly(command, args) {
  if (isVerbose()) return run(command, args);
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28, shell: process.platform === "win32" });
  if (error || status !== 0) process.stderr.write(`${stdout ?? ""}${stderr ?? ""}`);
  if (error) fail(`${command} cannot be run (${error.code}). ${REMEDIES[command] ?? ""}`);
  if (status !== 0) fail(`\n${command} ${args.join(" ")}\nfailed with status ${status}`);
}

/** `--verbose`, here or of the script that started this one. */
export function isVerbose() {
  return process.argv.includes("--verbose") || process.env.NODETOOL_VERBOSE === "1";
}

let target;
/** A file that Cargo builds: in the folder that `CARGO_TARGET_DIR` or Cargo's configuration names, else in `target`. */
export function built(...names) {
  if (target === undefined) {
    const { status, error, stdout, stderr } = spawnSync("cargo", ["metadata", "--no-deps", "--offline", "--format-version", "1"], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28, shell: process.platform === "win32" });
    if (error) fail(`cargo cannot be run (${error.code}). ${REMEDIES.cargo}`);
    if (status !== 0) fail(`cargo metadata failed:\n${stderr}`);
    target = JSON.parse(stdout).target_directory;
  }
  return path.join(target, ...names);
}

export function fail(message) {
  console.error(message);
  process.exit(1);
}

const REMEDIES = {
  cargo: "Install Rust from https://rustup.rs, then open a new terminal.",
  rustup: "Install Rust from https://rustup.rs, then open a new terminal.",
  npm: "npm comes with Node: https://nodejs.org.",
};

/** The compiler's support for WebAssembly. */
export function ensureWasmTarget() {
  const probe = spawnSync("rustc", ["--print", "target-libdir", "--target", WASM_TARGET], { cwd: ROOT, encoding: "utf8" });
  if (probe.status === 0 && existsSync(probe.stdout.trim())) return;
  step(`Adding the Rust target ${WASM_TARGET}`);
  run("rustup", ["target", "add", WASM_TARGET]);
}

/**
 * The npm packages that the lock file names. To run the Worker takes wrangler with workerd; browsers' drivers, other runtimes and
 * bundlers are for tests and benchmarks, and take more room than that.
 * @param {{all?: boolean}} options
 */
export function ensureNodeModules({ all = true } = {}) {
  const stamp = path.join(ROOT, "node_modules", ".installed-from");
  const wanted = createHash("sha256").update(readFileSync(path.join(ROOT, "package-lock.json"))).digest("hex");
  const found = existsSync(stamp) ? readFileSync(stamp, "utf8") : "";
  if (found === `${wanted} all` || (!all && found === wanted)) return;
  step(`Installing npm packages (${all ? "wrangler, workerd, and what tests and benchmarks use" : "wrangler and workerd"})`);
  run("npm", ["ci", "--no-audit", "--no-fund", ...(all ? [] : ["--omit=dev"])]);
  writeFileSync(stamp, all ? `${wanted} all` : wanted);
}

/** `wasm-bindgen` in the version of Cargo.lock; about a minute, once. Cargo knows when there is nothing to do. */
export function ensureBindgen() {
  const binary = built("tool", process.platform === "win32" ? "bindgen.exe" : "bindgen");
  if (!existsSync(binary)) step("Building wasm-bindgen (once, one to two minutes)");
  run("cargo", ["build", "--quiet", "--locked", "--package", "wasm-bindgen-tools", "--profile", "tool"]);
  return binary;
}
