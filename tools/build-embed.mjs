// Builds the example of a Worker in Rust into build/worker-embed/, as `worker-build` does for its users, with this project's tools.
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT, WASM_TARGET, built, ensureBindgen, ensureWasmTarget, run, step } from "./setup.mjs";

const ENTRY = `import module from "./embed_bg.wasm";
import { fetch, initSync } from "./embed.js";

initSync({ module });

export default { fetch };
`;

export function buildEmbed() {
  ensureWasmTarget();
  const bindgen = ensureBindgen();
  step("Compiling the example of an embedding Worker");
  run("cargo", ["build", "--locked", "--package", "worker-embed", "--target", WASM_TARGET, "--profile", "edge"]);
  const wasm = built(WASM_TARGET, "edge", "worker_embed.wasm");
  const out = path.join(ROOT, "build", "worker-embed");
  run(bindgen, ["--target", "web", "--no-typescript", "--out-name", "embed", "--out-dir", out, wasm]);
  writeFileSync(path.join(out, "index.js"), ENTRY);
  return out;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) buildEmbed();
