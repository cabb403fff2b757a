// The Worker in workerd beside a five-line JavaScript Worker that does the same: `node benchmarks/edge.mjs [--rounds 10]`.
// First is the first answer of a fresh workerd that listens, next the median of the next 500, one after the other on one connection.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { buildWorker } from "../tools/build-worker.mjs";
import { ensureNodeModules } from "../tools/setup.mjs";
import { heading } from "../tools/steps.mjs";

const { values: options } = parseArgs({ options: { rounds: { type: "string", default: "10" } } });
await ensureNodeModules();
const ours = await buildWorker();
const { startWorkerd } = await import("../tools/workerd.mjs");

const TOKEN = "benchmark-token-0123456789-abcdefgh";
const upstream = http.createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
await new Promise((resolve) => upstream.once("listening", resolve));
const bindings = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN, UPSTREAM_URL: `http://127.0.0.1:${upstream.address().port}` };

const rival = mkdtempSync(path.join(tmpdir(), "five-lines-"));
writeFileSync(
  path.join(rival, "index.js"),
  `export default { async fetch(request, env) {
    if (request.headers.get("authorization") !== "Bearer " + env.WORKER_AUTH_TOKEN) return new Response("no", { status: 401 });
    const url = new URL(request.url);
    const outgoing = new Request(env.UPSTREAM_URL + url.pathname + url.search, request);
    outgoing.headers.set("x-user-id", "1"); outgoing.headers.set("x-auth-token-type", "static");
    return fetch(outgoing);
  } }`,
);

const results = {};
for (let round = 1; round <= Number(options.rounds); round += 1) {
  heading(`Round ${round} of ${options.rounds}`);
  for (const [name, folder] of [["JavaScript, five lines", rival], ["nodetool-edge-auth", ours]]) (results[name] ??= []).push(await measure(folder));
}
console.log("\n| | start ms | first answer ms | next ones ms |\n|---|---|---|---|");
for (const [name, rounds] of Object.entries(results)) {
  const show = (key) => {
    const values = rounds.map((round) => round[key]);
    return `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;
  };
  console.log(`| ${name} | ${show("start")} | ${show("first")} | ${show("next")} |`);
}
console.log(`\nMedians of ${options.rounds} rounds, with the range.`);
upstream.close();
rmSync(rival, { recursive: true });

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

async function measure(folder) {
  const began = performance.now();
  const running = await startWorkerd({ folder, bindings });
  const start = performance.now() - began;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const once = () =>
    new Promise((resolve, reject) => {
      const began = performance.now();
      const request = http.get({ port: running.port, host: "127.0.0.1", path: "/v1/models", agent, headers: { authorization: `Bearer ${TOKEN}` } });
      request.on("error", reject).on("response", (response) => {
        if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
        response.resume().on("end", () => resolve(performance.now() - began));
      });
    });
  const first = await once();
  const times = [];
  for (let count = 0; count < 500; count += 1) times.push(await once());
  agent.destroy();
  await running.stop();
  return { start, first, next: median(times) };
}
