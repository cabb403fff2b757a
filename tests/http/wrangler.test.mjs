// The Worker as its developers run it: `wrangler dev`, and a token that `wrangler kv` put there.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { after, describe, test as nodeTest } from "node:test";
import { promisify } from "node:util";

import { ROOT, TOKEN, temporaryFolder, writeFile } from "./support/hosts.mjs";
import { secret, transcript } from "./support/transcripts.mjs";
import { deadPort } from "./support/upstream.mjs";
import { WRANGLER_ENV as env, developing } from "./support/wrangler.mjs";

const run = promisify(execFile);
const test = (title, run) => nodeTest(title, { timeout: 240_000 }, run);

const REFUSED = [401, { detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'" }];
const SERVED = [200, { user_id: "1", token_type: "static", role: null, method: "GET", path: "/v1/models" }];

/** Runs `npm start` for as long as `body` takes, which is told what it has printed by the time it is ready, and later all of it. */
async function starting(state, port, body) {
  const child = spawn(process.execPath, [path.join(ROOT, "tools", "start.mjs"), "--port", String(port), "--inspector-port", "0", "--persist-to", state], { cwd: ROOT, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const closed = once(child, "close");
  let output = "";
  const write = transcript("wrangler", "console");
  try {
    await new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (text) => {
          output += text;
          write(text.replace(/Bearer [\w-]{43}/, "Bearer …"));
          if (/^ {2}curl .*\n\n/m.test(output)) resolve();
        });
      }
      closed.then(() => reject(new Error(`npm start ended:\n${output}`)));
    });
    await body(output, () => output);
  } finally {
    process.kill(-child.pid, "SIGTERM");
    await closed;
  }
}

describe("npm start", { skip: existsSync(path.join(ROOT, ".dev.vars")) && "there is a .dev.vars here" }, () => {
  test("ends with a curl line that can be pasted, on every run, and then shows the gateway's log", async () => {
    const [state, port] = [temporaryFolder(), await deadPort()];
    try {
      const lines = [];
      for (let round = 0; round < 2; round += 1) {
        await starting(state, port, async (shown, later) => {
          const [line, token] = /curl -i -H "Authorization: Bearer (\S+)" http:\S+/.exec(shown);
          secret("the token that npm start showed", token);
          lines.push(line);
          assert.ok(shown.split("\n").length <= 9, shown);
          assert.doesNotMatch(shown, /whoami|wrangler:info|custom build|Compiling/);
          const { stdout } = await run("/bin/sh", ["-c", `${line} --silent`]);
          assert.match(stdout, /^HTTP\/1\.1 200 OK\r\n[^]*"user_id":"1"/);
          assert.match((await run("/bin/sh", ["-c", `${line.replace(token, "wrong")} --silent`])).stdout, /^HTTP\/1\.1 401/);
          while (!/"reason":"invalid_token"/.test(later())) await new Promise(setImmediate);
          assert.doesNotMatch(later(), /wrangler:info/);
        });
      }
      assert.equal(lines[0], lines[1]);
    } finally {
      rmSync(state, { recursive: true, force: true });
    }
  });
});

describe("wrangler dev", () => {
  const folders = [];
  const folder = () => folders[folders.push(temporaryFolder()) - 1];
  after(() => folders.forEach((name) => rmSync(name, { recursive: true, force: true })));

  test("a token from the settings", () =>
    developing(folder(), { WORKER_AUTH_TOKEN: TOKEN }, async (ask, logged) => {
      assert.deepEqual(await ask(), REFUSED);
      assert.deepEqual(await ask(TOKEN), SERVED);
      assert.equal((await ask(`${TOKEN}x`))[0], 401);
      const log = await logged(/"reason":"invalid_token"/);
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
      assert.ok(!(await logged(/"reason":"invalid_token"/)).includes(token), "and not shown again");
    });
  });

  test("the environment for developers that wrangler.toml has as a comment", async () => {
    const state = folder();
    const text = readFileSync(path.join(ROOT, "wrangler.toml"), "utf8");
    const block = /^# \[env\.dev\]\n(# .*\n)+/m.exec(text)[0];
    const config = text.replace(block, block.replaceAll(/^# /gm, "")).replace(/^\[build\]\n(.+\n)*/m, "").replace(/^main = "(.*)"/m, (_, main) => `main = ${JSON.stringify(path.join(ROOT, main))}`);
    // In a folder of its own, so that no settings but these are found.
    const file = writeFile(path.join(folder(), "wrangler.toml"), config);
    await developing(
      state,
      {},
      async (ask, logged, url) => {
        // As on Cloudflare's network, where nothing is generated without the arbiter.
        const response = await fetch(`${url}/v1/models`, { headers: { "CF-Ray": "230b030023ae2822-SJC" } });
        assert.deepEqual([response.status, await response.json()], REFUSED);
        const [, token] = /Authorization: Bearer (\S+)\s/.exec(await logged(/Authorization: Bearer \S+\s/));
        secret("the token that wrangler showed", token);
        assert.deepEqual(await ask(token), SERVED);
      },
      ["--config", file, "--env", "dev"],
    );
  });
});
