// A Worker in workerd by itself, alone in its process. Miniflare starts Workers of its own beside it, and for each of them V8 drops
// what it had compiled for those before.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import workerd from "workerd";

import { ROOT } from "./paths.mjs";

const wranglerToml = readFileSync(path.join(ROOT, "wrangler.toml"), "utf8");
/** The compatibility date and flags of wrangler.toml. */
export const COMPATIBILITY = {
  compatibilityDate: /^compatibility_date\s*=\s*"([^"]+)"/m.exec(wranglerToml)[1],
  compatibilityFlags: [...(/^compatibility_flags\s*=\s*\[([^\]]*)\]/m.exec(wranglerToml)?.[1] ?? "").matchAll(/"([^"]+)"/g)].map(([, flag]) => flag),
};

const KINDS = { ".js": "esModule", ".wasm": "wasm" };

/**
 * @param {{folder: string, bindings?: Record<string, string>, v8Flags?: string[]}} options `folder`: its modules,
 * of which `index.js` is the first
 */
export async function startWorkerd({ folder, bindings = {}, v8Flags = [] }) {
  const home = mkdtempSync(path.join(tmpdir(), "workerd-"));
  const text = JSON.stringify;
  const files = readdirSync(folder, { recursive: true }).filter((file) => path.extname(file) in KINDS);
  files.sort((one, other) => (other === "index.js") - (one === "index.js"));
  const modules = files.map((file) => `(name = ${text(file.replaceAll(path.sep, "/"))}, ${KINDS[path.extname(file)]} = embed ${text(path.relative(home, path.join(folder, file)))})`);
  const config = path.join(home, "config.capnp");
  writeFileSync(
    config,
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "internet", network = (allow = ["local", "private", "public"]))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
  v8Flags = [${v8Flags.map(text).join(", ")}],
);
const main :Workerd.Worker = (
  modules = [${modules.join(", ")}],
  compatibilityDate = ${text(COMPATIBILITY.compatibilityDate)},
  compatibilityFlags = [${COMPATIBILITY.compatibilityFlags.map(text).join(", ")}],
  bindings = [${Object.entries(bindings).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`).join(", ")}],
);
`,
  );
  // CommonJS: what it exports by default is a property to modules.
  const child = spawn(workerd.default, ["serve", config, "--control-fd=3"], { stdio: ["ignore", "pipe", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const port = await new Promise((resolve, reject) => {
    let said = "";
    child.stdio[3].setEncoding("utf8").on("data", (text) => {
      said += text;
      const found = /"event":"listen".*"port":(\d+)/.exec(said);
      if (found) resolve(Number(found[1]));
    });
    child.once("error", reject);
    ended.then(() => reject(new Error(`workerd ended: ${output}`)));
  });
  return {
    port,
    pid: child.pid,
    /** Ends it, and gives back all that it has printed. */
    async stop() {
      child.kill();
      await ended;
      rmSync(home, { recursive: true, force: true });
      return output;
    },
  };
}
