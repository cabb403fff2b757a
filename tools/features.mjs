// Lints every combination of features of both packages: natively, and of the core for WebAssembly too. (`cargo hack` does this in
// general; it names a package by its manifest, by which cargo takes all default members of a workspace like this one.)
import { spawnSync } from "node:child_process";

import { ROOT } from "./paths.mjs";
import { WASM_TARGET, ensureWasmTarget } from "./setup.mjs";
import { fail, progress, run, step } from "./steps.mjs";

const BUILDS = [
  ["nodetool-edge-auth", ["--lib"]],
  ["nodetool-edge-auth", ["--lib", "--target", WASM_TARGET]],
  ["nodetool-auth", ["--lib", "--bins"]],
];

/** Features by name, each with the names of those that it brings along. */
function featuresOf(name) {
  const { status, stdout, stderr } = spawnSync("cargo", ["metadata", "--locked", "--no-deps", "--format-version", "1"], { cwd: ROOT, encoding: "utf8" });
  if (status !== 0) fail(stderr);
  const { features } = JSON.parse(stdout).packages.find((known) => known.name === name);
  delete features.default;
  return features;
}

/** Every set of them that means something else than any other. */
function combinations(features) {
  const names = Object.keys(features);
  const whole = (chosen) => new Set(chosen.flatMap((name) => [name, ...whole(features[name].filter((other) => other in features))]));
  const sets = Array.from({ length: 2 ** names.length }, (_, bits) => [...whole(names.filter((_, at) => bits & (1 << at)))].sort().join());
  return [...new Set(sets)];
}

await ensureWasmTarget();
for (const [name, build] of BUILDS) {
  const all = combinations(featuresOf(name));
  await step(`${name} ${build.join(" ")}: ${all.length} combinations of features`, async () => {
    for (const features of all) {
      progress(features || "no features");
      await run("cargo", ["clippy", "--quiet", "--locked", "--package", name, ...build, "--no-default-features", "--features", features, "--", "--deny", "warnings"]);
    }
  });
}
