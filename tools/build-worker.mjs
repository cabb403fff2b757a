// Builds the Worker into build/worker/. `wrangler dev` and `wrangler deploy` call it; it does nothing twice.
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT, built } from "./paths.mjs";
import { WASM_TARGET, ensureBindgen, ensureWasmTarget } from "./setup.mjs";
import { run, step } from "./steps.mjs";

const OUT = path.join(ROOT, "build", "worker");
const SOURCES = path.join(ROOT, "src", "worker");
/** Beside what is compiled: how each is called in `OUT`. */
const SCRIPTS = { "entry.js": "index.js", "arbiter.js": "arbiter.js", "rehearsal.js": "rehearsal.js" };

export async function buildWorker() {
  await ensureWasmTarget();
  // Neither fills two processors all the time.
  const [bindgen] = await Promise.all([
    ensureBindgen(),
    step("Compiling the Worker", () => run("cargo", ["build", "--locked", "--package", "nodetool-edge-auth", "--lib", "--target", WASM_TARGET, "--profile", "edge", "--features", "worker-export"])),
  ]);

  const wasm = built(WASM_TARGET, "edge", "nodetool_edge_auth.wasm");
  const made = createHash("sha256");
  for (const source of [wasm, bindgen, ...Object.keys(SCRIPTS).map((script) => path.join(SOURCES, script))]) made.update(readFileSync(source));
  const stamp = path.join(OUT, ".made-from");
  const hash = made.digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return OUT;

  // Made beside and moved into place, so that a running workerd never sees half of it.
  const fresh = `${OUT}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  await run(bindgen, ["--reset-state", "--strip", "gateway", fresh, wasm]);
  for (const [script, name] of Object.entries(SCRIPTS)) copyFileSync(path.join(SOURCES, script), path.join(fresh, name));
  writeFileSync(path.join(fresh, ".made-from"), hash);
  rmSync(OUT, { recursive: true, force: true });
  renameSync(fresh, OUT);

  return OUT;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildWorker();
