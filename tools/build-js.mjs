// Builds the JavaScript surface into build/js/: fast to build for its tests, small and fast to run for benchmarks.
import path from "node:path";

import { ROOT, WASM_TARGET, ensureBindgen, ensureWasmTarget, run } from "./setup.mjs";

/**
 * @param {"dev" | "edge"} profile
 * @param {"js" | "explain"} surface with or without what explains judgements
 */
export function buildJs(profile, surface = "js") {
  ensureWasmTarget();
  const bindgen = ensureBindgen();
  const features = ["--features", surface, "--profile", profile];
  run("cargo", ["build", "--locked", "--package", "nodetool-edge-auth", "--lib", "--target", WASM_TARGET, ...features]);
  const wasm = path.join(ROOT, "target", WASM_TARGET, profile === "dev" ? "debug" : profile, "nodetool_edge_auth.wasm");
  const out = path.join(ROOT, "build", surface, profile);
  run(bindgen, ["--target", "web", "--out-name", "gate", "--out-dir", out, wasm]);
  return out;
}
