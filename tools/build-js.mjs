// Builds the JavaScript surface into build/js/: fast to build for its tests, small and fast to run for benchmarks and the package.
import path from "node:path";

import { ROOT, WASM_TARGET, built, ensureBindgen, ensureWasmTarget, run } from "./setup.mjs";

/**
 * @param {"dev" | "edge"} profile
 * @param {{surface?: "js" | "explain", out?: string, flags?: string[]}} options without or with what explains judgements, where to,
 *   and further flags of wasm-bindgen
 */
export function buildJs(profile, { surface = "js", out = path.join(ROOT, "build", surface, profile), flags = [] } = {}) {
  ensureWasmTarget();
  const bindgen = ensureBindgen();
  const features = ["--features", surface, "--profile", profile];
  run("cargo", ["build", "--locked", "--package", "nodetool-edge-auth", "--lib", "--target", WASM_TARGET, ...features]);
  const wasm = built(WASM_TARGET, profile === "dev" ? "debug" : profile, "nodetool_edge_auth.wasm");
  run(bindgen, ["--target", "web", "--no-typescript", "--out-name", "gate", ...flags, "--out-dir", out, wasm]);
  return out;
}
