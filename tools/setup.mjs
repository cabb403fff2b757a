// What a machine with rustup and Node still lacks. Each piece is fetched or built once.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

import { ROOT, built } from "./paths.mjs";
import { run, step } from "./steps.mjs";

export const WASM_TARGET = "wasm32-unknown-unknown";

/** The compiler's support for WebAssembly. */
export async function ensureWasmTarget() {
  const probe = spawnSync("rustc", ["--print", "target-libdir", "--target", WASM_TARGET], { cwd: ROOT, encoding: "utf8" });
  if (probe.status === 0 && existsSync(probe.stdout.trim())) return;
  await step(`Adding the Rust target ${WASM_TARGET}`, () => run("rustup", ["target", "add", WASM_TARGET]));
}

/**
 * The npm packages that the lock file names. The Worker needs wrangler with workerd only; what tests and benchmarks use besides takes
 * more room than that.
 * @param {{all?: boolean}} options
 */
export async function ensureNodeModules({ all = true } = {}) {
  const contents = all ? "wrangler, workerd, and what tests and benchmarks use" : "wrangler and workerd";
  await installPackages(ROOT, `Installing npm packages (${contents})`, all ? [] : ["--omit=dev"], all ? "all" : "");
}

/**
 * The folder of a Node that wrangler runs on, for machines whose own is older than that; else nothing.
 * @returns {Promise<string | undefined>}
 */
export async function ensureNode() {
  const { engines } = JSON.parse(readFileSync(path.join(ROOT, "node_modules", "wrangler", "package.json"), "utf8"));
  const [needed, own] = [engines.node, process.versions.node].map((text) => /(\d+)\.(\d+)/.exec(text).slice(1).map(Number));
  if (own[0] > needed[0] || (own[0] === needed[0] && own[1] >= needed[1])) return undefined;
  const home = path.join(ROOT, "tools", "node");
  await installPackages(home, `Installing a current Node for wrangler (this one is ${process.versions.node})`);
  const { optionalDependencies } = JSON.parse(readFileSync(path.join(home, "package.json"), "utf8"));
  const folders = Object.keys(optionalDependencies).map((name) => path.join(home, "node_modules", name, "bin"));
  const folder = folders.find(existsSync);
  if (!folder) throw new Error(`wrangler needs Node ${engines.node}, and npm has none for this machine: install one from https://nodejs.org.`);
  return folder;
}

/** `npm ci`, unless the lock file is the one that was installed from. What is installed for `all` has what others ask for, too. */
async function installPackages(folder, title, options = [], extent = "all") {
  const stamp = path.join(folder, "node_modules", ".installed-from");
  const wanted = createHash("sha256").update(readFileSync(path.join(folder, "package-lock.json"))).digest("hex");
  const found = existsSync(stamp) ? readFileSync(stamp, "utf8") : "";
  if (found === `${wanted} all` || found === `${wanted} ${extent}`) return;
  await step(title, () => run("npm", ["ci", "--no-audit", "--no-fund", ...options], { cwd: folder }));
  writeFileSync(stamp, `${wanted} ${extent}`);
}

/** `wasm-bindgen` in the version of Cargo.lock. Cargo knows when there is nothing to do. */
export async function ensureBindgen() {
  await step("Building wasm-bindgen (once)", () => run("cargo", ["build", "--locked", "--package", "wasm-bindgen-tools", "--profile", "tool"]));
  return built("tool", process.platform === "win32" ? "bindgen.exe" : "bindgen");
}

/** The runner of `wasm-bindgen-test`. */
export async function ensureTestRunner() {
  await step("Building the test runner of wasm-bindgen (once)", () =>
    run("cargo", ["build", "--locked", "--package", "wasm-bindgen-tools", "--features", "test-runner", "--profile", "tool"]),
  );
  return built("tool", process.platform === "win32" ? "wasm-bindgen-test-runner.exe" : "wasm-bindgen-test-runner");
}
