// Load on one gateway: requests as fast as they are answered, by wrk, and what they cost it.
import { spawnSync } from "node:child_process";
import net from "node:net";
import { fileURLToPath } from "node:url";

import { OTHER_CORE, family, memory, on, processorTime } from "./machine.mjs";

const beside = (name) => fileURLToPath(new URL(name, import.meta.url));

/** `rate`: answers a second; `p50`, `p99` in ms; `cpu`: the gateway's processors, in microseconds for each request; `busy`: its share of the time. */
export function load({ port, path: target = "/v1/models", children, connections, tokens, body = 0, seconds }) {
  const pids = children.flatMap(family);
  const before = processorTime(pids);
  const command = ["wrk", "-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "30s", "-s", beside("load.lua"), `http://127.0.0.1:${port}${target}`, "--", tokens, String(body)];
  const [program, ...args] = on(OTHER_CORE, command);
  const { stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  const spent = processorTime(pids) - before;
  const result = /^\{.*\}$/m.exec(stdout);
  if (!result) throw new Error(`wrk said nothing of use: ${stdout}${stderr}`);
  const { requests, microseconds, p50, p99, refused, failed } = JSON.parse(result[0]);
  if (refused > 0) throw new Error(`${refused} of ${requests} good requests were refused on ${port}`);
  if (failed > 0 || requests === 0) throw new Error(`${failed} of ${requests} requests failed on ${port}`);
  return { rate: requests / (microseconds / 1e6), p50: p50 / 1000, p99: p99 / 1000, cpu: children.length > 0 ? spent / requests : undefined, busy: spent / microseconds };
}

/** Many clients that listen to events: `cpu` in microseconds for each event, `p50` and `p99` of its way in ms. */
export function stream({ port, children, upstream, token, seconds }) {
  const command = [process.execPath, beside("streams.mjs"), String(port), String(upstream), token, String(seconds), ...children.flatMap(family)];
  const [program, ...args] = on(OTHER_CORE, command);
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`no events came through ${port}: ${stderr}`);
  return JSON.parse(stdout);
}

/** What a connection costs that has asked once and stays: KB of the gateway for each, its own to the upstream aside. */
export async function idleConnections({ port, child, token, count = 2000 }) {
  const ask = `GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  const sockets = [];
  const open = () =>
    new Promise((resolve, reject) => {
      const socket = net.connect(port, "127.0.0.1", () => socket.write(ask));
      sockets.push(socket);
      socket.once("data", resolve).once("error", reject).once("close", () => reject(new Error(`${port} closed a connection that was to stay`)));
    });
  // Whoever lets go of something when a connection stays idle has had the time.
  const idle = async () => (await new Promise((resolve) => setTimeout(resolve, 3000)), memory(family(child)));
  // What is allocated once, for however many, is not counted.
  for (let index = 0; index < 50; index += 1) await open();
  const before = await idle();
  for (let index = 0; index < count; index += 1) await open();
  const each = ((await idle()) - before) / count;
  for (const socket of sockets) socket.removeAllListeners("close").destroy();
  return each;
}
