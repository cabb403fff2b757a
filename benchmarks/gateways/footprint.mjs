// What a gateway takes without any load: time to start, memory at rest, memory for a client that stays.
import { performance } from "node:perf_hooks";
import net from "node:net";

import { idleConnections } from "./load.mjs";
import { GATEWAY_CORE, family, memory, start, stop } from "./machine.mjs";
import { UPSTREAM } from "./rounds.mjs";
import { STATIC } from "./tokens.mjs";

const PORT = 9290;

/** Of each, started anew so many times, one after the other: milliseconds to the first good answer, MB, KB for each connection. */
export async function measureFootprints(peers, times, busy, { heading }) {
  heading("Start, memory at rest, idle connections");
  const footprints = peers.map((peer) => ({ name: peer.name, busy: busy[peer.name], start: [], rest: [], idle: [] }));
  for (let time = 0; time < times; time += 1) {
    for (const [index, peer] of peers.entries()) {
      const footprint = footprints[index];
      const command = peer.command({ name: `footprint-${peer.name}`, port: PORT, auth: "static", upstream: UPSTREAM });
      const began = performance.now();
      const child = await start(GATEWAY_CORE, command, PORT);
      await firstAnswer();
      footprint.start.push(performance.now() - began);
      footprint.rest.push(memory(family(child)) / 1024);
      // Each takes a while, and they hardly differ.
      if (time < 3) footprint.idle.push(await idleConnections({ port: PORT, child, token: STATIC }));
      await stop(child);
    }
  }
  return footprints;
}

/** By a plain socket: a client of HTTP would need some of the time itself. */
function firstAnswer() {
  return new Promise((resolve, reject) => {
    const socket = net.connect(PORT, "127.0.0.1", () => socket.write(`GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${STATIC}\r\n\r\n`));
    socket.once("data", (bytes) => (socket.destroy(), String(bytes).startsWith("HTTP/1.1 200") ? resolve() : reject(new Error(String(bytes))))).once("error", reject);
  });
}
