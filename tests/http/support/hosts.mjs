// Starts and stops the two hosts of the gateway, with one interface for both.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { ROOT, built } from "../../../tools/paths.mjs";
import { secret, secretsOfFile, secretsOfSettings, secretsOfText, transcript } from "./transcripts.mjs";
import { modulesIn, namespace, startWorkers, variables, worker } from "./workers.mjs";

export { ROOT };
export const NATIVE_BINARY = path.resolve(ROOT, process.env.NODETOOL_AUTH_BIN ?? built("release", "nodetool-auth"));
export const WORKER = path.join(ROOT, "build/worker");
export const HOSTS = ["native", "edge"];

export const TOKEN = "test-token-0123456789-abcdefgh";
export const AUTHORIZATION = ["Authorization", `Bearer ${TOKEN}`];
export const STATIC = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN };
secret("the token of the tests", TOKEN);

for (const [what, where] of [["the native host", NATIVE_BINARY], ["the Worker", path.join(WORKER, "index.js")]]) {
  if (!existsSync(where)) throw new Error(`${what} has not been built: ${path.relative(ROOT, where)} is missing`);
}

/**
 * @param {"native" | "edge"} name
 * @param {{settings?: Record<string, string>, store?: string | null}} options `store`: the raw value in KV, edge only
 * @returns {Promise<Running>}
 * @typedef {{name: string, port: number, url: string, log(): string, stop(): Promise<void>}} Running
 */
export function startHost(name, options = {}) {
  return name === "native" ? startNative(options) : startEdge(options);
}

/** Runs a host for as long as `body` takes. */
export async function withHost(name, options, body) {
  const host = await startHost(name, options);
  try {
    return await body(host);
  } finally {
    await host.stop();
  }
}

/** Those that a test which ran out of time has left behind end with its file. */
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** All that a process prints, here and in the transcripts. */
export function gatherOutput(child, host, kind = "stdout") {
  children.add(child);
  child.once("close", () => children.delete(child));
  const output = { stdout: "", stderr: "" };
  for (const [stream, write] of [["stdout", transcript(host, kind)], ["stderr", transcript(host, "stderr")]]) {
    child[stream].setEncoding("utf8").on("data", (text) => {
      output[stream] += text;
      write(text);
    });
  }
  return output;
}

/** Runs the binary to its end, or until it listens. `wrap` makes another command of its own: who runs it, and how. */
export function spawnNative({ settings = {}, home = temporaryFolder(), args = ["serve"], umask, wrap = (command) => command } = {}) {
  // Nothing of this process's environment may decide how the gateway behaves.
  const env = { PATH: process.env.PATH, HOME: home, NODETOOL_CONFIG_PATH: path.join(home, "nodetool", "deployment.yaml"), ...settings };
  const command = umask === undefined ? [NATIVE_BINARY, ...args] : ["/bin/sh", "-c", `umask ${umask}; exec "$0" "$@"`, NATIVE_BINARY, ...args];
  const [program, ...rest] = wrap(command);
  secretsOfSettings(settings);
  const child = spawn(program, rest, { env, cwd: home, stdio: ["ignore", "pipe", "pipe"] });
  const reveals = args.includes("generate") || args.includes("--reveal");
  const output = gatherOutput(child, "native", reveals ? "revealed" : "stdout");
  const exited = once(child, "close").then(([code, signal]) => {
    secretsOfFile(env.NODETOOL_CONFIG_PATH);
    return { code, signal, ...output };
  });
  const listening = new Promise((resolve, reject) => {
    child.stderr.on("data", () => {
      const found = /listening on https?:\/\/127\.0\.0\.1:(\d+)/.exec(output.stderr);
      if (!found) return;
      // What it generated, if a test changes the file before it ends.
      secretsOfFile(env.NODETOOL_CONFIG_PATH);
      resolve(Number(found[1]));
    });
    exited.then(({ code, signal, stderr }) => reject(new Error(`the native host ended (${code ?? signal}):\n${stderr}`)));
  });
  // Whoever waits for the end only is not to be killed by it.
  listening.catch(() => {});
  return { child, home, config: env.NODETOOL_CONFIG_PATH, output, exited, listening };
}

export async function startNative({ settings, ...options } = {}) {
  const running = spawnNative({ settings: { AUTH_LISTEN: "127.0.0.1:0", ...settings }, ...options });
  const port = await running.listening;
  return {
    ...running,
    name: "native",
    port,
    url: `${settings?.AUTH_TLS_CERT ? "https" : "http"}://127.0.0.1:${port}`,
    pid: running.child.pid,
    log: () => running.output.stderr,
    async stop(signal = "SIGKILL") {
      running.child.kill(signal);
      const ended = await running.exited;
      if (!options.home) rmSync(running.home, { recursive: true, force: true });
      return ended;
    },
  };
}

/** The modules of the Worker. */
export const GATEWAY = modulesIn(WORKER);

/**
 * @param {{settings?: object, env?: object, manifest?: object, others?: object[], outbound?: object, persist?: string, store?: string | null}} options
 * `env`: further bindings than the settings; `manifest`: the modules of another Worker than this project's own; `others`: further
 * Workers, for bindings to name
 */
export async function startEdge({ settings = {}, env, manifest = GATEWAY, others = [], outbound, persist, store } = {}) {
  secretsOfSettings(settings);
  // JSON is never a token, and holds hashes of some at most.
  if (store != null && !/^\s*[{["]/.test(store)) secret("the token in KV", store);
  const gateway = worker({ manifest, env: { ...variables(settings), AUTH_KV: namespace(), ...env }, outbound });
  const { miniflare, log } = startWorkers([gateway, ...others], { persist });
  const url = await miniflare.unsafeGetDirectURL();
  if (store != null) await (await miniflare.getKVNamespace("AUTH_KV")).put("worker_auth_token", store);
  return {
    name: "edge",
    port: Number(url.port),
    url: url.origin,
    log,
    kv: () => miniflare.getKVNamespace("AUTH_KV"),
    caches: () => miniflare.getCaches(),
    secrets: async () => (await miniflare.getSecretsStoreSecretAPI("WORKER_AUTH_TOKEN"))(),
    stop: () => miniflare.dispose(),
  };
}

export function temporaryFolder() {
  return mkdtempSync(path.join(os.tmpdir(), "nodetool-auth-test-"));
}

/**
 * A home folder for as long as `body` takes, which is told it and the deployment file in it.
 * @param {string | null | undefined} text what the file says; `null`: only its folder is there; `undefined`: nothing is
 */
export async function withHome(text, body, mode = 0o600) {
  const home = temporaryFolder();
  const file = path.join(home, "nodetool", "deployment.yaml");
  if (text !== undefined) mkdirSync(path.dirname(file), { mode: 0o700 });
  if (text != null) chmodSync(writeFile(file, text), mode);
  try {
    return await body(home, file);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

export function writeFile(file, text, mode = 0o600) {
  secretsOfText(text);
  writeFileSync(file, text, { mode });
  return file;
}
