// The Worker as its developers run it: `wrangler dev`, and a token that `wrangler kv` put there.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { rmSync } from "node:fs";
import { after, describe, test as nodeTest } from "node:test";
import { promisify } from "node:util";

import { ROOT, TOKEN, temporaryFolder } from "./support/hosts.mjs";
import { secret, transcript } from "./support/transcripts.mjs";
import { deadPort } from "./support/upstream.mjs";

const run = promisify(execFile);
const test = (title, run) => nodeTest(title, { timeout: 240_000 }, run);
const env = { ...process.env, WRANGLER_SEND_METRICS: "false", WRANGLER_SEND_ERROR_REPORTS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false", CI: "1", NO_COLOR: "1" };

/** Runs `wrangler dev` in the project's own folder, with its state elsewhere, for as long as `body` takes. */
async function developing(state, variables, body) {
  const port = await deadPort();
  const vars = Object.entries(variables).flatMap(([name, value]) => ["--var", `${name}:${value}`]);
  const command = ["wrangler", "dev", "--port", String(port), "--inspector-port", String(await deadPort()), "--persist-to", state, "--show-interactive-dev-session=false", ...vars];
  // A process group of its own, so that all that it starts ends with it.
  const child = spawn("npx", command, { cwd: ROOT, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
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
    const ask = async (token) => {
      const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
      const response = await fetch(`http://127.0.0.1:${port}/v1/models`, { headers });
      return [response.status, await response.json()];
    };
    await body(ask, logged);
  } finally {
    process.kill(-child.pid, "SIGTERM");
    await closed;
  }
}

const REFUSED = [401, { detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'" }];
const SERVED = [200, { user_id: "1", token_type: "static", role: null, method: "GET", path: "/v1/models" }];

describe("wrangler dev", () => {
  const folders = [];
  const folder = () => folders[folders.push(temporaryFolder()) - 1];
  after(() => folders.forEach((name) => rmSync(name, { recursive: true, force: true })));

  test("a token from the settings", () =>
    developing(folder(), { WORKER_AUTH_TOKEN: TOKEN }, async (ask, logged) => {
      assert.deepEqual(await ask(), REFUSED);
      assert.deepEqual(await ask(TOKEN), SERVED);
      assert.equal((await ask(`${TOKEN}x`))[0], 401);
      const log = await logged(/reason=invalid_token/);
      assert.ok(!log.includes(TOKEN), "the token is not logged");
    }));

  test("a token that `wrangler kv` put there", async () => {
    const state = folder();
    await run("npx", ["wrangler", "kv", "key", "put", "--local", "--persist-to", state, "--binding", "AUTH_KV", "worker_auth_token", TOKEN], { cwd: ROOT, env });
    await developing(state, { AUTH_PROVIDER: "static" }, async (ask) => {
      assert.deepEqual(await ask(), REFUSED);
      assert.deepEqual(await ask(TOKEN), SERVED);
    });
  });

  test("no token in production: nobody passes", () =>
    developing(folder(), { ENV: "production" }, async (ask, logged) => {
      for (const token of [undefined, TOKEN]) assert.deepEqual(await ask(token), [503, { detail: "No authentication token is configured" }]);
      // The log says what to do.
      await logged(/wrangler secret put WORKER_AUTH_TOKEN/);
    }));

  test("no token in development: one is made, shown and kept", async () => {
    const state = folder();
    let token;
    await developing(state, { ENV: "development", AUTH_PROVIDER: "static" }, async (ask, logged) => {
      // Requests that come at once must all settle on one token.
      assert.deepEqual(await Promise.all(Array.from({ length: 8 }, () => ask())), Array(8).fill(REFUSED));
      const log = await logged(/Authorization: Bearer \S+\s/);
      const shown = new Set([...log.matchAll(/Authorization: Bearer (\S+)/g)].map(([, token]) => token));
      assert.equal(shown.size, 1, log);
      [token] = shown;
      secret("the token that wrangler showed", token);
      assert.match(token, /^[A-Za-z0-9_-]{43}$/);
      assert.deepEqual(await ask(token), SERVED);
    });
    await developing(state, { ENV: "development", AUTH_PROVIDER: "static" }, async (ask, logged) => {
      assert.deepEqual(await ask(token), SERVED);
      assert.equal((await ask("wrong"))[0], 401);
      assert.ok(!(await logged(/reason=invalid_token/)).includes(token), "and not shown again");
    });
  });
});
