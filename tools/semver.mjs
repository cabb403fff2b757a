// Compares the public API of both packages with that of the last tag, by `cargo-semver-checks`, where it is installed: it takes longer
// to compile than all the rest of this project. It says so loudly if nothing was compared.
import { spawnSync } from "node:child_process";

import { ROOT } from "./paths.mjs";
import { run, say, step } from "./steps.mjs";

const PACKAGES = ["nodetool-edge-auth", "nodetool-auth"];

const output = (command, args) => {
  const { status, stdout } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
};

/** A revision that was named, else the last version that was published. */
const baseline = process.argv[2] ?? output("git", ["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]);

if (!baseline) {
  say("The public API was NOT compared: there is no tag like v0.1.0 to compare it with");
} else if (output("cargo", ["semver-checks", "--version"]) === undefined) {
  say("The public API was NOT compared: there is no cargo-semver-checks here (cargo install --locked cargo-semver-checks)");
} else {
  for (const name of PACKAGES) await step(`The public API of ${name}, compared with ${baseline}`, () => run("cargo", ["semver-checks", "--package", name, "--baseline-rev", baseline]));
}
