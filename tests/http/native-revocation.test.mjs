// What each change of the deployment file does to the tokens in it: in a running gateway, and after a restart.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { eventually, withGateway } from "./support/gateway.mjs";
import { TOKEN, spawnNative, withHome, withHost } from "./support/hosts.mjs";
import { legacyToken } from "./support/jwt.mjs";
import { ask, request, status } from "./support/raw.mjs";
import { secret } from "./support/transcripts.mjs";

const LISTED = "test-listed-0123456789-ijklmnop";
const OTHER = "test-other-0123456789-ijklmnop";
secret("a token of a list", LISTED);
secret("a later token", OTHER);
const PROVIDER = { AUTH_PROVIDER: "static" };
const NOT_CONFIGURED = [503, "No authentication token is configured"];
const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

const hash = (token) => createHash("sha256").update(token).digest("hex");
const line = (token) => `worker_auth_token: ${token}\n`;
const list = (...tokens) => (tokens.length ? `accepted_tokens:\n${tokens.map((token) => `  - sha256: ${hash(token)}\n`).join("")}` : "accepted_tokens: []\n");
const BOTH = line(TOKEN) + list(LISTED);

const serving = (options, body) => withHost("native", { settings: PROVIDER, ...options }, body);

/** Status and detail of a request with this token, or without one. */
async function told(host, token) {
  const headers = token ? [["Host", "x"], ["Authorization", `Bearer ${token}`]] : [["Host", "x"]];
  const answer = await ask(host.port, request({ target: "/v1/models", headers }));
  return [answer.status, JSON.parse(answer.body).detail];
}

const write = (text) => (file) => writeFileSync(file, text);

describe("revokes within seconds", () => {
  for (const [title, change, said, mend = () => {}] of [
    ["the key deleted", write("a: 1\n"), /there is no token in it/],
    ["the key blank", write("worker_auth_token:\n"), /there is no token in it/],
    ["an empty file", write(""), /there is no token in it/],
    ["the key deleted and the list emptied", write(list()), /there is no token in it/],
    ["the file deleted", (file) => rmSync(file), /the file is gone/],
    ["its folder deleted", (file) => rmSync(path.dirname(file), { recursive: true }), /the file is gone/, (file) => mkdirSync(path.dirname(file), { mode: 0o700 })],
    ["a link to nothing in its place", (file) => (rmSync(file), symlinkSync("nothing", file)), /the file is gone/, (file) => rmSync(file)],
  ]) {
    test(title, () =>
      withHome(BOTH, (home, file) =>
        serving({ home }, async (host) => {
          assert.deepEqual([await status(host, TOKEN), await status(host, LISTED)], [200, 200]);
          const began = Date.now();
          change(file);
          await eventually("the token is revoked", async () => (await status(host, TOKEN)) === 503);
          assert.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
          for (const token of [TOKEN, LISTED, undefined]) assert.deepEqual(await told(host, token), NOT_CONFIGURED);
          await eventually("it is said", () => said.test(host.log()) || host.log());
          assert.match(host.log(), /WARN.*no static token is accepted.*token rotate/);
          mend(file);
          writeFileSync(file, line(OTHER));
          await eventually("a new one is taken up", async () => (await status(host, OTHER)) === 200);
          assert.equal(await status(host, TOKEN), 401);
        }),
      ),
    );
  }

  test("an emptied list beside a token is no further tokens", () =>
    withHome(BOTH, (home, file) =>
      serving({ home }, async (host) => {
        writeFileSync(file, line(TOKEN) + list());
        await eventually("the listed one is revoked", async () => (await status(host, LISTED)) === 401);
        assert.equal(await status(host, TOKEN), 200);
        writeFileSync(file, line(OTHER) + list());
        await eventually("another one is taken up", async () => (await status(host, OTHER)) === 200);
        assert.equal(await status(host, TOKEN), 401);
        assert.doesNotMatch(host.log(), /ERROR/);
      }),
    ));

  test("the key deleted beside a list", () =>
    withHome(BOTH, (home, file) =>
      serving({ home }, async (host) => {
        writeFileSync(file, list(LISTED));
        await eventually("it is revoked", async () => (await status(host, TOKEN)) === 401);
        assert.equal(await status(host, LISTED), 200);
      }),
    ));

  test("an entry of the list deleted, of which the others stay", () =>
    withHome(line(TOKEN) + list(LISTED, OTHER), (home, file) =>
      serving({ home }, async (host) => {
        assert.equal(await status(host, OTHER), 200);
        writeFileSync(file, line(TOKEN) + list(LISTED));
        await eventually("it is revoked", async () => (await status(host, OTHER)) === 401);
        assert.deepEqual([await status(host, LISTED), await status(host, TOKEN)], [200, 200]);
      }),
    ));

  test("on SIGHUP as well, and not because of it alone", () =>
    withHome(BOTH, (home, file) =>
      serving({ home }, async (host) => {
        rmSync(file);
        host.child.kill("SIGHUP");
        await eventually("it is revoked", async () => (await status(host, TOKEN)) === 503);
      }),
    ));

  test("under supabase, where users go on", () =>
    withGateway("native", { settings: { WORKER_AUTH_TOKEN: undefined } }, async (gateway) => {
      const { host } = gateway;
      const [, token] = /^worker_auth_token: (\S+)/m.exec(readFileSync(host.config, "utf8"));
      const claims = gateway.claims();
      await gateway.acceptsStatic(token);
      rmSync(host.config);
      await eventually("it is revoked", async () => (await status(host, token)) === 401);
      await gateway.accepts(legacyToken(claims), claims);
    }));
});

describe("revokes nothing", () => {
  test("an editor that deletes the file and writes it anew", () =>
    withHome(BOTH, (home, file) =>
      serving({ home }, async (host) => {
        let isOver = false;
        const statuses = new Set();
        const client = (async () => {
          while (!isOver) statuses.add(await status(host, TOKEN));
        })();
        for (let round = 0; round < 12; round += 1) {
          renameSync(file, `${file}~`);
          await sleep(150);
          writeFileSync(file, "");
          await sleep(150);
          writeFileSync(file, BOTH);
          await sleep(170);
        }
        isOver = true;
        await client;
        assert.deepEqual([...statuses], [200]);
        assert.doesNotMatch(host.log(), /gone|no token/);
      }),
    ));

  for (const [title, change, back, said] of [
    ["a file that cannot be parsed", write("a: [\n"), () => {}, /line 2, column 1/],
    ["a file with an unusable token", write("worker_auth_token: a b\n"), () => {}, /white space/],
    ["a file that cannot be read", (file) => (rmSync(file), mkdirSync(file)), (file) => rmdirSync(file), /a folder, not a file/],
  ]) {
    test(title, () =>
      withHome(BOTH, (home, file) =>
        serving({ home }, async (host) => {
          change(file);
          await eventually("it is said", () => said.test(host.log()) || host.log());
          assert.match(host.log(), /ERROR.*stay in force, for an hour at most/);
          assert.deepEqual([await status(host, TOKEN), await status(host, LISTED), await status(host, OTHER)], [200, 200, 401]);
          back(file);
          writeFileSync(file, line(OTHER));
          await eventually("it is taken up", async () => (await status(host, OTHER)) === 200);
          assert.equal(await status(host, TOKEN), 401);
        }),
      ),
    );
  }
});

describe("after a restart", () => {
  const TOKEN_LINE = /^worker_auth_token: ([\w-]{43})$/m;

  for (const [title, text] of [["no file", null], ["no key", "a: 1\n"], ["a blank key, and a blank list", "worker_auth_token:\naccepted_tokens:\n"]]) {
    test(`${title}: a new token is made, and shown`, () =>
      withHome(text, (home, file) =>
        serving({ home }, async (host) => {
          const [, made] = TOKEN_LINE.exec(readFileSync(file, "utf8"));
          assert.equal(await status(host, made), 200);
          assert.ok(host.output.stdout.includes(`Authorization: Bearer ${made}`));
        }),
      ));
  }

  test("an emptied list: none is made, and every request is answered as before it", () =>
    withHome(list(), (home, file) =>
      serving({ home }, async (host) => {
        for (const token of [TOKEN, undefined]) assert.deepEqual(await told(host, token), NOT_CONFIGURED);
        assert.equal(readFileSync(file, "utf8"), list());
        assert.match(host.log(), /WARN.*there is no token in it; no static token is accepted.*token rotate/);
        for (const [args, said] of [[["token", "show"], /holds no token.*token rotate/], [["check"], /accepted_tokens is empty/]]) {
          const { code, stdout, stderr } = await spawnNative({ home, settings: PROVIDER, args }).exited;
          assert.equal(code, 1);
          assert.match(stdout + stderr, said);
        }
        assert.equal((await spawnNative({ home, args: ["token", "rotate"] }).exited).code, 0);
        const [, made] = TOKEN_LINE.exec(readFileSync(file, "utf8"));
        await eventually("the new one is taken up", async () => (await status(host, made)) === 200);
      }),
    ));

  test("an emptied list beside a token: the token is accepted", () =>
    withHome(line(TOKEN) + list(), (home) => serving({ home }, async (host) => assert.deepEqual([await status(host, TOKEN), await status(host, LISTED)], [200, 401]))));

  for (const [title, text, said] of [["cannot be parsed", "a: [\n", /line 2, column 1/], ["has an unusable token", "worker_auth_token: a b\n", /white space/], ["has a control character", "a: 1\nb: \x7f\n", /line 2, column 4: .*U\+007F/]]) {
    test(`a file that ${title} keeps the gateway from starting`, () =>
      withHome(text, async (home, file) => {
        const { code, stderr } = await spawnNative({ home, settings: { ...PROVIDER, AUTH_LISTEN: "127.0.0.1:0" } }).exited;
        assert.equal(code, 1);
        assert.match(stderr, said);
        assert.ok(stderr.includes(file), stderr);
        assert.equal(readFileSync(file, "utf8"), text);
      }));
  }
});

describe("server_auth_token", () => {
  const token = (home, ...args) => spawnNative({ home, args: ["token", ...args] }).exited;

  for (const [title, before] of [["alone", ""], ["where worker_auth_token is blank", "worker_auth_token:\n"]]) {
    test(`is the token: ${title}`, () =>
      withHome(`${before}server_auth_token: "${TOKEN}" # of NodeTool\nb: 2\n`, (home, file) =>
        serving({ home }, async (host) => {
          assert.deepEqual([await status(host, TOKEN), await status(host, OTHER)], [200, 401]);
          assert.match((await token(home, "show")).stdout, /^Key: server_auth_token$/m);
          assert.equal(JSON.parse((await token(home, "show", "--json")).stdout).key, "server_auth_token");
          assert.equal(JSON.parse((await token(home, "path", "--json")).stdout).key, "server_auth_token");
          assert.match((await spawnNative({ home, settings: PROVIDER, args: ["check"] }).exited).stdout, /server_auth_token, from: Config file/);
          const made = (await token(home, "rotate", "--reveal")).stdout.trim();
          assert.equal(readFileSync(file, "utf8"), `${before}server_auth_token: ${made} # of NodeTool\nb: 2\n`);
          await eventually("it is taken up", async () => (await status(host, made)) === 200);
          assert.equal(await status(host, TOKEN), 401);
        }),
      ));
  }

  test("beside a different worker_auth_token is not accepted, which is said, and a rotation leaves no stale one", () =>
    withHome(`server_auth_token: ${OTHER}\n${line(TOKEN)}`, (home, file) =>
      serving({ home }, async (host) => {
        assert.deepEqual([await status(host, TOKEN), await status(host, OTHER)], [200, 401]);
        const said = /worker_auth_token and server_auth_token in .* differ: worker_auth_token is accepted, server_auth_token is not/;
        assert.match(host.log(), said);
        assert.match((await token(home, "show")).stderr, said);
        assert.match((await spawnNative({ home, settings: PROVIDER, args: ["check"] }).exited).stdout, said);
        const made = (await token(home, "rotate", "--overlap", "1h", "--reveal")).stdout.trim();
        assert.match(readFileSync(file, "utf8"), new RegExp(`^server_auth_token: ${made}\nworker_auth_token: ${made}\naccepted_tokens:\n`));
        await eventually("it is taken up", async () => (await status(host, made)) === 200);
        // Its overlap; the other one was never accepted.
        assert.deepEqual([await status(host, TOKEN), await status(host, OTHER)], [200, 401]);
        writeFileSync(file, `server_auth_token: ${made}\n`);
        await eventually("the overlap is withdrawn", async () => (await status(host, TOKEN)) === 401);
        assert.deepEqual([await status(host, made), await status(host, OTHER)], [200, 401]);
      }),
    ));
});
