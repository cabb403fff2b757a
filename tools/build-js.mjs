// Builds the JavaScript surface into build/js/: fast to build for its tests, small and fast to run for benchmarks and the package.
import path from "node:path";

import { ROOT, built } from "./paths.mjs";
import { WASM_TARGET, ensureBindgen, ensureWasmTarget } from "./setup.mjs";
import { run, step } from "./steps.mjs";

/**
 * @param {"dev" | "edge"} profile
 * @param {{surface?: "js" | "explain", out?: string, flags?: string[]}} options without or with what explains judgements, where to,
 *   and further flags of `bindgen`
 */
export async function buildJs(profile, { surface = "js", out = path.join(ROOT, "build", surface, profile), flags = [] } = {}) {
  await ensureWasmTarget();
  const features = ["--features", surface, "--profile", profile];
  const [bindgen] = await Promise.all([
    ensureBindgen(),
    step(`Compiling the JavaScript surface (${surface}, ${profile})`, () => run("cargo", ["build", "--locked", "--package", "nodetool-edge-auth", "--lib", "--target", WASM_TARGET, ...features])),
  ]);
  const wasm = built(WASM_TARGET, profile === "dev" ? "debug" : profile, "nodetool_edge_auth.wasm");
  await run(bindgen, [...flags, "gate", out, wasm]);
  return out;
}
