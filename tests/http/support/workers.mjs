// Workers in real workerd, run by Miniflare.
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { Log, LogLevel, Miniflare } from "miniflare";

import { COMPATIBILITY } from "../../../tools/workerd.mjs";
import { transcript } from "./transcripts.mjs";

const MODULE_TYPES = { ".js": "esm", ".wasm": "wasm" };

/** The modules below a folder. */
export function modulesIn(folder, mainModule = "index.js") {
  const files = readdirSync(folder, { recursive: true }).filter((file) => path.extname(file) in MODULE_TYPES);
  const modules = files.map((file) => {
    const type = MODULE_TYPES[path.extname(file)];
    return [file.replaceAll(path.sep, "/"), { type, contents: readFileSync(path.join(folder, file), type === "esm" ? "utf8" : undefined) }];
  });
  return { mainModule, modules: Object.fromEntries(modules) };
}

/** Modules of JavaScript by their names, of which the first is the main one. */
export function modulesOf(sources) {
  const modules = Object.entries(sources).map(([name, contents]) => [name, { type: "esm", contents }]);
  return { mainModule: modules[0][0], modules: Object.fromEntries(modules) };
}

/**
 * These modules with another main module, which gets `gateway`, the default export of the former one, and exports what replaces it.
 * @param {string} source JavaScript
 */
export const behind = (source, { mainModule, modules }) => ({
  mainModule: "behind.js",
  modules: { ...modules, "behind.js": { type: "esm", contents: `import gateway from "./${mainModule}";\nexport * from "./${mainModule}";\n${source}` } },
});

/** Settings as bindings: variables of wrangler.toml, texts or JSON. */
export function variables(settings) {
  const binding = (value) => (typeof value === "string" ? { type: "text", value } : { type: "json", value });
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, binding(value)]));
}

/** The binding of a KV namespace. */
export const namespace = (id = "auth") => ({ type: "kv", id });

/** The binding of a service that a function of this process plays. */
export const service = (handler) => ({ type: "fetcher", handler });

/**
 * A Worker, as Miniflare takes it. Clients connect to it directly: Miniflare would put a Worker of its own in front, which rewrites URLs.
 * @param {{name?: string, manifest: object, env?: object, exports?: object, outbound?: object}} options `manifest`: its modules; `env`: its
 * bindings, without those that are `undefined`; `outbound`: the binding that answers its fetches, in place of the network
 */
export const worker = ({ name = "gateway", manifest, env = {}, exports, outbound }) => ({
  config: { name, ...COMPATIBILITY, manifest, env: Object.fromEntries(Object.entries(env).filter(([, binding]) => binding)), exports },
  dev: { unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }], ...(outbound ? { outboundService: outbound } : {}) },
});

/**
 * Runs Workers. What they print is in `log()` and in the transcripts.
 * @param {{persist?: string}} options `persist`: the folder that KV and the cache are kept in, in place of memory
 */
export function startWorkers(workers, { persist } = {}) {
  let log = "";
  const write = transcript("edge", "console");
  const miniflare = new Miniflare({
    workers,
    host: "127.0.0.1",
    port: 0,
    cf: false,
    log: new Log(LogLevel.NONE),
    logRequests: false,
    enableDevRegistry: false,
    resourcePersistencePath: persist,
    handleStructuredLogs({ message }) {
      log += `${message}\n`;
      write(`${message}\n`);
    },
  });
  return { miniflare, log: () => log };
}
