// The native host beside other gateways that do the same work, in one run on one machine: `node benchmarks/gateways.mjs`.
// `--quick` takes two minutes and tells little; `--help` names the other options. Needs Linux with nginx and wrk, and two cores.
//
// The gateway under test has core 0 to itself; the upstream (nginx, two bytes), wrk and this script share core 1. Rounds are
// interleaved, so that a slow minute of the machine hits all alike. Processor time for a request is steadier than requests/s.
import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { built } from "../tools/paths.mjs";
import { heading, run, say, step } from "../tools/steps.mjs";
import { measureFootprints } from "./gateways/footprint.mjs";
import { describe, stayAside, stop, stopAll, works } from "./gateways/machine.mjs";
import { measure, prepare, startUpstream, peaks } from "./gateways/rounds.mjs";
import { markdown, save, versions } from "./gateways/report.mjs";
import { ALL, PEERS, SCENARIOS } from "./gateways/scenarios.mjs";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    patience: { type: "string" },
    only: { type: "string", multiple: true },
    output: { type: "string" },
    from: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (options.help) {
  console.log(`node benchmarks/gateways.mjs [OPTION...]
  --quick            one round of one second, to see that all works
  --rounds N         rounds [7], of which the median counts
  --seconds N        for each measurement [2]
  --patience N       seconds, all told, to wait for others on this machine, or to measure again what they disturbed [0]
  --only SCENARIO    of ${SCENARIOS.map(({ id }) => id).join(", ")}, footprint; may be repeated
  --output FOLDER    for gateways.json, gateways.md and the plots [target/benchmarks; the committed ones are in benchmarks/results]
  --from FILE        measures nothing, and writes tables and plots from a gateways.json
  --json             prints JSON`);
  process.exit(0);
}

const rounds = Number(options.rounds ?? (options.quick ? 1 : 7));
const seconds = Number(options.seconds ?? (options.quick ? 1 : 2));
const patience = { seconds: Number(options.patience ?? 0) };
const isWanted = (id) => !options.only || options.only.includes(id);
const output = path.resolve(options.output ?? built("benchmarks"));
// Only the result goes to standard output, for those who read it with a program.
if (options.json) console.log = console.error;

const results = options.from ? JSON.parse(readFileSync(options.from, "utf8")) : await measureAll();
save(results, output);
process.stdout.write(options.json ? `${JSON.stringify(results, null, 1)}\n` : `\n${markdown(results)}\nWritten to ${path.relative(process.cwd(), output)}.\n`);

async function measureAll() {
  for (const needed of ["nginx", "wrk"]) if (!works(needed, "-v")) throw new Error(`${needed} is needed: apt-get install ${needed}`);
  await step("Compiling the native host", () => run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth"]));
  await step("Compiling what it is compared with", () => run("cargo", ["build", "--locked", "--release", "--package", "nodetool-edge-auth-benchmarks-bare"]));
  const machine = describe();
  if (!machine.pinned) say("There is no taskset, or one core only: gateway and load are not kept apart");
  stayAside();

  const missing = new Map(PEERS.map((peer) => [peer, peer.missing()]).filter(([, how]) => how));
  for (const [peer, how] of missing) say(`${peer.name} is skipped, since it is not installed. To have it: ${how}`);
  try {
    await startUpstream();
    const scenarios = SCENARIOS.filter(({ id }) => isWanted(id));
    const { rows, servers } = await prepare(scenarios, missing, { heading });
    for (const row of options.quick ? [] : rows) await measure(row, 1, { seconds: 0 });
    for (let round = 1; round <= rounds; round += 1) {
      heading(`Round ${round} of ${rounds}`);
      for (const row of rows) row.results.push(await measure(row, seconds, patience));
    }
    const busy = peaks(servers);
    for (const server of servers.values()) await stop(server.child);
    const footprints = isWanted("footprint") ? await measureFootprints(ALL.filter((peer) => !missing.has(peer)), options.quick ? 3 : 11, busy, { heading }) : [];
    const skipped = [...missing].map(([peer, how]) => ({ name: peer.name, how }));
    return { machine, versions: versions(), rounds, seconds, skipped, scenarios: scenarios.map((scenario) => summary(scenario, rows)), footprints };
  } finally {
    stopAll();
  }
}

function summary({ id, title, note, streams }, rows) {
  return { id, title, note, streams, rows: rows.filter((row) => row.scenario === id).map(({ name, peer, passed, results }) => ({ name, peer: peer.name, passed, results })) };
}
