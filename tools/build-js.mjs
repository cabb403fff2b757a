// Builds the JavaScript surface into build/js/: fast to build for its tests, small and fast to run for benchmarks and the package.
import path from "node:path";

import { ROOT, WASM_TARGET, ensureBindgen, ensureWasmTarget, run } from "./setup.mjs";

/**
 * @param {"dev" | "edge"} profile
 * @param {string[]} flags of wasm-bindgen
 */
export function buildJs(profile, out = path.join(ROOT, "build", "js", profile), flags = []) {
  ensureWasmTarget();
  const bindgen = ensureBindgen();
  const features = ["--features", "js", "--profile", profile];
  run("cargo", ["build", "--locked", "--package", "nodetool-edge-auth", "--lib", "--target", WASM_TARGET, ...features]);
  const wasm = path.join(ROOT, "target", WASM_TARGET, profile === "dev" ? "debug" : profile, "nodetool_edge_auth.wasm");
  run(bindgen, ["--target", "web", "--out-name", "gate", ...flags, "--out-dir", out, wasm]);
  return out;
}
