// The playground: one static page that runs the gateway's code in the browser. `npm run playground` builds it into
// build/playground/ and serves it on this machine; with `-- --build` it only builds it.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { buildJs } from "./build-js.mjs";
import { ROOT } from "./paths.mjs";
import { fail, say } from "./steps.mjs";

const SOURCES = path.join(ROOT, "playground");
const OUT = path.join(ROOT, "build", "playground");

const TYPES = { ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8" };

/** @param {"dev" | "edge"} profile */
export async function buildPlayground(profile) {
  const surface = await buildJs(profile, { surface: "explain" });
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  cpSync(SOURCES, OUT, { recursive: true });
  cpSync(surface, path.join(OUT, "gate"), { recursive: true, filter: (name) => !/\.(d\.ts|wasm)$/.test(name) });
  writeFileSync(path.join(OUT, "gate", "wasm.js"), asModule(readFileSync(path.join(surface, "gate_bg.wasm"))));
  return OUT;
}

/** A page that may connect to nowhere cannot fetch it, but it may import it. */
function asModule(wasm) {
  return `export default Uint8Array.from(atob("${wasm.toString("base64")}"), (sign) => sign.charCodeAt(0));\n`;
}

/**
 * Serves a folder of few files, and nothing but those, to this machine.
 * @param {string} folder
 * @param {number} port 0 for any that is free
 * @returns {Promise<import("node:http").Server>} that listens
 */
export async function serve(folder, port) {
  const server = createServer(({ method, url }, response) => {
    const name = (url ?? "").replace(/\?.*$/, "").replace(/\/$/, "/index.html");
    const type = TYPES[path.extname(name)];
    // No name begins with a dot, so none leads out of the folder.
    const isPlain = /^(\/[\w-][\w.-]*)+$/.test(name) && (method === "GET" || method === "HEAD");
    const content = type && isPlain ? read(path.join(folder, name)) : undefined;
    if (content === undefined) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": type, "cache-control": "no-store", "x-content-type-options": "nosniff" });
    response.end(method === "HEAD" ? undefined : content);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return server;
}

function read(file) {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

function asked() {
  try {
    return parseArgs({ options: { build: { type: "boolean" }, port: { type: "string", default: "8788" } } }).values;
  } catch (error) {
    fail(`${error.message}\nnpm run playground [-- --build | --port PORT]`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const values = asked();
  const folder = await buildPlayground("edge");
  if (values.build) {
    say(`It is in ${path.relative(ROOT, folder)}: static files for any server that speaks https`);
  } else {
    const server = await serve(folder, Number(values.port)).catch((error) => fail(`It cannot be served on port ${values.port}: ${error.message}. Another one: npm run playground -- --port 8789`));
    say(`The playground is on http://127.0.0.1:${server.address().port}/ (Ctrl+C ends it)`);
  }
}
