// The steps of a script: what is being done, how long it took, and what a command printed, but only if it fails.
import { AsyncLocalStorage } from "node:async_hooks";
import { spawn } from "node:child_process";

import { ROOT } from "./paths.mjs";

/** Whether the output of commands is shown as it comes: `--verbose`, here or in the script that started this one. */
export const isVerbose = process.argv.includes("--verbose") || process.env.NODETOOL_VERBOSE === "1";

/** Milliseconds within which a step that ends is not worth a line. */
const SILENCE = 500;
/** Milliseconds between two lines about a step that goes on, where no terminal shows its progress. */
const REMINDER = 60_000;

const isTerminal = Boolean(process.stdout.isTTY) && !isVerbose;
const current = new AsyncLocalStorage();
const running = new Set();
const finished = [];
const children = new Set();

/**
 * Runs an action and says so.
 * @template T
 * @param {string} title
 * @param {() => T | Promise<T>} action
 * @returns {Promise<T>}
 */
export async function step(title, action) {
  const state = { title, began: Date.now(), progress: "", isAnnounced: false };
  const timers = [setTimeout(() => announce(state), isVerbose ? 0 : SILENCE)];
  timers.push(isTerminal ? setInterval(draw, 250) : setInterval(() => remind(state), REMINDER));
  running.add(state);
  try {
    return await current.run(state, action);
  } finally {
    timers.forEach(clearInterval);
    running.delete(state);
    finished.push({ title, milliseconds: Date.now() - state.began });
    if (state.isAnnounced) say(`    ${title}: ${duration(Date.now() - state.began)}`);
  }
}

/** A line of its own, above what shows the progress. */
export function say(text) {
  if (isTerminal) process.stdout.write("\r\x1b[K");
  console.log(text);
}

/** A line that begins a part of the work. */
export const heading = (text) => say(`\x1b[1m==> ${text}\x1b[0m (${new Date().toTimeString().slice(0, 8)})`);

/** What the current step is at. */
export function progress(text) {
  const state = current.getStore();
  if (state) state.progress = text;
}

/** How long each step took that took longer than a second, the longest first. */
export function summary() {
  const long = finished.filter(({ milliseconds }) => milliseconds > 1000).sort((one, other) => other.milliseconds - one.milliseconds);
  return long.map(({ title, milliseconds }) => `  ${duration(milliseconds).padStart(9)}  ${title}`).join("\n");
}

/** "12 s", "3 min 5 s". */
export function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 60 ? `${(milliseconds / 1000).toFixed(seconds < 10 ? 1 : 0)} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function announce(state) {
  state.isAnnounced = true;
  heading(state.title);
}

function remind({ title, began, progress }) {
  say(`    ${title}: ${duration(Date.now() - began)} so far${progress && `, at ${progress}`}`);
}

function draw() {
  const [{ began, progress } = {}] = running;
  if (began === undefined || Date.now() - began < SILENCE) return;
  const line = `    ${duration(Date.now() - began)}  ${progress}`;
  process.stdout.write(`\r\x1b[K${line.slice(0, (process.stdout.columns ?? 80) - 1)}`);
}

/** Remedies for programs that are not there. */
const REMEDIES = {
  cargo: "Install Rust from https://rustup.rs, then open a new terminal.",
  rustup: "Install Rust from https://rustup.rs, then open a new terminal.",
  npm: "npm comes with Node: https://nodejs.org.",
};

/** Ends the script, and what it has started. */
export function fail(message) {
  for (const child of children) child.kill();
  if (isTerminal) process.stdout.write("\r\x1b[K");
  console.error(message);
  process.exit(1);
}

/** How a program that cannot be started is to be installed. */
export const remedy = (program, { code }) => `${program} cannot be run (${code}). ${REMEDIES[program] ?? ""}`;

/**
 * Runs a command in the project's folder. Its output is shown if it fails, which ends the script, or if `--verbose` was asked for.
 * @param {string} program
 * @param {string[]} args
 * @param {import("node:child_process").SpawnOptions} options
 * @returns {Promise<string>} what it wrote to standard output, unless that was shown
 */
export async function run(program, args, options = {}) {
  const child = spawn(program, args, { cwd: ROOT, stdio: isVerbose ? "inherit" : ["ignore", "pipe", "pipe"], shell: process.platform === "win32", ...options });
  children.add(child);
  let [output, stdout] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text) => (stdout += text));
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text) => {
      output += text;
      progress(text.trimEnd().split("\n").at(-1).trim());
    });
  }
  const { error, status } = await new Promise((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("close", (code, signal) => resolve({ status: signal ?? code }));
  });
  children.delete(child);
  if (error) fail(remedy(program, error));
  if (status !== 0) fail(`${output}\n${program} ${args.join(" ")}\nfailed with ${typeof status === "string" ? status : `status ${status}`}`);
  return stdout;
}
