// `npm run wrangler -- ARGUMENTS`: the project's wrangler, also on a machine whose Node is older than it needs.
import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT } from "./paths.mjs";
import { ensureNode, ensureNodeModules } from "./setup.mjs";

/** The environment that `npx wrangler` runs in. Nothing is sent anywhere, and no question is asked. */
export async function wranglerEnvironment() {
  const node = await ensureNode();
  return {
    ...process.env,
    ...(node ? { PATH: `${node}${path.delimiter}${process.env.PATH}` } : {}),
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    // It would keep every request with its query, and so with its token, in .wrangler/state.
    X_LOCAL_OBSERVABILITY: "false",
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await ensureNodeModules({ all: false });
  const child = spawn("npx", ["wrangler", ...process.argv.slice(2)], { cwd: ROOT, env: await wranglerEnvironment(), stdio: "inherit", shell: process.platform === "win32" });
  child.once("exit", (code) => process.exit(code ?? 1));
}
