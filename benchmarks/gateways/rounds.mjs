// The servers of all scenarios, started and checked, and one measurement of one of them.
import { setTimeout as sleep } from "node:timers/promises";

import { check } from "./checks.mjs";
import { load, stream } from "./load.mjs";
import { GATEWAY_CORE, OTHER_CORE, family, memory, processorTime, start, write } from "./machine.mjs";
import { upstream } from "./peers/nginx.mjs";
import { ours } from "./peers/ours.mjs";
import { LIMIT, quietMoment, watchOthers } from "./quiet.mjs";
import { STATIC, goodTokens } from "./tokens.mjs";

export const UPSTREAM = 9200;
const STREAMING = 9201;
const FIRST_PORT = 9300;

/** What a gateway without a request takes of 50 ms, at the most. */
const IDLE_MICROSECONDS = 1000;

let api;

export async function startUpstream() {
  api = await start(OTHER_CORE, upstream(UPSTREAM), UPSTREAM);
}

/** Starts whatever the scenarios need, and shows that each does all of its work. */
export async function prepare(scenarios, missing, { heading }) {
  const servers = new Map();
  const rows = [];
  for (const scenario of scenarios) {
    heading(`Starting and checking: ${scenario.title}`);
    for (const row of scenario.rows.filter(({ peer }) => !missing.has(peer))) {
      const work = { ...scenario, ...row, id: scenario.id, name: row.name ?? row.peer.name };
      const server = row.direct ? { port: scenario.streams ? STREAMING : UPSTREAM, children: [] } : await serve(servers, work);
      rows.push({ ...work, ...server, scenario: scenario.id, tokens: tokenFile(work), results: [] });
    }
  }
  return { rows, servers };
}

async function serve(servers, work) {
  const key = `${work.server ?? work.id}-${work.name}`.replaceAll(/[^\w]+/g, "-");
  const known = servers.get(key);
  if (known) return known;
  const port = FIRST_PORT + 2 * servers.size;
  const behind = work.upstreamless ? undefined : work.streams ? STREAMING : UPSTREAM;
  const children = [];
  let gateway;
  if (work.auth === "ask") {
    gateway = port + 1;
    children.push(await start(GATEWAY_CORE, ours.command({ port: gateway, auth: work.asksAt }), gateway));
    servers.set(`${key}-asked`, { child: children[0], key });
  }
  const child = await start(GATEWAY_CORE, work.peer.command({ ...work, name: key, port, upstream: behind, gateway }), port);
  children.push(child);
  let passed = [];
  if (!work.unchecked) {
    passed = await check({ ...work, port }).catch((error) => {
      throw new Error(`${work.name}, ${work.title}: ${error.message}`);
    });
  }
  const server = { port, child, children, passed, key, name: work.name, scenario: work.id };
  servers.set(key, server);
  return server;
}

const files = new Map();

function tokenFile({ tokens, count }) {
  const name = tokens ? `${tokens}-${count}.tokens` : "static.tokens";
  if (!files.has(name)) files.set(name, write(name, `${(tokens ? goodTokens(tokens, count) : [STATIC]).join("\n")}\n`));
  return files.get(name);
}

/** Again, as long as `patience.seconds` are left, if others took a part of the processors meanwhile. */
export async function measure(row, seconds, patience) {
  for (;;) {
    patience.seconds -= await quietMoment(patience.seconds);
    const others = watchOthers([...row.children, api].flatMap(family));
    const result = measureOnce(row, seconds);
    result.others = others();
    await atRest(row.children.flatMap(family));
    if (result.others < LIMIT || patience.seconds <= 0) return result;
    patience.seconds -= seconds;
  }
}

/** Waits for a gateway that still works on what it was asked at the end, and would take its core from the next one. */
async function atRest(pids) {
  for (let tries = 0, before = -Infinity; tries < 100; tries += 1) {
    const now = processorTime(pids);
    if (now - before < IDLE_MICROSECONDS) return;
    before = now;
    await sleep(50);
  }
}

function measureOnce(row, seconds) {
  if (row.streams) return stream({ ...row, upstream: STREAMING, token: STATIC, seconds });
  return load({ ...row, connections: row.connections ?? 64, seconds });
}

/** The most memory that each gateway with a static token has ever had, in MB. */
export function peaks(servers) {
  const busy = [...servers.values()].filter(({ scenario }) => scenario === "static");
  return Object.fromEntries(busy.map(({ name, child }) => [name, memory(family(child), { peak: true }) / 1024]));
}
