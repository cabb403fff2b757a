// A token rotated under load at the edge: the real `wrangler`, the real Worker in `wrangler dev`, and no request that fails.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { until } from "./support/gateway.mjs";
import { NATIVE_BINARY, ROOT, TOKEN, temporaryFolder } from "./support/hosts.mjs";
import { secret, transcript } from "./support/transcripts.mjs";
import { WRANGLER_ENV as env, developing } from "./support/wrangler.mjs";

const run = promisify(execFile);

/** Clients that ask again and again, with whatever `token()` is at the time, until they are stopped. */
function load(url, count, token) {
  const failures = [];
  const served = new Map();
  let isOver = false;
  const client = async () => {
    while (!isOver) {
      const presented = token();
      const answer = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${presented}` } }).then(
        async (response) => `${response.status} ${await response.text()}`,
        (error) => String(error),
      );
      if (answer.startsWith("200 ")) served.set(presented, (served.get(presented) ?? 0) + 1);
      else failures.push([presented === TOKEN ? "the old token" : "the new token", answer]);
      await sleep(15);
    }
  };
  const clients = Array.from({ length: count }, client);
  return {
    failures,
    served,
    async stop() {
      isOver = true;
      await Promise.all(clients);
    },
  };
}

test("edge: no request fails while a token is rotated", { timeout: 400_000 }, async () => {
  const state = temporaryFolder();
  const kv = (...args) => run("npx", ["wrangler", "kv", "key", ...args, "--local", "--persist-to", state, "--binding", "AUTH_KV"], { cwd: ROOT, env });
  const rotate = (url, ...args) => ["token", "rotate", "--kv", "--url", url, "--local", "--persist-to", state, "--settle", "0s", ...args];
  try {
    await kv("put", "worker_auth_token", TOKEN);
    await developing(state, { AUTH_PROVIDER: "static" }, async (ask, logged, url) => {
      let newest = TOKEN;
      // Some clients change over with the moment that the new token is printed, the others take their time.
      const quick = load(url, 4, () => newest);
      const slow = load(url, 4, () => TOKEN);
      await until("the load has begun", 10_000, async () => (slow.served.get(TOKEN) ?? 0) > 50);

      const rotation = spawn(NATIVE_BINARY, rotate(url, "--run", "--overlap", "40s"), { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
      let said = "";
      const write = transcript("native", "stderr");
      rotation.stderr.setEncoding("utf8").on("data", (text) => {
        said += text;
        write(text);
      });
      rotation.stdout.setEncoding("utf8").once("data", (text) => (newest = text.trim()));
      const code = await new Promise((resolve) => rotation.once("close", resolve));
      assert.equal(code, 0, said);
      assert.match(newest, /^[\w-]{43}$/);
      secret("a new token", newest);

      // The overlap is theirs to the end; nobody can be sure of a second more.
      const { tokens } = JSON.parse((await kv("get", "worker_auth_token")).stdout);
      const [{ not_after: end }, { not_after: none }] = tokens;
      assert.deepEqual([tokens.length, none], [2, undefined]);
      assert.ok(end * 1000 > Date.now() + 1000, "there is something left of the overlap");
      await sleep(end * 1000 - Date.now() - 500);
      await slow.stop();
      assert.deepEqual(slow.failures, []);
      await until("the old one has ended", 45_000, async () => (await ask(TOKEN))[0] === 401);

      // The same by hand: the script that is printed without --run.
      const first = newest;
      const { stdout: script } = await run(NATIVE_BINARY, rotate(url, "--overlap", "10m"), { cwd: ROOT, env });
      const sh = spawn("/bin/sh", { cwd: ROOT, env, stdio: ["pipe", "ignore", "pipe"] });
      let trouble = "";
      sh.stderr.setEncoding("utf8").on("data", (text) => (trouble += text));
      sh.stdin.end(script);
      assert.equal(await new Promise((resolve) => sh.once("close", resolve)), 0, trouble);
      newest = /^TOKEN='(.*)'$/m.exec(script)[1];
      secret("a new token", newest);
      await sleep(1000);
      await quick.stop();
      assert.deepEqual(quick.failures, []);
      assert.deepEqual([...quick.served.keys()], [TOKEN, first, newest]);
      for (const [token, count] of [...quick.served, ...slow.served]) assert.ok(count > 30, `${token.slice(0, 4)}: ${count}`);
      assert.equal((await ask(first))[0], 200, "which goes on for ten minutes");
      assert.ok(!(await logged(/Ready/)).includes(newest));
    });
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
});
