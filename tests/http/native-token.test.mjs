// The life of the static token natively: where it is written, how it is shown, changed and taken up by a running gateway.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { eventually, withGateway } from "./support/gateway.mjs";
import { NATIVE_BINARY, STATIC, TOKEN, gatherOutput, spawnNative, withHome, withHost, writeFile } from "./support/hosts.mjs";
import { legacyToken } from "./support/jwt.mjs";
import { request, status } from "./support/raw.mjs";
import { secret, secretsOfFile, transcript } from "./support/transcripts.mjs";

const PROVIDER = { AUTH_PROVIDER: "static" };
const OTHER = "test-other-0123456789-ijklmnop";
const test = (title, options, run) => nodeTest(title, { timeout: 60_000, ...(run ? options : {}) }, run ?? options);

const hash = (token) => createHash("sha256").update(token).digest("hex");
const masked = (token) => (token.length < 40 ? "***" : `${token.slice(0, 8)}...${token.slice(-4)}`);
const tokenIn = (file) => /^worker_auth_token: (\S+)/m.exec(readFileSync(file, "utf8"))?.[1];
const listing = (folder) => readdirSync(folder).filter((name) => !name.endsWith(".lock")).sort();

const serving = (options, body) => withHost("native", { settings: PROVIDER, ...options }, body);

/** `nodetool-auth token …` to its end. */
const token = (home, args, settings = {}) => spawnNative({ home, settings, args: ["token", ...args] }).exited;

/** Runs the gateway where `script` has changed what is mounted; nobody else sees that, and it ends with the process. */
function spawnMounted(home, script, args = ["serve"]) {
  const env = { PATH: process.env.PATH, HOME: home, NODETOOL_CONFIG_PATH: path.join(home, "nodetool", "deployment.yaml"), ...PROVIDER, AUTH_LISTEN: "127.0.0.1:0" };
  const child = spawn("unshare", [...UNSHARE, "sh", "-ec", `${script}; exec "$0" "$@"`, NATIVE_BINARY, ...args], { env, cwd: home, stdio: ["ignore", "pipe", "pipe"] });
  // What the script itself prints of the file is not said by the gateway.
  const output = gatherOutput(child, "native", script.includes("; cat ") ? "shell" : "stdout");
  const exited = new Promise((resolve) => child.on("close", (code) => resolve({ code, ...output })));
  return { child, output, exited };
}
const UNSHARE = process.getuid?.() === 0 ? ["-m"] : ["-Urm"];
const NO_MOUNTS = spawnSync("unshare", [...UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], { timeout: 10_000 }).status === 0 ? false : "nothing can be mounted here";

describe("deployment file", () => {
  test("a file that is a mount of its own is written in place", { skip: NO_MOUNTS }, async () => {
    await withHome("a: 1 # one\n", async (home, file) => {
      const outside = writeFile(path.join(home, "outside.yaml"), "b: 2 # two\nworker_auth_token:\n");
      execFileSync("chmod", ["644", outside]);
      const inode = statSync(outside).ino;
      const script = `mount --bind '${outside}' '${file}'`;
      const { child, output, exited } = spawnMounted(home, script);
      await eventually("it listens", () => output.stderr.includes("listening") || output.stderr);
      const made = tokenIn(outside);
      const port = /:(\d+)\n/.exec(output.stderr)[1];
      assert.match(made, /^[\w-]{43}$/);
      assert.equal(readFileSync(outside, "utf8"), `b: 2 # two\nworker_auth_token: ${made}\n`);
      assert.equal(readFileSync(file, "utf8"), "a: 1 # one\n", "what is under the mount is another file");
      // From a second mount of the same file, as another container has it: the first notices.
      const rotation = await spawnMounted(home, script, ["token", "rotate", "--overlap", "1h"]).exited;
      assert.equal(rotation.code, 0, rotation.stderr);
      await eventually("the new one passes", async () => (await status({ port }, tokenIn(outside))) === 200);
      assert.equal(await status({ port }, made), 200, "and so does the old one");
      assert.equal((await spawnMounted(home, script, ["token", "rotate"]).exited).code, 0);
      assert.equal(statSync(outside).ino, inode);
      assert.deepEqual(listing(path.dirname(file)), ["deployment.yaml"], "no copy is left");
      child.kill("SIGKILL");
      await exited;
      assert.match(output.stderr, /WARN.*mode is 0644.*chmod 600/, "its mode stays what it was, which is said");
    });
  });

  test("a full disk loses nothing, and leaves nothing behind", { skip: NO_MOUNTS }, async () => {
    // Root has no quota, so the disk is a small one, full but for nothing.
    await withHome(null, async (home, file) => {
      const folder = path.dirname(file);
      const text = `worker_auth_token: ${TOKEN}\n`;
      const script = `mount -t tmpfs -o size=8k none '${folder}'; printf '${text.replace("\n", "\\n")}' > '${file}'; dd if=/dev/zero of='${folder}/rest' bs=1k count=100 2>/dev/null || true`;
      const end = `; "$0" token rotate || echo "code $?"; ls -A '${folder}'; cat '${file}'; exec true`;
      const { stdout, stderr } = await spawnMounted(home, script + end).exited;
      assert.equal(stdout, `code 1\ndeployment.yaml\ndeployment.yaml.lock\nrest\n${text}`);
      assert.match(stderr, /No space left.*free some space.*WORKER_AUTH_TOKEN/);
    });
  });

  test("a mount that is full gets its old text back", { skip: NO_MOUNTS }, async () => {
    // A page that is almost full, on a disk without another one, over a file in a folder with room for a copy.
    const text = `worker_auth_token: ${TOKEN}\n`.padEnd(4089, "#") + "\n";
    await withHome(null, async (home, file) => {
      const [source, small] = [writeFile(path.join(home, "source"), text), path.join(home, "small")];
      writeFile(file, "");
      mkdirSync(small);
      const script = `mount -t tmpfs -o size=8k none '${small}'; cp '${source}' '${small}/file'; mount --bind '${small}/file' '${file}'; dd if=/dev/zero of='${small}/rest' bs=1k count=100 2>/dev/null || true`;
      const { stdout, stderr } = await spawnMounted(home, `${script}; "$0" token rotate --overlap 1h || echo "code $?"; cat '${file}'; exec true`).exited;
      assert.equal(stdout, `code 1\n${text}`);
      assert.match(stderr, /No space left.*free some space/);
      assert.deepEqual(listing(path.dirname(file)), ["deployment.yaml"], "no copy is left");
    });
  });

  test("a file system that is read-only is an error that names the way out", { skip: NO_MOUNTS }, async () => {
    await withHome("a: 1\n", async (home, file) => {
      const { code, stderr } = await spawnMounted(home, `mount --bind '${home}' '${home}'; mount -o remount,bind,ro '${home}'`).exited;
      assert.equal(code, 1);
      assert.match(stderr, /Read-only file system.*make the folder writable, or set WORKER_AUTH_TOKEN/);
      assert.ok(stderr.includes(file));
    });
  });

  test("behind a link whose target is not there yet it is made, and the link stays", async () => {
    await withHome(null, async (home, file) => {
      symlinkSync("../elsewhere/real.yaml", file);
      const target = path.join(home, "elsewhere", "real.yaml");
      await serving({ home }, async (host) => {
        assert.ok(lstatSync(file).isSymbolicLink());
        assert.equal(lstatSync(target).mode & 0o777, 0o600);
        assert.equal(lstatSync(path.dirname(target)).mode & 0o777, 0o700);
        assert.equal(await status(host, tokenIn(target)), 200);
      });
      assert.equal((await token(home, ["rotate"])).code, 0);
      assert.ok(lstatSync(file).isSymbolicLink());
      rmSync(file);
      symlinkSync("deployment.yaml", file);
      const { code, stderr } = await token(home, ["rotate"]);
      assert.equal(code, 1);
      assert.match(stderr, /symbolic links/);
    });
  });

  for (const [title, make, kind] of [
    ["a pipe", (file) => execFileSync("mkfifo", [file]), /named pipe/],
    ["a folder", (file) => mkdirSync(file), /folder/],
    ["a device", (file) => symlinkSync("/dev/zero", file), /device/],
    ["a link to a pipe", (file) => (execFileSync("mkfifo", [`${file}.pipe`]), symlinkSync(`${file}.pipe`, file)), /named pipe/],
  ]) {
    test(`${title} in its place is an error at once`, { timeout: 10_000 }, async () => {
      await withHome(null, async (home, file) => {
        make(file);
        for (const args of [["serve"], ["token", "rotate"], ["token", "show"]]) {
          const { child, exited } = spawnNative({ home, settings: { ...PROVIDER, AUTH_LISTEN: "127.0.0.1:0" }, args });
          const limit = setTimeout(() => child.kill("SIGKILL"), 2000);
          const { code, stderr } = await exited;
          clearTimeout(limit);
          assert.equal(code, 1);
          assert.match(stderr, kind);
          assert.ok(stderr.includes(file) && stderr.includes("WORKER_AUTH_TOKEN"), stderr);
        }
      });
    });
  }

  for (const [title, before, after] of [
    ["a comment behind a blank value", "worker_auth_token:   # mine\nb: 2\n", (token) => `worker_auth_token: ${token}   # mine\nb: 2\n`],
    ["Windows line ends", "a: 1\r\n# two\r\nb: 2\r\n", (token) => `a: 1\r\n# two\r\nb: 2\r\nworker_auth_token: ${token}\r\n`],
    ["Windows line ends, and a blank value", "worker_auth_token:\r\nb: 2\r\n", (token) => `worker_auth_token: ${token}\r\nb: 2\r\n`],
    ["a null", "worker_auth_token: null # none\n", (token) => `worker_auth_token: ${token} # none\n`],
  ]) {
    test(`what else is in it survives, byte for byte: ${title}`, async () => {
      await withHome(before, (home, file) =>
        serving({ home }, async (host) => {
          const made = tokenIn(file);
          assert.match(made, /^[\w-]{43}$/);
          assert.equal(readFileSync(file, "utf8"), after(made));
          assert.equal(await status(host, made), 200);
        }),
      );
    });
  }

  test("what root renews still belongs to its user", { skip: process.getuid?.() === 0 ? false : "only root can give a file away" }, async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
      execFileSync("chown", ["1234:2345", file]);
      assert.equal((await token(home, ["rotate"])).code, 0);
      for (const name of [file, `${file}.lock`]) {
        const { uid, gid, mode } = statSync(name);
        assert.deepEqual([uid, gid, mode & 0o777], [1234, 2345, 0o600], name);
      }
    });
  });

  describe("of another user, which root renews", { skip: process.getuid?.() === 0 ? false : "only root can give a file away" }, () => {
    const give = (...files) => execFileSync("chown", ["-h", "1234:2345", ...files]);
    const ownersOf = (files) => files.map((name) => [lstatSync(name).uid, lstatSync(name).gid, lstatSync(name).mode & 0o777]);

    for (const [title, arrange] of [
      ["the file", (home, file, target) => (symlinkSync(target, file), give(path.dirname(file), file), file)],
      ["the file, by a link that root made", (home, file, target) => (symlinkSync(target, file), give(path.dirname(file)), file)],
      ["the file, where the folder is everyone's", (home, file, target) => (symlinkSync(target, file), give(file), file)],
      ["the file behind a link of root", (home, file, target) => {
        const inner = path.join(home, "inner.yaml");
        symlinkSync(target, inner);
        symlinkSync(inner, file);
        give(inner);
        return inner;
      }],
      ["a folder above it", (home, file, target) => {
        const folder = path.dirname(file);
        rmdirSync(folder);
        symlinkSync(path.dirname(target), folder);
        give(home, folder);
        return folder;
      }],
    ]) {
      test(`a link of its is not followed: ${title}`, async () => {
        await withHome(null, async (home, file) => {
          const roots = mkdtempSync(path.join(os.tmpdir(), "nodetool-auth-test-"));
          const text = `worker_auth_token: ${TOKEN}\n`;
          const target = writeFile(path.join(roots, "deployment.yaml"), text);
          const link = arrange(home, file, target);
          try {
            for (const args of [["token", "rotate"], ["token", "rotate", "--overlap", "1h"]]) {
              const { code, stderr } = await spawnNative({ home, args }).exited;
              assert.equal(code, 1);
              assert.ok(stderr.includes(`${link} is a symbolic link of user 1234`) && stderr.includes("NODETOOL_CONFIG_PATH"), stderr);
            }
            assert.equal(readFileSync(target, "utf8"), text);
            assert.deepEqual(readdirSync(roots), ["deployment.yaml"]);
          } finally {
            rmSync(roots, { recursive: true });
          }
        });
      });
    }

    test("nothing below a folder of the user's is written but by the user's own rights", async () => {
      const text = `worker_auth_token: ${TOKEN}\n`;
      await withHome(text, async (home, file) => {
        give(home);
        // The user could turn the folder elsewhere at any moment, although it is root's.
        const { code, stderr } = await token(home, ["rotate"]);
        assert.equal(code, 1);
        assert.match(stderr, /Permission denied .*with the rights of user 1234/);
        assert.deepEqual([readFileSync(file, "utf8"), readdirSync(path.dirname(file))], [text, ["deployment.yaml"]]);
        give(path.dirname(file), file);
        assert.equal((await token(home, ["rotate"])).code, 0);
        assert.deepEqual(ownersOf([file, `${file}.lock`]), [[1234, 2345, 0o600], [1234, 2345, 0o600]]);
      });
    });

    test("folders and files that it makes are the user's", async () => {
      await withHome(null, async (home) => {
        give(home);
        const file = path.join(home, "a", "b", "deployment.yaml");
        assert.equal((await token(home, ["rotate"], { NODETOOL_CONFIG_PATH: file })).code, 0);
        const folders = [path.join(home, "a"), path.join(home, "a", "b")];
        assert.deepEqual(ownersOf([...folders, file, `${file}.lock`]), [[1234, 2345, 0o700], [1234, 2345, 0o700], [1234, 2345, 0o600], [1234, 2345, 0o600]]);
      });
    });
  });

  for (const [title, arrange, said] of [
    ["a pipe", (lock) => void execFileSync("mkfifo", [lock]), /\.lock: it is a named pipe, not a file/],
    ["a folder", (lock) => void mkdirSync(lock), /\.lock: .*directory/],
    ["a device", (lock) => void execFileSync("mknod", [lock, "c", "1", "5"]), /\.lock: it is a device, not a file/],
    ["one that another process holds", (lock) => spawn("flock", ["--no-fork", writeFile(lock, ""), "sleep", "60"], { stdio: "ignore" }), /\.lock: another process holds the lock/],
  ]) {
    test(`a lock that is ${title} is an error in limited time`, { skip: title === "a device" && process.getuid?.() !== 0 }, async () => {
      const text = `worker_auth_token: ${TOKEN}\n`;
      await withHome(text, async (home, file) => {
        const held = arrange(`${file}.lock`);
        if (held) await eventually("it is held", () => spawnSync("flock", ["-n", `${file}.lock`, "true"]).status === 1);
        const { child, exited } = spawnNative({ home, args: ["token", "rotate"] });
        const limit = setTimeout(() => child.kill("SIGKILL"), held ? 14_000 : 2000);
        const { code, stderr } = await exited;
        clearTimeout(limit);
        held?.kill();
        assert.equal(code, 1, stderr);
        assert.match(stderr, said);
        assert.equal(readFileSync(file, "utf8"), text);
      });
    });
  }

  test("a lock that is a link to somewhere else is an error, and nothing is made there", async () => {
    const text = `worker_auth_token: ${TOKEN}\n`;
    await withHome(text, async (home, file) => {
      const elsewhere = path.join(home, "elsewhere");
      symlinkSync(elsewhere, `${file}.lock`);
      for (const exists of [false, true]) {
        if (exists) writeFileSync(elsewhere, "", { mode: 0o644 });
        const { code, stderr } = await token(home, ["rotate"]);
        assert.equal(code, 1);
        assert.match(stderr, /symbolic link/);
        assert.deepEqual([readFileSync(file, "utf8"), readdirSync(home).includes("elsewhere")], [text, exists]);
      }
    });
  });
});

describe("token", () => {
  test("show: masked, and in full only when asked for", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
      assert.deepEqual(await token(home, ["show"]), { code: 0, signal: null, stdout: `Token: ${masked(TOKEN)}\nSource: Config file (${file})\nKey: worker_auth_token\n`, stderr: "" });
      assert.equal((await token(home, ["show", "--reveal"])).stdout, `${TOKEN}\n`);
      const json = JSON.parse((await token(home, ["show", "--json"])).stdout);
      assert.deepEqual(json, { token: masked(TOKEN), revealed: false, source: "file", path: file, key: "worker_auth_token", accepted_tokens: 0 });
      const environment = await token(home, ["show"], { WORKER_AUTH_TOKEN: OTHER });
      assert.equal(environment.stdout, `Token: ${masked(OTHER)}\nSource: Environment variable (WORKER_AUTH_TOKEN)\n`);
      // Settings of other kinds are none of its business.
      assert.equal((await token(home, ["show"], { AUTH_PROVIDER: "jwt", AUTH_LISTEN: "x" })).code, 0);
      const elsewhere = writeFile(path.join(home, "else.yaml"), `worker_auth_token: ${OTHER}\n`);
      assert.equal((await token(home, ["show", "--reveal", "--nodetool-config-path", elsewhere])).stdout, `${OTHER}\n`);
    });
  });

  test("show: where there is none it says so, and makes none", async () => {
    await withHome(null, async (home, file) => {
      for (const args of [["show"], ["hash"]]) {
        const { code, stdout, stderr } = await token(home, args);
        assert.deepEqual([code, stdout], [1, ""]);
        assert.match(stderr, /no token yet.*rotate/);
      }
      assert.deepEqual(readdirSync(path.dirname(file)), []);
      writeFile(file, `accepted_tokens:\n- sha256: ${hash(TOKEN)}\n`);
      const { code, stderr } = await token(home, ["show"]);
      assert.equal(code, 1);
      assert.match(stderr, /only hashes/);
    });
  });

  test("wrong settings end with 78, and are not repeated", async () => {
    await withHome(null, async (home) => {
      for (const settings of [{ WORKER_AUTH_TOKEN: "two words" }, { WORKER_AUTH_TOKEN: TOKEN, SERVER_AUTH_TOKEN: OTHER }]) {
        for (const args of [["show"], ["hash"], ["rotate"]]) {
          const { code, stderr } = await token(home, args, settings);
          assert.equal(code, 78);
          assert.ok(![...Object.values(settings)].some((secret) => stderr.includes(secret)), stderr);
        }
      }
      assert.equal((await token(home, ["nonsense"])).code, 1);
    });
  });

  test("generate: a new one each time, and nothing is saved", async () => {
    await withHome(null, async (home, file) => {
      const made = await Promise.all(Array.from({ length: 5 }, () => token(home, ["generate"])));
      for (const { stdout, stderr } of made) assert.deepEqual([/^\w[\w-]{42}\n$/.test(stdout), stderr], [true, ""]);
      assert.equal(new Set(made.map(({ stdout }) => stdout)).size, 5);
      assert.match(JSON.parse((await token(home, ["generate", "--json"])).stdout).token, /^\w[\w-]{42}$/);
      assert.deepEqual(readdirSync(path.dirname(file)), []);
    });
  });

  test("hash: of the token in use, or of standard input", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home) => {
      assert.equal((await token(home, ["hash"])).stdout, `${hash(TOKEN)}\n`);
      assert.equal((await token(home, ["hash"], { WORKER_AUTH_TOKEN: OTHER })).stdout, `${hash(OTHER)}\n`);
      const piped = (input, ...args) => {
        secret("a token on standard input", input.trim());
        const done = spawnSync(NATIVE_BINARY, ["token", "hash", "--token-stdin", ...args], { input, encoding: "utf8", env: { HOME: home } });
        for (const kind of ["stdout", "stderr"]) transcript("native", kind)(done[kind]);
        return done;
      };
      assert.equal(piped(`${OTHER}\n`).stdout, `${hash(OTHER)}\n`);
      assert.deepEqual(JSON.parse(piped(OTHER, "--json").stdout), { sha256: hash(OTHER) });
      for (const unusable of ["", "two words", "a,b", "x".repeat(64 * 1024 + 1)]) {
        const { status, stdout, stderr } = piped(unusable);
        assert.deepEqual([status, stdout], [1, ""]);
        assert.ok(unusable === "" || !stderr.includes(unusable), stderr);
      }
    });
  });

  test("path: where the file is, or would be", async () => {
    await withHome(null, async (home, file) => {
      assert.equal((await token(home, ["path"])).stdout, `${file}\n`);
      assert.deepEqual(JSON.parse((await token(home, ["path", "--json"], STATIC)).stdout), { path: file, exists: false, key: null });
      const own = await token(home, ["path"], { NODETOOL_CONFIG_PATH: " " });
      assert.equal(own.stdout, `${path.join(home, ".config", "nodetool", "deployment.yaml")}\n`);
    });
  });

  test("--help tells the exit status of each", async () => {
    await withHome(null, async (home) => {
      for (const name of [[], ["show"], ["generate"], ["rotate"], ["hash"], ["path"]]) {
        const { code, stdout } = await token(home, [...name, "--help"]);
        assert.equal(code, 0);
        assert.match(stdout, /Exit status: 0 .*78.*1/s);
        if (name.length > 0) assert.match(stdout, /--json/);
      }
    });
  });
});

describe("rotate", () => {
  const cut = (file) => execFileSync("sh", ["-c", `grep worker_auth_token "$0" | cut -d' ' -f2`, file], { encoding: "utf8" });

  test("a new token in the place of the old one, which ends", async () => {
    await withHome(`# first\nworker_auth_token:   "${TOKEN}" # mine\nb: 2\n`, async (home, file) => {
      const { code, stdout, stderr } = await token(home, ["rotate"]);
      const made = tokenIn(file);
      assert.equal(readFileSync(file, "utf8"), `# first\nworker_auth_token: ${made} # mine\nb: 2\n`);
      assert.deepEqual([code, stdout], [0, `${masked(made)}\n`]);
      assert.match(stderr, /old one has ended.*show --reveal/);
      assert.ok(!stdout.includes(made) && !stderr.includes(made) && !stderr.includes(TOKEN));
      const revealed = await token(home, ["rotate", "--reveal"]);
      assert.equal(revealed.stdout, `${tokenIn(file)}\n`);
      const json = JSON.parse((await token(home, ["rotate", "--json", "--reveal"])).stdout);
      assert.deepEqual([json.token, json.path, json.previous.sha256], [tokenIn(file), file, hash(revealed.stdout.trim())]);
      assert.equal(cut(file), `${tokenIn(file)}\n`);
    });
  });

  test("a person at a terminal sees the new token", async () => {
    await withHome(null, async (home, file) => {
      const shown = execFileSync("script", ["-qec", `'${NATIVE_BINARY}' token rotate`, "/dev/null"], { env: { PATH: process.env.PATH, HOME: home, NODETOOL_CONFIG_PATH: file }, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
      secretsOfFile(file);
      transcript("native", "terminal")(shown);
      assert.ok(shown.includes(`${tokenIn(file)}\r\n`), shown);
    });
  });

  test("with an overlap the old one's hash stays until its end, and is removed after it", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\nother: 1\n`, async (home, file) => {
      const began = Math.floor(Date.now() / 1000);
      const { previous } = JSON.parse((await token(home, ["rotate", "--overlap", "1s", "--json"])).stdout);
      assert.ok(previous.not_after >= began + 1 && previous.not_after <= Date.now() / 1000 + 1, JSON.stringify(previous));
      const text = readFileSync(file, "utf8");
      const first = tokenIn(file);
      assert.match(text, new RegExp(`^worker_auth_token: ${first}\nother: 1\naccepted_tokens:\n  - name: rotated-at-\\d+\n    sha256: ${hash(TOKEN)}\n    not_after: ${previous.not_after}\n$`));
      assert.ok(!text.includes(TOKEN));
      assert.equal(cut(file), `${first}\n`);
      appendFileSync(file, `  - name: ci\n    sha256: ${hash("ci")}\n    not_after: 1\n`);
      await eventually("it is over", () => Date.now() / 1000 > previous.not_after + 1);
      const { code, stderr } = await token(home, ["rotate", "--overlap", "1h 30m"]);
      assert.equal(code, 0);
      assert.match(stderr, /accepted until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/);
      const after = readFileSync(file, "utf8");
      assert.ok(!after.includes(hash(TOKEN)), after);
      assert.ok(after.includes(hash(first)) && after.includes(`  - name: ci\n    sha256: ${hash("ci")}\n    not_after: 1\n`), after);
      assert.equal(cut(file), `${tokenIn(file)}\n`);
      assert.equal((await token(home, ["rotate", "--overlap", "soon"])).code, 1);
      const replaced = tokenIn(file);
      assert.equal((await token(home, ["rotate", "--overlap", "1ms"])).code, 0);
      assert.ok(readFileSync(file, "utf8").includes(hash(replaced)), "less than a second is not none");
    });
  });

  test("with a token in the environment it refuses: the file is not read then", async () => {
    const text = `worker_auth_token: ${TOKEN}\n`;
    await withHome(text, async (home, file) => {
      for (const name of ["WORKER_AUTH_TOKEN", "SERVER_AUTH_TOKEN"]) {
        const { code, stdout, stderr } = await token(home, ["rotate"], { [name]: OTHER });
        assert.deepEqual([code, stdout], [78, ""]);
        assert.match(stderr, /WORKER_AUTH_TOKEN is set/);
      }
      assert.equal(readFileSync(file, "utf8"), text);
    });
  });

  test("a file that cannot be understood, or holds no place for it, is left alone", async () => {
    for (const text of ["a: [1\n", "{a: 1}\n", "- a\n"]) {
      await withHome(text, async (home, file) => {
        const { code, stderr } = await token(home, ["rotate"]);
        assert.equal(code, 1);
        assert.ok(stderr.includes(file), stderr);
        assert.equal(readFileSync(file, "utf8"), text);
        assert.ok(!readdirSync(path.dirname(file)).some((name) => name.startsWith(".")));
        if (text !== "{a: 1}\n") assert.deepEqual(readdirSync(path.dirname(file)), ["deployment.yaml"], "not even a lock");
      });
    }
  });

  test("ten at once end with one token, and all the old ones in the overlap", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, async (home, file) => {
      const made = await Promise.all(Array.from({ length: 10 }, () => token(home, ["rotate", "--overlap", "1h", "--reveal"])));
      const tokens = [TOKEN, ...made.map(({ stdout }) => stdout.trim())];
      const text = readFileSync(file, "utf8");
      assert.equal(text.match(/worker_auth_token/g).length, 1);
      for (const old of tokens) assert.ok(old === tokenIn(file) || text.includes(hash(old)));
      assert.equal(text.match(/sha256/g).length, 10);
    });
  });
});

describe("a running gateway", () => {
  const takesUp = (host, token) => eventually("the new token passes", async () => (await status(host, token)) === 200);

  test("notices a rotation, and says so without the token", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home, file) =>
      serving({ home }, async (host) => {
        const made = (await token(home, ["rotate", "--reveal"])).stdout.trim();
        await takesUp(host, made);
        // Every thread has it: connections are spread over them.
        const statuses = await Promise.all(Array.from({ length: 40 }, (_, index) => status(host, index % 2 ? made : TOKEN)));
        assert.deepEqual(new Set(statuses.filter((_, index) => index % 2)), new Set([200]));
        assert.deepEqual(new Set(statuses.filter((_, index) => index % 2 === 0)), new Set([401]));
        await eventually("it is said", () => /INFO the tokens have changed/.test(host.log()));
        assert.ok(host.log().includes(file) && host.log().includes(masked(made)));
        assert.ok(!host.log().includes(made) && !host.log().includes(TOKEN));
      }),
    );
  });

  for (const [title, change] of [
    ["written in place", (file) => writeFileSync(file, `worker_auth_token: ${OTHER}\n`)],
    ["replaced", (file) => renameSync(writeFile(`${file}.new`, `worker_auth_token: ${OTHER}\n`), file)],
    ["removed and made anew", (file) => (rmSync(file), writeFile(file, `worker_auth_token: ${OTHER}\n`))],
    ["linked to another", (file) => (rmSync(file), symlinkSync(path.basename(writeFile(`${file}.new`, `worker_auth_token: ${OTHER}\n`)), file))],
    ["of the same size and time", (file) => {
      const { atime, mtime } = statSync(file);
      writeFileSync(file, `worker_auth_token: ${OTHER}\n`);
      execFileSync("touch", ["-m", "-d", mtime.toISOString(), file]);
      void atime;
    }],
  ]) {
    test(`notices a file that is ${title}`, async () => {
      await withHome(`worker_auth_token: ${TOKEN}\n`, (home, file) =>
        serving({ home }, async (host) => {
          assert.equal(await status(host, TOKEN), 200);
          // What changed long ago is not read again unless something shows that it has to be.
          execFileSync("touch", ["-m", "-d", "2020-01-01", file]);
          await sleep(1500);
          change(file);
          await takesUp(host, OTHER);
          assert.equal(await status(host, TOKEN), 401);
        }),
      );
    });
  }

  test("notices what a link in a mounted folder of Kubernetes turns to", async () => {
    await withHome(null, async (home, file) => {
      const folder = path.dirname(file);
      for (const [name, value] of [["one", TOKEN], ["two", OTHER]]) {
        mkdirSync(path.join(folder, name));
        writeFile(path.join(folder, name, "deployment.yaml"), `worker_auth_token: ${value}\n`);
      }
      symlinkSync("one", path.join(folder, "..data"));
      symlinkSync("..data/deployment.yaml", file);
      await serving({ home }, async (host) => {
        assert.equal(await status(host, TOKEN), 200);
        symlinkSync("two", path.join(folder, "..next"));
        renameSync(path.join(folder, "..next"), path.join(folder, "..data"));
        await takesUp(host, OTHER);
        assert.equal(await status(host, TOKEN), 401);
      });
    });
  });

  test("reads it again on SIGHUP, at once", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home, file) =>
      serving({ home }, async (host) => {
        host.child.kill("SIGHUP");
        await eventually("it says so", () => host.log().includes("the same as before") || host.log());
        // Sooner than the watch could: it looks once a second.
        let sooner = 0;
        for (let round = 0; round < 3; round += 1) {
          const next = `${OTHER}-${round}`;
          writeFileSync(file, `worker_auth_token: ${next}\n`);
          const began = Date.now();
          host.child.kill("SIGHUP");
          await takesUp(host, next);
          sooner += Date.now() - began;
        }
        assert.ok(sooner < 1500, `${sooner} ms for three`);
        assert.equal(host.child.exitCode, null);
      }),
    );
  });

  test("keeps the tokens from before when the file cannot be used, and says why once", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home, file) =>
      serving({ home }, async (host) => {
        for (const [text, said] of [
          [`worker_auth_token: ${OTHER}\nlist: [1, 2\nother: 3\n`, /line \d+, column \d+/],
          ["worker_auth_token: hunter2 and more\n", /white space/],
          [`worker_auth_token: ${OTHER}\na: \x01\n`, /line 2, column 4: .*U\+0001/],
          ["- a\n", /mapping/],
          [`worker_auth_token: ${OTHER}\nlist:\n  ${"- ".repeat(100_000)}x\n`, /nested too deeply/],
          [`worker_auth_token: ${OTHER}\n"worker_auth_token": ${OTHER}\n`, /line 2, column 1: duplicated key/],
        ]) {
          const mark = host.log().length;
          writeFileSync(file, text);
          host.child.kill("SIGHUP");
          await eventually("it is said", () => said.test(host.log().slice(mark)) || host.log().slice(mark));
          // The log of a request before may come as late as this.
          const line = host.log().slice(mark).split("\n").find((line) => /ERROR/.test(line));
          assert.ok(line.includes(file) && line.includes("stay in force"), line);
          assert.ok(!/hunter2/.test(host.log()) && !host.log().includes(OTHER));
          assert.deepEqual([await status(host, TOKEN), await status(host, OTHER), await status(host)], [200, 401, 401]);
        }
        const mark = host.log().length;
        await sleep(2500);
        assert.ok(!host.log().slice(mark).includes("ERROR"), "not once a second");
        writeFileSync(file, `worker_auth_token: ${OTHER}\n`);
        await takesUp(host, OTHER);
      }),
    );
  });

  test("a pipe in its place does not keep it from serving, nor from stopping", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home, file) =>
      serving({ home }, async (host) => {
        rmSync(file);
        execFileSync("mkfifo", [file]);
        await eventually("it is said", () => /named pipe/.test(host.log()) || host.log());
        assert.equal(await status(host, TOKEN), 200);
        assert.equal((await host.stop("SIGTERM")).code, 0);
      }),
    );
  });

  test("with a token in the environment nothing is read, and SIGHUP does not end it", async () => {
    await withHome(`worker_auth_token: ${OTHER}\n`, (home, file) =>
      serving({ home, settings: STATIC }, async (host) => {
        host.child.kill("SIGHUP");
        await eventually("it says so", () => /nothing to read again/.test(host.log()) || host.log());
        writeFileSync(file, "a: [");
        await sleep(1500);
        assert.deepEqual([await status(host, TOKEN), await status(host, OTHER)], [200, 401]);
        assert.ok(!host.log().includes(file));
      }),
    );
  });

  test("refuses the old token after the end of the overlap", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home) =>
      serving({ home }, async (host) => {
        const { token: made, previous } = JSON.parse((await token(home, ["rotate", "--overlap", "4s", "--json", "--reveal"])).stdout);
        await takesUp(host, made);
        assert.equal(await status(host, TOKEN), 200);
        await eventually("it has ended", async () => (await status(host, TOKEN)) === 401);
        const now = Date.now() / 1000;
        assert.ok(now > previous.not_after && now < previous.not_after + 3, `${now - previous.not_after}`);
        assert.equal(await status(host, made), 200);
      }),
    );
  });

  test("under supabase as well, and still knows the users that it knew", async () => {
    await withGateway("native", { settings: { WORKER_AUTH_TOKEN: undefined } }, async (gateway) => {
      const { host } = gateway;
      const first = tokenIn(host.config);
      const claims = gateway.claims();
      const user = legacyToken(claims);
      await gateway.acceptsStatic(first);
      await gateway.accepts(user, claims);
      const { stdout } = await token(host.home, ["rotate", "--reveal"]);
      await takesUp(host, stdout.trim());
      await gateway.acceptsStatic(stdout.trim());
      assert.equal(await status(host, first), 401);
      const asked = gateway.supabase.user.calls;
      await gateway.accepts(user, claims);
      assert.equal(gateway.supabase.user.calls, asked, "nobody is asked again");
    });
  });

  test("no request fails while a token is rotated under load", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home) =>
      serving({ home }, async (host) => {
        let presented = TOKEN;
        let isOver = false;
        const counts = new Map();
        const client = async () => {
          const socket = net.connect(host.port, "127.0.0.1").setNoDelay();
          await new Promise((resolve) => socket.once("connect", resolve));
          while (!isOver) {
            const headers = [["Host", "x"], ["Authorization", `Bearer ${presented}`]];
            socket.write(request({ target: "/v1/models", headers }));
            const [chunk] = await new Promise((resolve, reject) => {
              socket.once("data", (chunk) => (socket.off("error", reject), resolve([chunk])));
              socket.once("error", reject);
            });
            const key = `${presented === TOKEN ? "first" : "later"} ${chunk.toString("latin1", 9, 12)}`;
            counts.set(key, (counts.get(key) ?? 0) + 1);
            await sleep(20);
          }
          socket.destroy();
        };
        const clients = Array.from({ length: 12 }, client);
        await sleep(1000);
        for (let round = 0; round < 3; round += 1) {
          const { stdout } = await token(home, ["rotate", "--overlap", "1m", "--reveal"]);
          // Clients change over once the gateway is known to have the new one, as README tells to.
          await takesUp(host, stdout.trim());
          presented = stdout.trim();
          await sleep(500);
        }
        isOver = true;
        await Promise.all(clients);
        assert.deepEqual([...counts.keys()].sort(), ["first 200", "later 200"]);
        assert.ok(Math.min(...counts.values()) > 200, JSON.stringify([...counts]));
      }),
    );
  });
});
