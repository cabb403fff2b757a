// Shows what users download, and fails when the Worker outgrows its limit.
import { readFileSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";

import { ROOT, built } from "./paths.mjs";
import { fail } from "./steps.mjs";

/** The smaller the Worker, the sooner a cold isolate answers. */
const WORKER_LIMIT_KB = 210;

const folder = path.join(ROOT, "build", "worker");
const files = readdirSync(folder, { recursive: true }).filter((name) => /\.(js|wasm)$/.test(name));
const worker = files.reduce((sum, name) => sum + gzipSync(readFileSync(path.join(folder, name))).length, 0) / 1024;
const native = statSync(built("release", process.platform === "win32" ? "nodetool-auth.exe" : "nodetool-auth")).size / 1024;

console.log(`Worker, gzip:   ${worker.toFixed(0)} KB (limit ${WORKER_LIMIT_KB} KB)`);
const module = gzipSync(readFileSync(path.join(ROOT, "pkg", "gate.wasm"))).length / 1024;
console.log(`Package, gzip:  ${module.toFixed(0)} KB (its module)`);
console.log(`Native binary:  ${native.toFixed(0)} KB`);
if (worker > WORKER_LIMIT_KB) fail(`The Worker is larger than ${WORKER_LIMIT_KB} KB.`);
