// The Worker in workerd beside a five-line JavaScript Worker that does the same: `node benchmarks/edge.mjs [--rounds 10]`.
// Cold is the first answer of a fresh workerd, warm the median of the next 500, one after the other on one connection.
import http from "node:http";
import path from "node:path";
import { parseArgs } from "node:util";

import { ROOT, ensureNodeModules, step } from "../tools/setup.mjs";
import { buildWorker } from "../tools/build-worker.mjs";

const { values: options } = parseArgs({ options: { rounds: { type: "string", default: "10" } } });
ensureNodeModules();
const folder = buildWorker();
const { Miniflare } = await import("miniflare");

const TOKEN = "benchmark-token-0123456789-abcdefgh";
const upstream = http.createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
await new Promise((resolve) => upstream.once("listening", resolve));
const bindings = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN, UPSTREAM_URL: `http://127.0.0.1:${upstream.address().port}` };
const compatibilityDate = "2026-04-26";

const RIVALS = {
  "JavaScript, five lines": {
    modules: true,
    script: `export default { async fetch(request, env) {
      if (request.headers.get("authorization") !== "Bearer " + env.WORKER_AUTH_TOKEN) return new Response("no", { status: 401 });
      const url = new URL(request.url);
      const outgoing = new Request(env.UPSTREAM_URL + url.pathname + url.search, request);
      outgoing.headers.set("x-user-id", "1"); outgoing.headers.set("x-auth-token-type", "static");
      return fetch(outgoing);
    } }`,
  },
  "nodetool-edge-auth": {
    modules: true,
    modulesRoot: folder,
    scriptPath: path.join(folder, "index.js"),
    modulesRules: [{ type: "CompiledWasm", include: ["**/*.wasm"] }, { type: "ESModule", include: ["**/*.js"] }],
  },
};

const results = {};
for (let round = 1; round <= Number(options.rounds); round += 1) {
  step(`Round ${round} of ${options.rounds}`);
  for (const [name, worker] of Object.entries(RIVALS)) (results[name] ??= []).push(await measure(worker));
}
console.log("\n| | first answer ms | next ones ms |\n|---|---|---|");
for (const [name, rounds] of Object.entries(results)) {
  const show = (key) => {
    const values = rounds.map((round) => round[key]);
    return `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;
  };
  console.log(`| ${name} | ${show("cold")} | ${show("warm")} |`);
}
console.log(`\nMedians of ${options.rounds} rounds, with the range.`);
upstream.close();

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

async function measure(worker) {
  const miniflare = new Miniflare({ ...worker, compatibilityDate, bindings, kvNamespaces: { AUTH_KV: "auth" }, host: "127.0.0.1", port: 0 });
  const { port } = await miniflare.ready;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const once = () =>
    new Promise((resolve, reject) => {
      const began = performance.now();
      const request = http.get({ port, host: "127.0.0.1", path: "/v1/models", agent, headers: { authorization: `Bearer ${TOKEN}` } });
      request.on("error", reject).on("response", (response) => {
        if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
        response.resume().on("end", () => resolve(performance.now() - began));
      });
    });
  const cold = await once();
  const times = [];
  for (let count = 0; count < 500; count += 1) times.push(await once());
  agent.destroy();
  await miniflare.dispose();
  return { cold, warm: median(times) };
}
