// Builds the example of a Worker in Rust into build/worker-embed/, as `worker-build` does for its users, with this project's tools.
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT, built } from "./paths.mjs";
import { WASM_TARGET, ensureBindgen, ensureWasmTarget } from "./setup.mjs";
import { run, step } from "./steps.mjs";

const ENTRY = `import module from "./embed_bg.wasm";
import { fetch, initSync } from "./embed.js";

initSync({ module });

export default { fetch };
`;

export async function buildEmbed() {
  await ensureWasmTarget();
  const [bindgen] = await Promise.all([
    ensureBindgen(),
    step("Compiling the example of an embedding Worker", () => run("cargo", ["build", "--locked", "--package", "worker-embed", "--target", WASM_TARGET, "--profile", "edge"])),
  ]);
  const wasm = built(WASM_TARGET, "edge", "worker_embed.wasm");
  const out = path.join(ROOT, "build", "worker-embed");
  await run(bindgen, ["embed", out, wasm]);
  writeFileSync(path.join(out, "index.js"), ENTRY);
  return out;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildEmbed();
