// A real nginx in front of a host.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { temporaryFolder, writeFile } from "./hosts.mjs";
import { deadPort } from "./upstream.mjs";

/** Where system administrators' programs are is not on everybody's path. */
const env = { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };

/** Why not, or false. Since 1.29.7 nginx speaks HTTP/1.1 to its upstreams, and then looks like a program on this machine. */
export function whyNotNginx() {
  const { error, stderr } = spawnSync("nginx", ["-v"], { encoding: "utf8", env });
  if (error) return "nginx is not installed";
  const [major, minor, patch] = /(\d+)\.(\d+)\.(\d+)/.exec(stderr).slice(1).map(Number);
  return (major - 1 || minor - 29 || patch - 7) >= 0 && "this nginx does not speak HTTP/1.0 by default";
}

/** Why there is no nginx at all, or false. */
export function whyNoNginx() {
  return spawnSync("nginx", ["-v"], { env }).error !== undefined && "nginx is not installed";
}

/** Runs nginx with nothing set but where to pass requests on to, for as long as `body` takes, which is told its port. */
export async function withNginx(url, body) {
  const port = await deadPort();
  return runNginx(`server { listen 127.0.0.1:${port}; location / { proxy_pass ${url}; } }`, port, body);
}

/** Runs nginx with this in its `http` block, for as long as `body` takes. */
export async function runNginx(http, port, body) {
  const folder = temporaryFolder();
  // It makes folders for all of these, and must not do so where an installed one keeps its own.
  const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${kind};`).join(" ");
  const config = `daemon off; master_process off; pid nginx.pid; error_log stderr; events {}
    http { access_log off; ${folders}
    ${http} }`;
  const file = writeFile(path.join(folder, "nginx.conf"), config);
  try {
    return await runProgram(["nginx", "-p", folder, "-e", "stderr", "-c", file], port, body);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a program that is to listen at this port, for as long as `body` takes. */
export async function runProgram([program, ...args], port, body, extra = {}) {
  const child = spawn(program, args, { env: { ...env, ...extra }, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (log += text));
  const ended = once(child, "close");
  try {
    await listening(port, () => {
      if (child.exitCode !== null) throw new Error(`${path.basename(program)} ended:\n${log}`);
    });
    return await body(port);
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** Starts what `run` runs for as long as the body takes that it is given. @returns a function that stops it */
export async function started(run) {
  let end, ended;
  const over = new Promise((resolve) => (end = resolve));
  await new Promise((resolve, reject) => {
    ended = run(() => (resolve(), over));
    ended.catch(reject);
  });
  return () => (end(), ended);
}

async function listening(port, assertRuns) {
  for (const deadline = Date.now() + 10_000; ; await sleep(50)) {
    assertRuns();
    const socket = net.connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    } finally {
      socket.destroy();
    }
  }
}
