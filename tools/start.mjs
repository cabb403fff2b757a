// `npm start`: sets up what is missing and runs the Worker in `wrangler dev`, for trying out. `--verbose` shows what compilers print;
// other arguments go to wrangler.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";

import { ROOT, ensureNodeModules, isVerbose, step } from "./setup.mjs";

const PORT = "8787";
ensureNodeModules({ all: false });

const own = process.argv.slice(2).filter((argument) => argument !== "--verbose");
const args = ["wrangler", "dev", ...(own.includes("--port") ? [] : ["--port", PORT]), ...own];
// Without settings of your own: a static token, generated into the local KV and shown.
if (!existsSync(path.join(ROOT, ".dev.vars"))) args.push("--var", "ENV:development", "--var", "AUTH_PROVIDER:static");

step("Starting the Worker in wrangler dev (it is built first; the first time takes some minutes)");
const wrangler = spawn("npx", args, { cwd: ROOT, stdio: ["inherit", "pipe", "inherit"], shell: process.platform === "win32", env: quiet() });
wrangler.stdout.pipe(process.stdout);
wrangler.stdout.setEncoding("utf8");
let output = "";
wrangler.stdout.on("data", async function ready(text) {
  output += text;
  const url = /Ready on (http:\/\/\S+)/.exec(output)?.[1];
  if (!url) return;
  wrangler.stdout.off("data", ready);
  // The first request that needs a token is what makes one.
  await fetch(new URL("/.auth/whoami", url)).catch(() => {});
  step(`Try it:  curl -i ${url}/health   and   curl -i -H "Authorization: Bearer TOKEN" ${url}/v1/models`);
  console.log("The token is shown where it was just made. Later: npx wrangler kv key get --local --binding AUTH_KV worker_auth_token");
});
wrangler.on("exit", (code) => process.exit(code ?? 1));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => wrangler.kill(signal));

/** Nothing is sent anywhere, and no question is asked. */
function quiet() {
  return { ...process.env, ...(isVerbose() ? { NODETOOL_VERBOSE: "1" } : {}), WRANGLER_SEND_METRICS: "false", WRANGLER_SEND_ERROR_REPORTS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false" };
}
