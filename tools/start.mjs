// `npm start`: sets up what is missing and runs the Worker in `wrangler dev`, for trying out. `npm start -- --help` says more.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

import { buildWorker } from "./build-worker.mjs";
import { ROOT } from "./paths.mjs";
import { ensureNodeModules } from "./setup.mjs";
import { fail, isVerbose, say, step } from "./steps.mjs";
import { wranglerEnvironment } from "./wrangler.mjs";

const HELP = `npm start [-- [--verbose] [ARGUMENTS OF WRANGLER]]

Sets up what is missing, builds the Worker and runs it in \`wrangler dev\` on http://127.0.0.1:8787. Settings are lines of .dev.vars, a
NAME=value each; without that file it has a static token of its own, made once and kept in the local KV.

  --port N     another port
  --verbose    shows what compilers and wrangler print
  --help       this`;

const asked = process.argv.slice(2).filter((argument) => argument !== "--verbose");
if (asked.includes("--help")) {
  console.log(HELP);
  process.exit(0);
}

await ensureNodeModules({ all: false });
const env = { ...(await wranglerEnvironment()), ...(isVerbose ? { NODETOOL_VERBOSE: "1" } : {}) };
await buildWorker();

const hasSettings = existsSync(path.join(ROOT, ".dev.vars"));
const options = [...(asked.includes("--port") ? [] : ["--port", "8787"]), ...asked];
if (!hasSettings) options.push("--var", "ENV:development", "--var", "AUTH_PROVIDER:static");
options.push("--show-interactive-dev-session=false");

const wrangler = spawn("npx", ["wrangler", "dev", ...options], { cwd: ROOT, stdio: ["inherit", "pipe", "pipe"], shell: process.platform === "win32", env });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => wrangler.kill(signal));

let output = "";
let isReady = false;
const exited = new Promise((resolve) => wrangler.once("exit", (code) => resolve(code ?? 1)));
/** Waits until wrangler or the Worker has printed this. */
const printed = (pattern) =>
  new Promise((resolve) => {
    const look = () => {
      const found = pattern.exec(output);
      if (found) resolve(found);
      else setTimeout(look, 20);
    };
    look();
  });

for (const stream of [wrangler.stdout, wrangler.stderr]) {
  createInterface(stream).on("line", (line) => {
    output += `${line}\n`;
    // wrangler's own lines are about its server and about requests, of which the gateway's log says what matters.
    if (isVerbose || (isReady && !/^(\[wrangler:info\]|⎔)/.test(line))) console.log(line);
  });
}
exited.then((code) => {
  if (!isReady && code !== 0) fail(`${output}\nwrangler ended with status ${code}`);
  process.exit(code);
});

const [url, kept] = await step("Starting the Worker in wrangler dev", async () => Promise.all([printed(/Ready on (http:\/\/\S+)/).then(([, url]) => url), hasSettings ? undefined : keptToken()]));
const token = hasSettings ? undefined : (kept ?? (await generatedToken()));
isReady = true;
if (token) say(`\nThe gateway runs. Ctrl+C ends it. Try it:\n\n  curl -i -H "Authorization: Bearer ${token}" ${url}/v1/models\n`);
else say(`\nThe gateway runs with the settings of .dev.vars. Ctrl+C ends it. Try it:\n\n  curl -i ${url}/health\n`);

/** The token that an earlier start has left in the local KV. */
async function keptToken() {
  const { Log, LogLevel, Miniflare } = await import("miniflare");
  const at = asked.indexOf("--persist-to");
  const manifest = { mainModule: "index.js", modules: { "index.js": { type: "esm", contents: "export default {};" } } };
  const config = { name: "reader", compatibilityDate: "2026-01-01", manifest, env: { AUTH_KV: { type: "kv", id: "AUTH_KV" } } };
  const miniflare = new Miniflare({
    workers: [{ config }],
    cf: false,
    log: new Log(LogLevel.NONE),
    enableDevRegistry: false,
    resourcePersistencePath: path.resolve(ROOT, at === -1 ? ".wrangler/state" : asked[at + 1], "v3"),
  });
  try {
    return (await (await miniflare.getKVNamespace("AUTH_KV")).get("worker_auth_token")) ?? undefined;
  } finally {
    await miniflare.dispose();
  }
}

/** The token that the first request that needs one makes. */
async function generatedToken() {
  await fetch(`${url}/.auth/whoami`);
  const [, token] = await printed(/Authorization: Bearer (\S+)/);
  return token;
}
