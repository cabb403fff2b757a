// The project's own `wrangler`, quiet and offline.
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";

import { wranglerEnvironment } from "../../../tools/wrangler.mjs";
import { ROOT } from "./hosts.mjs";
import { transcript } from "./transcripts.mjs";
import { deadPort } from "./upstream.mjs";

export const WRANGLER_ENV = { ...(await wranglerEnvironment()), CI: "1", NO_COLOR: "1" };

/** Runs `wrangler dev` in the project's own folder, with its state elsewhere, for as long as `body` takes. */
export async function developing(state, variables, body, options = []) {
  const port = await deadPort();
  const vars = Object.entries(variables).flatMap(([name, value]) => ["--var", `${name}:${value}`]);
  const command = ["wrangler", "dev", "--port", String(port), "--inspector-port", String(await deadPort()), "--persist-to", state, "--show-interactive-dev-session=false", ...options, ...vars];
  // A process group of its own, so that all that it starts ends with it.
  const child = spawn("npx", command, { cwd: ROOT, env: WRANGLER_ENV, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  const write = transcript("wrangler", "console");
  const grown = new EventEmitter();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      log += text;
      write(text);
      grown.emit("more");
    });
  }
  const closed = once(child, "close");
  const ended = closed.then(() => Promise.reject(new Error(`wrangler ended:\n${log}`)));
  ended.catch(() => {});
  /** Waits until the log says so: it comes a little after the answers. */
  const logged = async (pattern) => {
    while (!pattern.test(log)) await Promise.race([once(grown, "more"), ended]);
    return log;
  };
  try {
    await logged(/Ready on http/);
    const url = `http://127.0.0.1:${port}`;
    const ask = async (token) => {
      const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
      const response = await fetch(`${url}/v1/models`, { headers });
      return [response.status, await response.json()];
    };
    await body(ask, logged, url);
  } finally {
    process.kill(-child.pid, "SIGTERM");
    await closed;
  }
}
