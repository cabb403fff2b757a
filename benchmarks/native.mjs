// The native host beside nginx and HAProxy, in one run on one machine: `node benchmarks/native.mjs [--rounds 5] [--seconds 4]`.
// Needs Linux with nginx, haproxy, wrk and taskset (Debian: apt-get install nginx haproxy wrk), and two cores.
//
// The gateway under test has core 0 to itself; the upstream (nginx, two bytes) and wrk share core 1. Rounds are
// interleaved, so that a slow minute of the machine hits all alike. Processor time per request is steadier than requests/s.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { ROOT, run, step } from "../tools/setup.mjs";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, seconds: { type: "string", default: "4" }, json: { type: "boolean" } },
});
const TOKEN = "benchmark-token-0123456789-abcdefgh";
const UPSTREAM = 9200;
const folder = mkdtempSync(path.join(tmpdir(), "benchmark-"));
const running = [];

const nginx = (name, config) => {
  const file = path.join(folder, `${name}.conf`);
  writeFileSync(
    file,
    `worker_processes 1; daemon off; pid ${folder}/${name}.pid; error_log /dev/null; events { worker_connections 4096; }
     http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; ${config} }`,
  );
  return ["nginx", "-c", file];
};
const proxy = `proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";`;
const pool = `upstream up { server 127.0.0.1:${UPSTREAM}; keepalive 256; keepalive_requests 100000000; }`;
const haproxy = () => {
  const file = path.join(folder, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend f
  bind 127.0.0.1:9303
  http-request deny deny_status 401 unless { req.hdr(authorization) -m str "Bearer ${TOKEN}" }
  http-request set-header x-user-id 1
  http-request set-header x-auth-token-type static
  default_backend b
backend b
  server s 127.0.0.1:${UPSTREAM}
`,
  );
  return ["haproxy", "-f", file];
};
const ours = (port, provider) => {
  const env = {
    LOG_LEVEL: "warn",
    AUTH_PROVIDER: provider,
    WORKER_AUTH_TOKEN: TOKEN,
    UPSTREAM_URL: `http://127.0.0.1:${UPSTREAM}`,
    AUTH_LISTEN: `127.0.0.1:${port}`,
  };
  return ["env", ...Object.entries(env).map(([name, value]) => `${name}=${value}`), path.join(ROOT, "target/release/nodetool-auth")];
};

const RIVALS = [
  { name: "nginx, pass-through", port: 9301, command: () => nginx("pass", `${pool} server { listen 127.0.0.1:9301; location / { ${proxy} } }`) },
  {
    name: "nginx, static",
    port: 9302,
    command: () =>
      nginx(
        "static",
        `map $http_authorization $ok { default 0; "Bearer ${TOKEN}" 1; } ${pool} server { listen 127.0.0.1:9302;
         location / { if ($ok = 0) { return 401; } ${proxy} proxy_set_header x-user-id 1; proxy_set_header x-auth-token-type static; } }`,
      ),
  },
  { name: "HAProxy, static", port: 9303, command: haproxy },
  { name: "nodetool-auth, pass-through", port: 9304, command: () => ours(9304, "none") },
  { name: "nodetool-auth, static", port: 9305, command: () => ours(9305, "static") },
];

try {
  step("Compiling the native host");
  run("cargo", ["build", "--locked", "--release", "--package", "nodetool-auth"]);
  await start(1, nginx("upstream", `server { listen 127.0.0.1:${UPSTREAM} backlog=4096; location / { return 200 "ok"; } }`), UPSTREAM);
  for (const rival of RIVALS) rival.process = await start(0, rival.command(), rival.port);
  for (const rival of RIVALS) refusesStrangers(rival);

  for (let round = 1; round <= Number(options.rounds); round += 1) {
    step(`Round ${round} of ${options.rounds}`);
    for (const rival of RIVALS) (rival.results ??= []).push(measure(rival));
  }
  report();
} finally {
  // Not killed outright: nginx would leave its worker behind.
  for (const child of running) child.kill("SIGTERM");
  rmSync(folder, { recursive: true, force: true });
}

async function start(core, command, port) {
  const child = spawn("taskset", ["-c", String(core), ...command], { stdio: "ignore" });
  running.push(child);
  for (let tries = 0; tries < 200; tries += 1) {
    if (await accepts(port)) return child;
    if (child.exitCode !== null) break;
    await sleep(25);
  }
  throw new Error(`${command[0]} does not listen on ${port}`);
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => resolve(true));
    socket.on("error", () => resolve(false)).on("connect", () => socket.destroy());
  });
}

/** A rival that lets everyone in does less work, and would win for it. */
function refusesStrangers({ name, port }) {
  const { stdout } = spawnSync("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", `http://127.0.0.1:${port}/v1/models`]);
  const expected = name.endsWith("static") ? "401" : "200";
  if (String(stdout) !== expected) throw new Error(`${name} answers ${stdout} without a token instead of ${expected}`);
}

function measure({ name, port, process: child }) {
  const pids = family(child.pid);
  const before = ticks(pids);
  const args = ["-c", "1", "wrk", "-t1", "-c64", `-d${options.seconds}s`, "--latency", "-H", `Authorization: Bearer ${TOKEN}`];
  const { stdout } = spawnSync("taskset", [...args, `http://127.0.0.1:${port}/v1/models`], { encoding: "utf8" });
  const spent = ticks(pids) - before;
  if (/Non-2xx/.test(stdout)) throw new Error(`${name} refused requests`);
  const number = (pattern) => Number(pattern.exec(stdout)[1]);
  const milliseconds = (share) => {
    const [, value, unit] = new RegExp(`${share}%\\s+([\\d.]+)(us|ms|s)`).exec(stdout);
    return Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit];
  };
  const memory = pids.reduce((sum, pid) => sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]), 0);
  return {
    rate: number(/Requests\/sec:\s+([\d.]+)/),
    p50: milliseconds(50),
    p99: milliseconds(99),
    cpu: (spent * 10_000) / number(/(\d+) requests in/),
    memory: memory / 1024,
  };
}

/** A process and its children, of whom nginx and HAProxy have some. */
function family(pid) {
  const { stdout } = spawnSync("pgrep", ["-P", String(pid)], { encoding: "utf8" });
  return [String(pid), ...stdout.split("\n").filter(Boolean)];
}

function ticks(pids) {
  return pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return sum + Number(fields[11]) + Number(fields[12]);
  }, 0);
}

function report() {
  const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
  const rows = RIVALS.map(({ name, results }) => {
    const of = (key) => median(results.map((result) => result[key]));
    const rates = results.map((result) => result.rate);
    const noise = ((Math.max(...rates) - Math.min(...rates)) / 2 / of("rate")) * 100;
    return { name, rate: of("rate"), noise, p50: of("p50"), p99: of("p99"), cpu: of("cpu"), memory: of("memory") };
  });
  if (options.json) return console.log(JSON.stringify(rows, null, 2));
  console.log(`\nMedians of ${options.rounds} rounds of ${options.seconds} s, 64 connections, gateway on one core.\n`);
  console.log("| | requests/s | p50 ms | p99 ms | CPU µs/request | memory MB |\n|---|---|---|---|---|---|");
  for (const { name, rate, noise, p50, p99, cpu, memory } of rows) {
    console.log(`| ${name} | ${Math.round(rate).toLocaleString("en")} ± ${noise.toFixed(0)} % | ${p50.toFixed(2)} | ${p99.toFixed(2)} | ${cpu.toFixed(1)} | ${memory.toFixed(0)} |`);
  }
}
