// Where the project is, and where what it builds goes.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

let target;
/** A file in the folder that Cargo builds in: `CARGO_TARGET_DIR`, or what Cargo's configuration names, else `target`. */
export function built(...names) {
  if (target === undefined) {
    const { status, error, stdout, stderr } = spawnSync("cargo", ["metadata", "--no-deps", "--offline", "--format-version", "1"], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28, shell: process.platform === "win32" });
    if (status !== 0) throw new Error(`\`cargo metadata\` failed: ${error?.message ?? stderr}`);
    target = JSON.parse(stdout).target_directory;
  }
  return path.join(target, ...names);
}

// `node tools/paths.mjs` tells shell scripts which folder that is.
if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(built());
