// The package as it would be published, on each runtime, and the examples that use it.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { wranglerEnvironment } from "../../tools/wrangler.mjs";
import { modulesIn, startWorkers, variables, worker } from "../http/support/workers.mjs";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const PACKAGE = path.join(ROOT, "pkg");
export const INSTALLED = path.join(ROOT, "node_modules", "nodetool-edge-auth");
export const TOKEN = "test-token-0123456789-abcdefgh";
export const STATIC = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN };

if (!existsSync(path.join(INSTALLED, "package.json"))) throw new Error("the package is not installed here: npm test -- js does that");

const ENVIRONMENT = { ...(await wranglerEnvironment()), CI: "1", NO_COLOR: "1" };

/** A folder for as long as the tests of a file take. */
export function scratch(context) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "nodetool-package-"));
  context.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** A tool of `node_modules`, to its end. */
export function tool(name, args, options = {}) {
  const command = path.join(ROOT, "node_modules", ".bin", name);
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8", env: ENVIRONMENT, shell: process.platform === "win32", ...options });
  if (status !== 0) throw new Error(`${name} ${args.join(" ")} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/**
 * A Worker in workerd, made by wrangler as for a deployment.
 * @param {string} configuration of wrangler
 * @param {{settings?: object, env?: object, outbound?: object}} options its bindings, and what answers its fetches
 */
export async function startWorker(context, configuration, { settings = {}, env, outbound } = {}) {
  const folder = scratch(context);
  tool("wrangler", ["deploy", "--config", configuration, "--dry-run", "--outdir", folder]);
  const main = readdirSync(folder).find((name) => name.endsWith(".js"));
  const { miniflare } = startWorkers([worker({ manifest: modulesIn(folder, main), env: { ...variables(settings), ...env }, outbound })]);
  context.after(() => miniflare.dispose());
  const { port, origin } = await miniflare.unsafeGetDirectURL();
  return { miniflare, port: Number(port), url: origin };
}

/** A server among the examples, which says where it listens. */
export async function startServer(context, script, settings) {
  const { PATH, SystemRoot } = process.env;
  const child = spawn(process.execPath, [path.join(ROOT, script)], { env: { PATH, SystemRoot, PORT: "0", ...settings }, stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  context.after(async () => {
    child.kill();
    await ended;
  });
  for await (const line of createInterface(child.stdout)) {
    const port = Number(/^listening on (\d+)$/.exec(line)?.[1]);
    if (port) {
      child.stdout.resume();
      return { child, port, url: `http://127.0.0.1:${port}` };
    }
  }
  throw new Error(`${script} ended before it listened`);
}

/** The binary of a runtime from npm, unless there is none for this machine. */
export function runtime(name) {
  const binary = path.join(ROOT, "node_modules", ".bin", process.platform === "win32" ? `${name}.cmd` : name);
  return spawnSync(binary, ["--version"], { shell: process.platform === "win32" }).status === 0 ? binary : undefined;
}

/** A Chromium, unless there is none. */
export function chromium() {
  const names = process.env.NODETOOL_TEST_CHROMIUM ? [process.env.NODETOOL_TEST_CHROMIUM] : ["chromium", "chromium-browser", "google-chrome", "chrome"];
  return names.find((name) => spawnSync(name, ["--version"]).status === 0);
}

/**
 * Runs a program beside the tests of a file, until they end, and all that it starts.
 * @param {() => void} cleanUp what is to be done after that
 * @returns {Promise<string>} how it ended, if it does so before
 */
export function beside(context, command, args, cleanUp = () => {}) {
  const child = spawn(command, args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], detached: process.platform !== "win32" });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (log += text));
  const exited = once(child, "exit");
  context.after(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(process.platform === "win32" ? child.pid : -child.pid, "SIGKILL");
    await exited;
    cleanUp();
  });
  return exited.then(([code]) => `${command} ended with ${code}:\n${log.slice(-2000)}`);
}

/** Shows a page in a Chromium, until the tests end. */
export function browse(context, url) {
  const profile = mkdtempSync(path.join(os.tmpdir(), "nodetool-package-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", `--user-data-dir=${profile}`];
  return beside(context, chromium(), [...flags, url], () => rmSync(profile, { recursive: true, force: true, maxRetries: 10 }));
}
