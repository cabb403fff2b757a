// Events through a gateway: `node streams.mjs PORT UPSTREAM_PORT TOKEN SECONDS PID...`. An API that streams and the clients
// that listen, in one process, so that one clock tells how long an event takes. Small events, as of a model that writes.
import http from "node:http";
import net from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

import { processorTime } from "./machine.mjs";
import { median } from "./statistics.mjs";

const STREAMS = 100;
const EVENTS_PER_SECOND = 40; // of each
const [port, upstream, token, seconds, ...pids] = process.argv.slice(2);

const open = new Set();
const api = http.createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.flushHeaders();
  open.add(response);
  response.on("close", () => open.delete(response));
});
await new Promise((resolve) => api.listen(Number(upstream), "127.0.0.1", resolve));

let counts = 0;
let times = [];
function listen() {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), "127.0.0.1", () => socket.write(`GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`));
    socket.setEncoding("latin1").on("error", reject).on("data", (text) => {
      if (text.startsWith("HTTP/1.1 ")) text.startsWith("HTTP/1.1 200") ? resolve(socket) : reject(new Error(text));
      for (const [, at] of text.matchAll(/"at":([\d.]+)/g)) {
        counts += 1;
        times.push(performance.now() - Number(at));
      }
    });
    setTimeout(() => reject(new Error("no answer")), 10_000).unref();
  });
}

const clients = [];
for (let index = 0; index < STREAMS; index += 1) clients.push(await listen());

// One stream after the other, evenly over time: all at once, each event would wait for all others.
let next = 0;
let sent = 0;
const began = performance.now();
const timer = setInterval(() => {
  const streams = [...open];
  const due = Math.floor(((performance.now() - began) / 1000) * STREAMS * EVENTS_PER_SECOND);
  for (; sent < due; sent += 1) {
    next = (next + 1) % streams.length;
    streams[next].write(`data: {"at":${performance.now().toFixed(3)},"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n`);
  }
}, 1);

await sleep(500);
[counts, times] = [0, []];
const before = processorTime(pids);
const from = performance.now();
await sleep(Number(seconds) * 1000);
const spent = processorTime(pids) - before;
const microseconds = (performance.now() - from) * 1000;
clearInterval(timer);
if (counts < STREAMS * EVENTS_PER_SECOND * Number(seconds) * 0.9) throw new Error(`only ${counts} events arrived`);
const ninetyNine = times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)];
console.log(JSON.stringify({ rate: counts / (microseconds / 1e6), p50: median(times), p99: ninetyNine, cpu: pids.length > 0 ? spent / counts : undefined, busy: spent / microseconds }));

// In order, so that nothing of it is left behind in a gateway.
for (const response of open) response.end();
await sleep(200);
process.exit(0);
