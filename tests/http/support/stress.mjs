// Many clients at once that keep, share, pipeline and break off connections; the upstream says in every line of every
// answer which request it is for.
import { once } from "node:events";
import http from "node:http";

import { AUTHORIZATION } from "./hosts.mjs";
import { exchange } from "./raw.mjs";
import { listen } from "./servers.mjs";

const LINES = { sized: 1, chunked: 50, big: 20_000, early: 2, posted: 3 };

/** An upstream whose answers consist of the target that was asked for, line after line. */
export async function startEcho() {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, async (request, response) => {
    const [, kind] = request.url.split("/");
    const line = `${request.url}\n`;
    response.on("error", () => {});
    // An early answer is over before anybody has looked at the body.
    if (kind !== "early" && !(await drained(request))) return response.destroy();
    if (kind === "sized" || kind === "early") {
      const body = line.repeat(LINES[kind]);
      return response.writeHead(200, { "content-length": body.length }).end(body);
    }
    // In two parts, and without a length.
    response.write(line.repeat(LINES[kind] - 1));
    response.end(line);
  });
  return listen(server);
}

async function drained(request) {
  try {
    for await (const _ of request);
    return true;
  } catch {
    return false;
  }
}

/**
 * @returns {Promise<{wrong: string[], attempted: number, completed: number, seed: number}>} `wrong`: answers that are not those
 * to their requests; `attempted`: requests that nobody broke off
 */
export async function stress(port, { clients, rounds, seed = Date.now() % 1_000_000 }) {
  const result = { wrong: [], attempted: 0, completed: 0, seed };
  const agent = new http.Agent({ keepAlive: true, maxSockets: clients });

  const check = (target, status, body) => {
    const line = `${target}\n`;
    const isOwn = status === 200 && body.length === line.length * LINES[target.split("/")[1]] && body.split(line).every((rest) => rest === "");
    // 502 says that it did not come to an answer: no answer is not a wrong one.
    if (isOwn) result.completed += 1;
    else if (status !== 502) result.wrong.push(`${target}: ${status} ${body.slice(0, 80)}`);
  };

  const send = (method, target) => http.request({ agent, port, host: "127.0.0.1", method, path: target, headers: Object.fromEntries([AUTHORIZATION]) });

  /** Asks, with these pieces of a body, and reads the answer to its end. */
  const whole = async (method, target, pieces = [], length) => {
    result.attempted += 1;
    const outgoing = send(method, target);
    try {
      if (length !== undefined) outgoing.setHeader("Content-Length", length);
      const response = once(outgoing, "response");
      // It may fail while the body is still being written.
      response.catch(() => {});
      for (const piece of pieces) {
        outgoing.write(piece);
        await new Promise(setImmediate);
      }
      outgoing.end();
      const [incoming] = await response;
      let body = "";
      for await (const chunk of incoming.setEncoding("latin1")) body += chunk;
      check(target, incoming.statusCode, body);
    } catch {
      // The connection ended: not completed.
    }
  };

  const ways = [
    (id) => whole("GET", `/sized/${id}`),
    (id) => whole("GET", `/chunked/${id}`),
    (id) => whole("GET", `/big/${id}`),
    (id) => whole("POST", `/posted/${id}`, ["x".repeat(10), "y".repeat(90_000)], 90_010),
    (id) => whole("POST", `/posted/${id}`, ["x".repeat(10), "y".repeat(90_000), "z"]),
    (id) => whole("POST", `/early/${id}`, ["x".repeat(100), "y".repeat(30_000)], 30_100),
    (id) => whole("POST", `/early/${id}`, ["x".repeat(100), "y".repeat(30_000)]),
    async (id) => {
      // Several at once on one connection: the answers come in the order of the requests.
      const targets = ["sized", "chunked", "sized"].map((kind, index) => `/${kind}/${id}-${index}`);
      result.attempted += targets.length;
      const bytes = targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\n\r\n`).join("");
      const { answers } = await exchange(port, bytes, { count: targets.length, timeout: 30_000 });
      for (const [index, { status, body, complete }] of answers.entries()) if (complete) check(targets[index], status, body.toString("latin1"));
    },
    async (id) => {
      // Breaks off in the middle of what it sends.
      const outgoing = send("POST", `/posted/${id}`);
      outgoing.on("error", () => {}).setHeader("Content-Length", 100_000);
      const sent = new Promise((resolve) => outgoing.write("x".repeat(50_000), resolve));
      await sent;
      outgoing.destroy();
    },
    async (id) => {
      // Breaks off in the middle of what it is sent.
      const outgoing = send("GET", `/big/${id}`).on("error", () => {});
      outgoing.end();
      try {
        const [incoming] = await once(outgoing, "response");
        incoming.on("error", () => {});
        await once(incoming, "data");
      } catch {
        // It had been broken off by then.
      }
      outgoing.destroy();
    },
    async (id) => {
      // Breaks off before there is any answer.
      const outgoing = send("GET", `/sized/${id}`).on("error", () => {});
      await new Promise((resolve) => outgoing.end(resolve));
      outgoing.destroy();
    },
  ];

  const random = generator(seed);
  const client = async (number) => {
    for (let round = 0; round < rounds; round += 1) await ways[random(ways.length)](`${number}-${round}`);
  };
  try {
    await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  } finally {
    agent.destroy();
  }
  return result;
}

/** Numbers below a limit, the same ones for the same seed (mulberry32). */
function generator(state) {
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}
