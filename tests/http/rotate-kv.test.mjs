// `nodetool-auth token rotate --kv`: its steps, what it does when one of them fails, and what anyone else gets to see of it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";

import { until } from "./support/gateway.mjs";
import { NATIVE_BINARY, TOKEN, temporaryFolder } from "./support/hosts.mjs";
import { listen } from "./support/servers.mjs";
import { secret, transcript } from "./support/transcripts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const sha256 = (token) => createHash("sha256").update(token).digest("hex");
const OTHER = "test-other-0123456789-ijklmnop";
secret("another token of the tests", OTHER);
const MADE = /^[A-Za-z0-9_-]{43}$/;

/** What a rotation printed, alone, in JSON or in a script. */
const noteMade = (stdout) => {
  for (const [token] of stdout.matchAll(/(?<![\w-])[\w-]{43}(?![\w-])/g)) secret("a new token", token);
};

/** Plays `npx wrangler kv key …` on a file, and writes down how it was called. */
const NPX = `#!/usr/bin/env node
const fs = require("node:fs");
const [folder, args] = [__dirname, process.argv.slice(2)];
const [command, key] = [args[3], args[4]];
const file = folder + "/value";
const option = (name) => args.find((arg) => arg.startsWith("--" + name + "="))?.split("=")[1];
const fails = fs.existsSync(folder + "/fails") ? fs.readFileSync(folder + "/fails", "utf8") : "";
const call = { args };
if (command === "put") {
  call.mode = option("path") === "/dev/stdin" ? 0o600 : fs.statSync(option("path")).mode & 0o777;
  call.value = fs.readFileSync(option("path"), "utf8");
}
fs.appendFileSync(folder + "/calls", JSON.stringify(call) + "\\n");
const count = fs.readFileSync(folder + "/calls", "utf8").split("\\n").filter((line) => line && JSON.parse(line).args[3] === command).length;
if (fails === command || fails === command + count) {
  console.error("X [ERROR] A request to the Cloudflare API failed. Authentication error [code: 10000]");
  process.exit(1);
}
// Somebody else has written in between.
if (fs.existsSync(folder + "/before-" + command + count)) fs.renameSync(folder + "/before-" + command + count, file);
const exists = fs.existsSync(file);
if (command === "put") fs.writeFileSync(file, call.value);
else if (command === "list") console.log(JSON.stringify(exists ? [{ name: "worker_auth_token" }] : [], null, 2));
else if (exists) process.stdout.write(fs.readFileSync(file));
else if (args.includes("--local")) console.log("Value not found");
else {
  console.error("X [ERROR] Failed to fetch /accounts/x/storage/kv/namespaces/y/values/worker_auth_token - 404: Not Found");
  process.exit(1);
}
`;

/** A KV that is a file, and a gateway that takes from it what a Worker would, after \`lag\` requests. */
async function withKv({ value, lag = 0, answer }, body) {
  const folder = temporaryFolder();
  const file = (name) => path.join(folder, name);
  writeFileSync(file("npx"), NPX, { mode: 0o755 });
  if (value !== undefined) writeFileSync(file("value"), value);
  const kv = {
    get: () => (existsSync(file("value")) ? readFileSync(file("value"), "utf8") : undefined),
    set: (text) => writeFileSync(file("value"), text),
    tokens: () => JSON.parse(kv.get()).tokens,
    setBefore: (call, text) => writeFileSync(file(`before-${call}`), text),
    failAt: (call) => writeFileSync(file("fails"), call),
    calls: (command) => (existsSync(file("calls")) ? readFileSync(file("calls"), "utf8").trim().split("\n").map((line) => JSON.parse(line)) : []).filter(({ args }) => !command || args[3] === command),
    probes: [],
  };
  const passes = (token) => {
    const now = Date.now() / 1000;
    const list = kv.get()?.startsWith("{") ? kv.tokens() : [{ sha256: sha256(kv.get() ?? "") }];
    return list.some(({ sha256: hash, not_after: end }) => hash === sha256(token) && (end === undefined || Math.floor(now) <= end));
  };
  const server = http.createServer((request, response) => {
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? "")?.[1];
    kv.probes.push(token);
    if (answer) return answer(response);
    const isKnown = token !== undefined && passes(token) && (lag -= 1) < 0;
    if (isKnown) return response.end('{"user_id":"1","token_type":"static","role":null}');
    response.writeHead(401, { "www-authenticate": "Bearer" }).end('{"detail":"no"}');
  });
  const { url, stop } = await listen(server);
  const temporary = path.join(folder, "tmp");
  mkdirSync(temporary);
  const env = { PATH: `${folder}:${process.env.PATH}`, TMPDIR: temporary };
  const run = (command, args, input = "") => {
    const child = spawn(command, args, { env, cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    const write = transcript("native", "stderr");
    child.stdout.setEncoding("utf8").on("data", (text) => (output.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => {
      output.stderr += text;
      if (command === NATIVE_BINARY) write(text);
    });
    child.stdin.on("error", () => {}).end(input);
    return { child, output, ended: new Promise((resolve) => child.on("close", (code) => (noteMade(output.stdout), resolve({ code, ...output })))) };
  };
  const start = (...args) => run(NATIVE_BINARY, ["token", "rotate", "--kv", "--url", url, "--settle", "0s", ...args]);
  try {
    await body({ kv, url, run, start, rotate: (...args) => start(...args).ended, passes });
  } finally {
    await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("token rotate --kv --run", () => {
  test("adds, tries, prints, and only then gives the old one its end", () =>
    withKv({ value: `${TOKEN}\n`, lag: 2 }, async ({ kv, rotate, passes }) => {
      const began = Math.floor(Date.now() / 1000);
      const { code, stdout, stderr } = await rotate("--run", "--overlap", "10m");
      assert.equal(code, 0, stderr);
      const made = stdout.trim();
      assert.match(made, MADE);
      assert.equal(stdout, `${made}\n`);
      const [both, after] = kv.calls("put").map(({ value }) => JSON.parse(value));
      assert.deepEqual(both, { tokens: [{ name: "main", sha256: sha256(TOKEN) }, { name: "main", sha256: sha256(made) }] });
      const [{ not_after: end }] = after.tokens;
      assert.deepEqual(after, { tokens: [{ ...both.tokens[0], not_after: end }, both.tokens[1]] });
      assert.ok(end >= began + 600 && end <= Date.now() / 1000 + 600);
      assert.ok(passes(TOKEN) && passes(made));
      // The new one has to pass several times in a row, and nobody is asked with the old one.
      assert.deepEqual(kv.probes, [undefined, ...Array(7).fill(made)]);
      assert.match(stderr, /1\/3[^]*2\/3[^]*3\/3.*ends at \d{4}-/);
      assert.ok(!stderr.includes(made) && !stderr.includes(TOKEN));
    }));

  test("no token and no hash is on a command line, or in a file that others could read", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate }) => {
      const { stdout } = await rotate("--run", "--overlap", "1m");
      for (const { args, mode } of kv.calls()) {
        const line = args.join(" ");
        for (const secret of [TOKEN, stdout.trim()]) assert.ok(!line.includes(secret) && !line.includes(sha256(secret)), line);
        if (mode !== undefined) assert.equal(mode, 0o600);
        if (args[3] === "put") assert.ok(!existsSync(args.find((arg) => arg.startsWith("--path=")).slice(7)), "nothing is left");
      }
    }));

  test("without an overlap the old one ends at once, after the new one passes", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate }) => {
      const { stdout } = await rotate("--run");
      assert.deepEqual(kv.tokens(), [{ name: "main", sha256: sha256(stdout.trim()) }]);
    }));

  test("the first token of all", async () => {
    for (const options of [["--local"], []]) {
      await withKv({}, async ({ kv, rotate }) => {
        const { code, stdout, stderr } = await rotate("--run", ...options);
        assert.equal(code, 0, stderr);
        assert.deepEqual(kv.tokens(), [{ name: "main", sha256: sha256(stdout.trim()) }]);
        assert.equal(kv.calls("put").length, 1);
        assert.match(stderr, /none before/);
      });
    }
  });

  test("one of several, and the others do not notice", () => {
    const others = [{ name: "laptop", sha256: sha256("b") }, { sha256: sha256("c"), not_after: 4_102_444_800 }, { name: "gone", sha256: sha256("d"), not_after: 1 }];
    const ci = { name: "ci", sha256: sha256(TOKEN) };
    return withKv({ value: JSON.stringify({ tokens: [ci, { ...ci, sha256: sha256("e"), not_after: 1 }, ...others] }) }, async ({ kv, rotate }) => {
      const which = await rotate("--run");
      assert.deepEqual([which.code, which.stdout], [1, ""]);
      assert.match(which.stderr, /--name.*"ci", "laptop".*Nothing was changed/);
      assert.match((await rotate("--run", "--name", "phone")).stderr, /no token in KV is named "phone"/);
      assert.equal(kv.calls("put").length, 0);
      const { stdout } = await rotate("--run", "--name", "ci", "--overlap", "1h", "--json");
      const { token, name, sha256: hash, previous } = JSON.parse(stdout);
      assert.deepEqual([name, hash, previous.length, previous[0].sha256], ["ci", sha256(token), 1, ci.sha256]);
      assert.deepEqual(kv.tokens(), [{ ...ci, not_after: previous[0].not_after }, ...others, { name: "ci", sha256: hash }]);
    });
  });

  test("the namespace is the one that was named", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate }) => {
      await rotate("--run");
      await rotate("--run", "--env", "dev", "--config", "some where/wrangler.toml", "--local", "--persist-to", "state", "--binding", "OTHER");
      await rotate("--run", "--namespace-id", "abc");
      const lines = kv.calls().map(({ args }) => args.filter((arg) => !arg.startsWith("--path=")).join(" "));
      const common = "worker_auth_token";
      const lists = ["--binding=AUTH_KV --remote --preview=false", "--binding=OTHER --local --preview=false --env=dev --config=some where/wrangler.toml --persist-to=state", "--namespace-id=abc --remote --preview=false"];
      assert.deepEqual(lines, lists.flatMap((options) => ["get", "put", "get", "put"].map((command) => `wrangler kv key ${command} ${common} ${options}`)));
    }));
});

describe("token rotate --kv --run changes nothing when", () => {
  const refuses = (title, options, args, said) =>
    test(title, () =>
      withKv({ value: TOKEN, ...options }, async ({ kv, url, rotate }) => {
        if (options.fails) kv.failAt(options.fails);
        const before = kv.get();
        const { code, stdout, stderr } = await rotate("--run", ...args);
        assert.deepEqual([code, stdout, kv.get(), kv.calls("put").length], [1, "", before, 0]);
        assert.match(stderr, said);
        assert.ok(!stderr.includes("panicked"), stderr);
        void url;
      }));

  const json = (status, body, headers) => (response) => response.writeHead(status, headers).end(JSON.stringify(body));
  refuses("the URL is of something else", { answer: (response) => response.end("<html>") }, [], /not ready.*answers 200, and not as this gateway/);
  refuses("it leads elsewhere", { answer: (response) => response.writeHead(302, { location: "https://example.com" }).end() }, [], /answers 302/);
  refuses("nothing asks for a token there", { answer: json(200, { token_type: "none" }) }, [], /nothing asks for a token/);
  refuses("anyone passes there", { answer: json(200, { token_type: "static" }) }, [], /lets in whoever brings no token/);
  refuses("the gateway is misconfigured", { answer: json(500, { detail: "Authentication is misconfigured" }) }, [], /500: Authentication is misconfigured/);
  refuses("nobody answers", { answer: (response) => response.destroy() }, [], /is not ready/);
  refuses("wrangler may not read", { fails: "get" }, [], /Authentication error[^]*wrangler login[^]*Nothing was changed/);
  refuses("KV holds what no Worker takes", { value: '{"tokens":[{"sha256":"12"}]}' }, [], /not 64 hexadecimal digits.*nothing was changed/);
  refuses("KV holds what another Worker may take", { value: JSON.stringify({ tokens: [{ sha256: sha256("x"), paths: [] }] }) }, [], /unknown/);

  test("the token would go over a network unencrypted, or the arguments are wrong", () =>
    withKv({ value: TOKEN }, async ({ kv, run }) => {
      for (const [args, said] of [
        [["--kv", "--url", "http://api.example.com", "--run"], /must be https/],
        [["--kv", "--url", "api.example.com", "--run"], /must be like https/],
        [["--kv", "--url", "https://api.example.com/v1", "--run"], /no path/],
        [["--kv", "--run"], /--url/],
        [["--run"], /--kv/],
        [["--kv", "--url", "https://api.example.com", "--persist-to", "x"], /--local/],
        [["--kv", "--url", "https://api.example.com", "--nodetool-config-path", "x"], /cannot be used with/],
      ]) {
        const { code, stdout, stderr } = await run(NATIVE_BINARY, ["token", "rotate", ...args]).ended;
        assert.deepEqual([code, stdout], [1, ""], args.join(" "));
        assert.match(stderr, said);
      }
      assert.deepEqual(kv.calls(), []);
    }));

  test("there is no npx", () =>
    withKv({ value: TOKEN }, async ({ url }) => {
      const child = spawn(NATIVE_BINARY, ["token", "rotate", "--kv", "--url", url, "--run"], { env: { PATH: "/nowhere" }, stdio: ["ignore", "pipe", "pipe"] });
      let said = "";
      child.stderr.on("data", (text) => (said += text));
      assert.equal(await new Promise((resolve) => child.on("close", resolve)), 1);
      assert.match(said, /npx.*nodejs\.org/);
    }));
});

describe("token rotate --kv --run that fails halfway leaves the old token without an end", () => {
  const isUnharmed = (kv, passes) => {
    assert.ok(passes(TOKEN));
    const old = kv.get().startsWith("{") ? kv.tokens().find(({ sha256: hash }) => hash === sha256(TOKEN)) : {};
    assert.equal(old.not_after, undefined);
  };
  const worksAgain = async ({ kv, rotate }) => {
    kv.failAt("");
    const { code, stdout, stderr } = await rotate("--run");
    assert.equal(code, 0, stderr);
    assert.deepEqual(kv.tokens(), [{ name: "main", sha256: sha256(stdout.trim()) }], "and nothing of the first try is left");
  };

  test("when the new one cannot be added", () =>
    withKv({ value: TOKEN }, async (all) => {
      all.kv.failAt("put1");
      const { code, stdout, stderr } = await all.rotate("--run", "--overlap", "1m");
      assert.deepEqual([code, stdout], [1, ""]);
      assert.match(stderr, /old token goes on/);
      isUnharmed(all.kv, all.passes);
      await worksAgain(all);
    }));

  test("when the new one does not pass in time", () =>
    withKv({ value: TOKEN, lag: 3 }, async (all) => {
      const { code, stdout, stderr } = await all.rotate("--run", "--timeout", "1s");
      assert.deepEqual([code, stdout], [1, ""]);
      assert.match(stderr, /did not accept.*401.*WORKER_AUTH_TOKEN.*--timeout/);
      isUnharmed(all.kv, all.passes);
      await worksAgain(all);
    }));

  test("when it is interrupted while it waits", () =>
    withKv({ value: TOKEN, lag: 1_000_000 }, async ({ kv, start, passes }) => {
      const { child, ended } = start("--run");
      await until("it waits", 10_000, async () => kv.probes.length > 2);
      child.kill("SIGINT");
      assert.notEqual((await ended).code, 0);
      isUnharmed(kv, passes);
    }));

  test("when the old one cannot be given its end: the new one is printed, and the command that is left", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate, run, passes }) => {
      kv.failAt("put2");
      const { code, stdout, stderr } = await rotate("--run", "--overlap", "1h");
      assert.equal(code, 1);
      assert.match(stdout.trim(), MADE);
      isUnharmed(kv, passes);
      kv.failAt("");
      const [, command] = /has no end yet: run `(.*)`/.exec(stderr);
      assert.equal((await run("/bin/sh", ["-c", command]).ended).code, 0);
      assert.deepEqual(kv.tokens().map(({ not_after: end }) => typeof end), ["number", "undefined"]);
      assert.ok(passes(TOKEN) && passes(stdout.trim()));
    }));

  test("when nobody reads what it prints", () =>
    withKv({ value: TOKEN }, async ({ kv, start, passes }) => {
      const { child, ended } = start("--run");
      child.stdout.destroy();
      assert.equal((await ended).code, 1);
      isUnharmed(kv, passes);
    }));

  test("when somebody else has overwritten it meanwhile: what they wrote stays", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate }) => {
      const theirs = JSON.stringify({ tokens: [{ name: "theirs", sha256: sha256(OTHER) }] });
      kv.setBefore("get2", theirs);
      const { code, stdout, stderr } = await rotate("--run");
      assert.equal(code, 1);
      assert.match(stdout, /^[\w-]{43}\n$/);
      assert.match(stderr, /somebody else/);
      assert.equal(kv.get(), theirs);
    }));

  test("when KV still tells what was there before, that is no reason to stop", () =>
    withKv({ value: TOKEN }, async ({ kv, rotate }) => {
      kv.setBefore("get2", TOKEN);
      const { code, stdout } = await rotate("--run");
      assert.equal(code, 0);
      assert.deepEqual(kv.tokens(), [{ name: "main", sha256: sha256(stdout.trim()) }]);
    }));
});

test("token rotate --kv --run: what others add meanwhile stays", () =>
  withKv({ value: TOKEN }, async ({ kv, start }) => {
    const { ended } = start("--run", "--overlap", "1h");
    await until("it waits", 10_000, async () => kv.probes.length > 1);
    const theirs = { name: "theirs", sha256: sha256(OTHER) };
    kv.set(JSON.stringify({ tokens: [...kv.tokens(), theirs] }));
    const { code, stdout, stderr } = await ended;
    assert.equal(code, 0, stderr);
    const [old, made, third] = kv.tokens();
    assert.deepEqual([typeof old.not_after, made.sha256, third], ["number", sha256(stdout.trim()), theirs]);
  }));

describe("token rotate --kv", () => {
  test("prints a script, and changes nothing until somebody runs it", () =>
    withKv({ value: JSON.stringify({ tokens: [{ name: "it's \"$HOME\"", sha256: sha256(TOKEN) }] }) }, async ({ kv, rotate, run, passes }) => {
      const before = kv.get();
      const { code, stdout, stderr } = await rotate("--overlap", "5m");
      assert.equal(code, 0, stderr);
      assert.deepEqual([kv.get(), kv.calls("put").length, kv.probes.length], [before, 0, 0]);
      const [, made] = /^TOKEN='([\w-]{43})'$/m.exec(stdout);
      const script = await run("/bin/sh", [], stdout).ended;
      assert.equal(script.code, 0, script.stderr);
      assert.deepEqual(kv.probes, [made]);
      const [old, made_] = kv.tokens();
      assert.deepEqual([old.name, made_], ["it's \"$HOME\"", { name: "it's \"$HOME\"", sha256: sha256(made) }]);
      assert.ok(Math.abs(old.not_after - Date.now() / 1000 - 300) < 20, String(old.not_after));
      assert.ok(passes(TOKEN) && passes(made));
      for (const { args } of kv.calls("put")) assert.ok(!/[0-9a-f]{64}/.test(args.join(" ")), "no hash is on a command line");
    }));
});
