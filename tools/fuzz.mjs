// `npm run fuzz`: looks for inputs that the core's parsers get wrong. `npm run fuzz -- --help` says more.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import path from "node:path";

import { ROOT, built } from "./paths.mjs";
import { fail, heading, remedy, run, say, step } from "./steps.mjs";

/**
 * The targets, with options of their own. The time that a path takes grows with the square of its length; a connection goes
 * through sockets, a few thousand a second at best.
 */
const TARGETS = { token: [], jwks: [], settings: [], path: ["-max_len=128"], headers: ["-max_len=512"], proxy: ["-max_len=2048", "-len_control=0"] };
const NAMES = Object.keys(TARGETS);
const CARGO_FUZZ = "0.13.1";
const TOOLS = built("ci");
/** What libFuzzer builds and finds. */
const FUZZ = built("fuzz");

const HELP = `npm run fuzz [-- [TARGET...] [--seconds N] [--seed N] [--merge | --minimise FILE]]

Runs libFuzzer on every target, or on those named: ${NAMES.join(", ")}.

  --seconds N   for how long each [default: 60]
  --seed N      what decides where chance does [default: one that libFuzzer shows]
  --merge       instead, keeps what was found before: adds to fuzz/corpus those inputs that reach more of the code
  --minimise F  instead, looks for a shorter input than the file F with which one target fails
  --help        this

What a run finds on its way gathers in ${path.join(path.relative(ROOT, FUZZ), "corpus")}; the committed corpus is only read.`;

/** Cargo's own profile would strip the names from a finding, and link for minutes. */
const ENV = {
  ...process.env,
  PATH: `${path.join(TOOLS, "bin")}${path.delimiter}${process.env.PATH}`,
  CARGO_PROFILE_RELEASE_DEBUG: "line-tables-only",
  CARGO_PROFILE_RELEASE_LTO: "off",
  CARGO_PROFILE_RELEASE_STRIP: "none",
};

/** Without a sanitizer it needs no nightly compiler, and the code is safe Rust: what can go wrong is a panic. */
const FLAGS = ["--sanitizer", "none", "--features", "libfuzzer", "--target-dir", FUZZ];

async function ensureCargoFuzz() {
  const compiler = process.env.CXX ?? "c++";
  if (process.platform !== "win32" && spawnSync(compiler, ["--version"]).error) {
    fail(`libFuzzer is C++, and ${compiler} cannot be run. Install a C++ compiler (Debian: apt-get install g++; macOS: xcode-select --install), or name one in CXX.`);
  }
  const binary = path.join(TOOLS, "bin", process.platform === "win32" ? "cargo-fuzz.exe" : "cargo-fuzz");
  const probe = spawnSync(binary, ["--version"], { encoding: "utf8" });
  if (probe.stdout?.trim() === `cargo-fuzz ${CARGO_FUZZ}`) return;
  await step("Building cargo-fuzz (once)", () => run("cargo", ["install", "--quiet", "--locked", "--debug", "--force", "--root", TOOLS, "--version", CARGO_FUZZ, "cargo-fuzz"]));
}

/** One run of libFuzzer on these corpora, of which it writes to the first; its status. */
function libFuzzer(target, corpora, args) {
  const all = ["fuzz", "run", ...FLAGS, target, ...corpora, "--", ...args];
  const result = spawnSync("cargo", all, { cwd: ROOT, env: ENV, stdio: "inherit" });
  if (result.error) fail(remedy("cargo", result.error));
  return result.status;
}

function inputsIn(folder) {
  return existsSync(path.join(ROOT, folder)) ? readdirSync(path.join(ROOT, folder)) : [];
}

const asked = process.argv.slice(2);
if (asked.includes("--help")) {
  console.log(HELP);
  process.exit(0);
}
let seconds = 60;
let seed = 0;
let merges = false;
let input;
const named = [];
while (asked.length > 0) {
  const word = asked.shift();
  if (word === "--merge") merges = true;
  else if (word === "--seconds") seconds = Number(asked.shift());
  else if (word === "--seed") seed = Number(asked.shift());
  else if (word === "--minimise") input = asked.shift();
  else if (NAMES.includes(word)) named.push(word);
  else fail(`There is no target or option ${word}.\n\n${HELP}`);
}
if (!Number.isInteger(seconds) || seconds < 1) fail("--seconds takes a whole number of at least 1.");
if (!Number.isInteger(seed) || seed < 0) fail("--seed takes a whole number.");
if (input !== undefined && named.length !== 1) fail("--minimise takes one target and its file.");

await ensureCargoFuzz();
await step("Compiling the targets", () => run("cargo", ["fuzz", "build", ...FLAGS], { env: ENV }));
if (input !== undefined) {
  await step(`Minimising ${input}`, () => run("cargo", ["fuzz", "tmin", ...FLAGS, ...named, input], { env: ENV }));
  process.exit(0);
}

const findings = [];
for (const target of named.length > 0 ? named : NAMES) {
  const [found, kept, artifacts] = [path.join(FUZZ, "corpus", target), `fuzz/corpus/${target}`, `fuzz/artifacts/${target}`];
  mkdirSync(found, { recursive: true });
  if (merges) {
    heading(`Merging what was found of ${target}`);
    // Without counters: an input that only goes round a loop more often is not worth keeping.
    const status = libFuzzer(target, [kept, found], ["-set_cover_merge=1", "-use_counters=0"]);
    if (status !== 0) fail(`The merge of ${target} failed with status ${status}.`);
    continue;
  }
  heading(`Fuzzing ${target} for ${seconds} seconds`);
  const before = inputsIn(artifacts);
  const args = [`-max_total_time=${seconds}`, `-dict=fuzz/dictionaries/${target}`, "-timeout=5", "-verbosity=0", "-print_final_stats=1", `-seed=${seed}`];
  const status = libFuzzer(target, [found, kept], [...args, ...TARGETS[target]]);
  if (status === 0) continue;
  const inputs = inputsIn(artifacts).filter((name) => !before.includes(name)).map((name) => `${artifacts}/${name}`);
  findings.push({ target, status, inputs });
}

for (const { target, status, inputs } of findings) {
  console.error(`\n${target}: stopped with status ${status}; what is wrong stands above.`);
  for (const found of inputs) {
    console.error(`  the input:    ${found}`);
    console.error(`  replay it:    cp ${found} fuzz/corpus/${target}/ && cargo test -p nodetool-edge-auth-fuzz`);
    console.error(`  minimise it:  npm run fuzz -- ${target} --minimise ${found}`);
  }
}
if (findings.length > 0) process.exit(1);
say(merges ? "Merged; git status shows what is new." : "Nothing found.");
