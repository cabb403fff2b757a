// Processes on their cores: started, waited for, counted, stopped.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { availableParallelism, cpus, release, tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const GATEWAY_CORE = 0;
export const OTHER_CORE = 1;

let folder;
const running = new Set();
const pins = works("taskset", "--version") && availableParallelism() > 1;

/** This process is one of the others, too, and so is what it starts, unless it is a gateway. */
export function stayAside() {
  if (pins) spawnSync("taskset", ["-apc", String(OTHER_CORE), String(process.pid)], { stdio: "ignore" });
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopAll(), process.exit(1)));
}

export function works(command, ...args) {
  return spawnSync(command, args, { stdio: "ignore" }).error === undefined;
}

export function on(core, command) {
  return pins ? ["taskset", "-c", String(core), ...command] : command;
}

export function write(name, text) {
  folder ??= mkdtempSync(path.join(tmpdir(), "gateways-"));
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** Starts a server that listens on `port`. What it says of an error is kept for whoever has to find it. */
export async function start(core, { command, env = {} }, port) {
  const [program, ...args] = on(core, command);
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env } });
  running.add(child);
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (complaints = (complaints + text).slice(-4000)));
  child.on("error", (error) => (complaints += error.message));
  for (const end = Date.now() + 20_000; Date.now() < end && child.exitCode === null; ) {
    if (await accepts(port)) return child;
    await sleep(1);
  }
  throw new Error(`${command[0]} does not listen on ${port}: ${complaints}`);
}

/** By a signal that lets nginx end its worker, too. */
export async function stop(child) {
  running.delete(child);
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), 5000);
  await ended;
  clearTimeout(late);
}

export function stopAll() {
  for (const child of running) child.kill("SIGTERM");
  if (folder) rmSync(folder, { recursive: true, force: true });
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => resolve(true));
    socket.on("error", () => resolve(false)).on("connect", () => socket.destroy());
  });
}

/** A process and its children, of whom nginx and uvicorn have some. */
export function family(child) {
  const { stdout } = spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" });
  return [String(child.pid), ...stdout.split("\n").filter(Boolean)];
}

/** Processor time so far, in microseconds: exact where the kernel keeps it for each thread, else in its ticks of 10 ms. */
export function processorTime(pids) {
  return pids.reduce((sum, pid) => sum + (exactTime(pid) ?? tickedTime(pid)), 0);
}

function exactTime(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1000, 0);
  } catch {
    return undefined;
  }
}

function tickedTime(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Resident memory in KB, now or at its highest. What processes share is counted for each. */
export function memory(pids, { peak = false } = {}) {
  const field = peak ? /VmHWM:\s+(\d+)/ : /VmRSS:\s+(\d+)/;
  return pids.reduce((sum, pid) => sum + Number(field.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]), 0);
}

export function describe() {
  return { processor: cpus()[0].model, cores: cpus().length, kernel: release(), pinned: pins, date: new Date().toISOString().slice(0, 10) };
}
