// `npm run package`: builds the npm package into pkg/, of what is written by hand in package/ and of the compiled core.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { buildJs } from "./build-js.mjs";
import { ROOT } from "./paths.mjs";
import { fail } from "./steps.mjs";

const SOURCE = path.join(ROOT, "package");
const OUT = path.join(ROOT, "pkg");

export async function buildPackage() {
  // Made beside and moved into place, so that nobody ever sees half of it.
  const fresh = `${OUT}.${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh);
  try {
    // No module path of its own: which file the module comes from is for the entries to say, each in its platform's way.
    const flags = ["--omit-default-module-path", "--strip"];
    await buildJs("edge", { out: path.join(fresh, "glue"), flags });
    // Beside the entries, which is where it is in a bundle too.
    const wasm = path.join(fresh, "gate.wasm");
    renameSync(path.join(fresh, "glue", "gate_bg.wasm"), wasm);
    for (const name of readdirSync(SOURCE).filter((name) => name !== "package.json")) copyFileSync(path.join(SOURCE, name), path.join(fresh, name));
    copyFileSync(path.join(ROOT, "LICENSE"), path.join(fresh, "LICENSE"));
    writeFileSync(path.join(fresh, "inline.js"), inline(readFileSync(wasm)));
    const manifest = JSON.parse(readFileSync(path.join(SOURCE, "package.json"), "utf8"));
    writeFileSync(path.join(fresh, "package.json"), `${JSON.stringify({ ...manifest, version: version() }, null, 2)}\n`);
    rmSync(OUT, { recursive: true, force: true });
    renameSync(fresh, OUT);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return OUT;
}

/** Puts what would be published to where programs of this folder find it by its name: tests and examples. */
export function installPackage() {
  const listed = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: OUT, encoding: "utf8", shell: process.platform === "win32" });
  if (listed.status !== 0) fail(`npm pack failed in pkg/:\n${listed.stderr}`);
  const installed = path.join(ROOT, "node_modules", "nodetool-edge-auth");
  rmSync(installed, { recursive: true, force: true });
  const [{ files }] = Object.values(JSON.parse(listed.stdout));
  for (const { path: name } of files) cpSync(path.join(OUT, name), path.join(installed, name), { recursive: true });
}

/** The module within the script, for whoever can neither fetch nor read a file beside it, nor wait at the top level. */
const inline = (bytes) => `// The compiled core within the script: for bundles without other files, and for service workers.
import { load } from "./gate.js";

const BASE64 =
  "${bytes.toString("base64")}";

export const { Gate, cacheStore, generateToken, maskToken } = load(Uint8Array.from(atob(BASE64), (letter) => letter.charCodeAt(0)));
`;

function version() {
  const [, found] = /^\[workspace\.package\]\nversion = "([^"]+)"$/m.exec(readFileSync(path.join(ROOT, "Cargo.toml"), "utf8")) ?? fail("Cargo.toml tells no version");
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPackage();
