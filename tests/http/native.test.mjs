// What only the native host has: a process, a deployment file, a banner, signals, HTTP/2.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { promisify } from "node:util";

import { AUTHORIZATION, NATIVE_BINARY, STATIC, TOKEN, spawnNative, startNative, temporaryFolder, withHome, withHost } from "./support/hosts.mjs";
import { ask, exchange, request, status } from "./support/raw.mjs";
import { startServing } from "./support/serving.mjs";
import { transcript } from "./support/transcripts.mjs";
import { startUpstream } from "./support/upstream.mjs";

const run = promisify(execFile);
const LINE = "=".repeat(70);
const PROVIDER = { AUTH_PROVIDER: "static" };
const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

/** Runs the gateway for as long as `body` takes. */
const serving = (options, body) => withHost("native", options, body);

const tokenIn = (file) => /^worker_auth_token: (.+)$/m.exec(readFileSync(file, "utf8"))?.[1];
const mode = (file) => (statSync(file).mode & 0o777).toString(8);

describe("start", () => {
  test("with wrong settings it names all of them and ends with 78", async () => {
    const settings = { ENV: "prod", AUTH_PROVIDER: "jwt", UPSTREAM_TIMEOUT: "soon", ADMIN_TOKEN: "two words", LOG_LEVEL: "loud" };
    const { code, stdout, stderr } = await spawnNative({ settings }).exited;
    assert.equal(code, 78);
    for (const name of Object.keys(settings)) assert.match(stderr, new RegExp(`^${name}: `, "m"));
    assert.equal(stdout, "");
    assert.ok(!stderr.includes("two words"), "a secret value is not repeated");
  });

  test("at a port that is taken it ends with 1", async () => {
    await serving({ settings: STATIC }, async ({ port }) => {
      const { code, stderr } = await spawnNative({ settings: { ...STATIC, AUTH_LISTEN: `127.0.0.1:${port}` } }).exited;
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${port}`));
    });
  });

  test("a flag goes before its variable", async () => {
    await serving({ settings: { ...STATIC, AUTH_LISTEN: "256.0.0.1:1" }, args: ["serve", "--listen", "127.0.0.1:0"] }, async (host) => {
      assert.equal(await status(host, TOKEN), 200);
    });
  });

  test("without a subcommand it serves", async () => {
    await serving({ settings: STATIC, args: [] }, async (host) => assert.equal(await status(host, TOKEN), 200));
  });

  test("--help names every setting", async () => {
    const { stdout } = await run(NATIVE_BINARY, ["--help"]);
    for (const name of ["auth-provider", "listen", "upstream-url", "auth-public-paths"]) assert.match(stdout, new RegExp(`--${name}`));
  });

  test("no secret can stand on a command line", async () => {
    for (const flag of ["--worker-auth-token", "--server-auth-token", "--admin-token"]) {
      const { code } = await spawnNative({ args: ["serve", flag, TOKEN] }).exited;
      assert.notEqual(code, 0, flag);
    }
  });
});

describe("banner", () => {
  /** 40 characters: shorter ones are masked whole. */
  const LONG = "test-token-0123456789-abcdefg-0123456789";
  const head = (masked, source) => [
    LINE,
    "AUTHENTICATION",
    LINE,
    "🔒 Status: ENABLED (all endpoints require authentication)",
    `🔑 Token: ${masked}`,
    `📍 Source: ${source}`,
  ];
  const linesOf = (host) => host.output.stdout.trimEnd().split("\n");

  test("a token from the environment is masked", async () => {
    await serving({ settings: { ...PROVIDER, WORKER_AUTH_TOKEN: LONG } }, async (host) => {
      const lines = linesOf(host);
      assert.deepEqual(lines.slice(0, 6), head("test-tok...6789", "Environment variable (WORKER_AUTH_TOKEN)"));
      assert.equal(lines.at(-1), LINE);
      assert.ok(!host.output.stdout.includes(LONG));
      for (const endpoint of ["/health", "/ping"]) assert.ok(host.output.stdout.includes(endpoint), "public endpoints are listed");
    });
  });

  test("a short token is not shown at all", async () => {
    for (const short of ["test-token-short", LONG.slice(0, 39)]) {
      await serving({ settings: { ...PROVIDER, WORKER_AUTH_TOKEN: short } }, async (host) => {
        assert.equal(linesOf(host)[4], "🔑 Token: ***");
      });
    }
  });

  test("a token from the file is masked", async () => {
    await withHome(`worker_auth_token: ${LONG}\n`, (home, file) =>
      serving({ home, settings: PROVIDER }, async (host) => {
        assert.deepEqual(linesOf(host).slice(0, 6), head("test-tok...6789", `Config file (${file})`));
        assert.ok(!host.output.stdout.includes(LONG));
      }),
    );
  });

  test("a token that was just made is shown in full, once", async () => {
    await withHome(undefined, async (home, file) => {
      const token = await serving({ home, settings: PROVIDER }, async (host) => {
        const token = tokenIn(file);
        const lines = linesOf(host);
        assert.deepEqual(lines.slice(0, 9), [
          ...head(`${token.slice(0, 8)}...${token.slice(-4)}`, `Auto-generated and saved to ${file}`),
          "",
          `   Authorization: Bearer ${token}`,
          ...lines.slice(8, 9),
        ]);
        return token;
      });
      await serving({ home, settings: PROVIDER }, async (host) => {
        assert.equal(linesOf(host)[5], `📍 Source: Config file (${file})`);
        assert.ok(!host.output.stdout.includes(token));
      });
    });
  });

  test("a person at a terminal sees the full token", async () => {
    const env = { PATH: process.env.PATH, HOME: temporaryFolder(), ...STATIC, AUTH_LISTEN: "127.0.0.1:0" };
    const { promise, resolve } = deferred();
    const child = execFile("script", ["-qefc", `'${NATIVE_BINARY}' serve`, "/dev/null"], { env }, (error) => resolve(error));
    let shown = "";
    for await (const text of child.stdout) if ((shown += text).includes("listening on")) break;
    // Ctrl-C: to end `script` alone would only hang up on the gateway, which reads its file again at that, and stays.
    child.stdin.write("\x03");
    await promise;
    rmSync(env.HOME, { recursive: true, force: true });
    transcript("native", "terminal")(shown);
    assert.ok(shown.includes(`   Authorization: Bearer ${TOKEN}`), shown);
  });
});

describe("deployment file", () => {
  test("it is private from its first byte, under the loosest umask", async () => {
    await withHome(undefined, (home, file) =>
      serving({ home, settings: PROVIDER, umask: "000" }, async (host) => {
        assert.deepEqual([mode(file), mode(path.dirname(file))], ["600", "700"]);
        const left = readdirSync(path.dirname(file)).filter((name) => mode(path.join(path.dirname(file), name)) !== "600");
        assert.deepEqual(left, [], "nothing beside it is readable for others");
        const token = tokenIn(file);
        assert.match(token, /^[A-Za-z0-9_-]{43}$/);
        assert.equal(await status(host, token), 200);
      }),
    );
  });

  test("grep, cut and awk print the token and nothing else", async () => {
    await withHome("# A comment, and a key\nother: value\n", (home, file) =>
      serving({ home, settings: PROVIDER }, async (host) => {
        for (const tool of ["cut -d' ' -f2", "awk '{print $2}'"]) {
          const { stdout } = await run("sh", ["-c", `grep worker_auth_token "$0" | ${tool}`, file]);
          assert.equal(stdout, `${tokenIn(file)}\n`);
          assert.equal(await status(host, stdout.trim()), 200);
        }
      }),
    );
  });

  for (const [title, before] of [
    ["other keys and comments", "# Deployment\nname: demo   # the name\n\nworkers:\n  - gpu: true\n    note: 'quoted'\n# the end\n"],
    ["no line end at its end", "name: demo"],
    ["nothing but a comment", "# nothing yet\n"],
    ["Windows line ends", "name: demo\r\nother: 1\r\n"],
    ["a key without a value", "a: 1\nworker_auth_token:\nb: 2\n"],
    ["a list of the same name in depth", "workers:\n  worker_auth_token_file: x\n"],
  ]) {
    test(`what else is in it survives: ${title}`, async () => {
      await withHome(before, (home, file) =>
        serving({ home, settings: PROVIDER }, async (host) => {
          const after = readFileSync(file, "utf8");
          assert.equal(await status(host, tokenIn(file)), 200);
          const rest = (text) => text.split(/\r?\n/).filter((line) => !/^worker_auth_token:/.test(line)).join("\n").trimEnd();
          assert.equal(rest(after), rest(before));
        }),
      );
    });
  }

  for (const [title, text, where] of [
    ["unbalanced brackets", "name: demo\nlist: [1, 2\nother: 3\n", /line [234]/],
    ["a tab for indentation", "a:\n\tb: 1\n", /line 2/],
    ["an open quote", 'name: "demo\nother: 1\n', /line [123]/],
    ["a list", "- worker_auth_token\n", /mapping/],
    ["plain text", "worker_auth_token", /mapping/],
  ]) {
    test(`what cannot be understood is left alone: ${title}`, async () => {
      await withHome(text, async (home, file) => {
        const { code, stdout, stderr } = await spawnNative({ home, settings: { ...PROVIDER, AUTH_LISTEN: "127.0.0.1:0" } }).exited;
        assert.equal(code, 1);
        assert.match(stderr, where);
        if (where.source.startsWith("line")) assert.match(stderr, /column \d+/);
        assert.ok(stderr.includes(file), "the error names the file");
        assert.equal(stdout, "");
        assert.equal(readFileSync(file, "utf8"), text);
      });
    });
  }

  for (const token of ["012345678901234567890123456789", "12345678", "0x1F4", "1e10", "true", "no", "1_000", "2026-01-01", ".inf", "0o17"]) {
    test(`a token that looks like something else is a token: ${token}`, async () => {
      await withHome(`worker_auth_token: ${token}\n`, (home, file) =>
        serving({ home, settings: PROVIDER }, async (host) => {
          assert.deepEqual([await status(host, token), await status(host, `${token}0`)], [200, 401]);
          assert.equal(readFileSync(file, "utf8"), `worker_auth_token: ${token}\n`);
        }),
      );
    });
  }

  for (const quoted of [`"${TOKEN}"`, `'${TOKEN}'`, `${TOKEN} # a comment`]) {
    test(`a token as YAML writes it: ${quoted}`, async () => {
      await withHome(`worker_auth_token: ${quoted}\n`, (home) =>
        serving({ home, settings: PROVIDER }, async (host) => assert.equal(await status(host, TOKEN), 200)),
      );
    });
  }

  test("an unusable token is an error, not an open door", async () => {
    await withHome("worker_auth_token: two words\n", async (home) => {
      const { code, stderr } = await spawnNative({ home, settings: { ...PROVIDER, AUTH_LISTEN: "127.0.0.1:0" } }).exited;
      assert.equal(code, 1);
      assert.ok(!stderr.includes("two words"), "and it is not repeated");
    });
  });

  test("accepted_tokens: hashes, each with an end", async () => {
    const hash = (token) => createHash("sha256").update(token).digest("hex");
    const list = [["a", "test-token-live", 4102444800], ["b", "test-token-over", 1], ["c", "test-token-endless"]]
      .map(([name, token, end]) => `  - name: ${name}\n    sha256: ${hash(token)}\n${end ? `    not_after: ${end}\n` : ""}`)
      .join("");
    const text = `accepted_tokens:\n${list}`;
    await withHome(text, (home, file) =>
      serving({ home, settings: PROVIDER }, async (host) => {
        const statuses = [];
        for (const token of ["test-token-live", "test-token-over", "test-token-endless", hash("test-token-live"), undefined]) statuses.push(await status(host, token));
        assert.deepEqual(statuses, [200, 401, 200, 401, 401]);
        // A store with a list is not empty: nothing is generated into it.
        assert.equal(readFileSync(file, "utf8"), text);
      }),
    );
  });

  test("loose permissions are a warning that names the remedy", async () => {
    await withHome(undefined, async (home, file) => {
      mkdirSync(path.dirname(file));
      await run("sh", ["-c", `umask 022; printf 'worker_auth_token: ${TOKEN}\\n' > "$0"`, file]);
      await serving({ home, settings: PROVIDER }, async (host) => {
        assert.match(host.log(), /WARN.*chmod 600/);
        assert.equal(await status(host, TOKEN), 200);
      });
    });
  });

  test("a token in the environment: the file is neither read nor made", async () => {
    await withHome("{ this is [no YAML", (home, file) =>
      serving({ home, settings: STATIC }, async (host) => {
        assert.equal(await status(host, TOKEN), 200);
        assert.equal(readFileSync(file, "utf8"), "{ this is [no YAML");
      }),
    );
    await withHome(undefined, (home, file) => serving({ home, settings: STATIC }, async () => assert.ok(!existsSync(file))));
  });

  test("a blank token in the environment is none", async () => {
    await withHome(`worker_auth_token: ${TOKEN}\n`, (home) =>
      serving({ home, settings: { ...PROVIDER, WORKER_AUTH_TOKEN: "  " } }, async (host) => {
        assert.deepEqual([await status(host, TOKEN), await status(host, "")], [200, 401]);
      }),
    );
  });

  test("local makes a token as well, for those who do not come from this machine", async () => {
    await withHome(undefined, (home, file) =>
      serving({ home }, async (host) => {
        assert.equal(await status(host), 200);
        const foreign = (headers) => ask(host.port, request({ target: "/", headers: [["Host", "gateway.example.com"], ...headers] }));
        assert.equal((await foreign([])).status, 401);
        assert.equal((await foreign([["Authorization", `Bearer ${tokenIn(file)}`]])).status, 200);
      }),
    );
  });

  test("twenty that start at once end with one token, and each accepts it", async () => {
    await withHome(undefined, async (home, file) => {
      const hosts = await Promise.all(Array.from({ length: 20 }, () => startNative({ home, settings: PROVIDER })));
      try {
        const token = tokenIn(file);
        assert.deepEqual(await Promise.all(hosts.map((host) => status(host, token))), Array(20).fill(200));
        assert.equal(readFileSync(file, "utf8").match(/worker_auth_token/g).length, 1);
        const made = hosts.filter(({ output }) => output.stdout.includes("Auto-generated"));
        assert.equal(made.length, 1, "one of them made it");
        const beside = readdirSync(path.dirname(file)).filter((name) => !name.startsWith("deployment.yaml"));
        assert.deepEqual(beside, [], "no temporary file is left");
      } finally {
        await Promise.all(hosts.map((host) => host.stop()));
      }
    });
  });
});

describe("log", () => {
  for (const [format, level] of [["text", "trace"], ["json", "debug"], ["text", "info"]]) {
    test(`no token is ever in it: ${format}, ${level}`, async () => {
      const presented = "test-presented-0123456789-abcdefgh";
      await serving({ settings: { ...STATIC, ADMIN_TOKEN: "test-admin-0123456789", LOG_LEVEL: level, AUTH_LOG_FORMAT: format } }, async (host) => {
        for (const token of [TOKEN, presented, `${presented}, ${TOKEN}`]) await status(host, token);
        for (const target of [`/x?token=${presented}`, "/admin"]) await status(host, TOKEN, target);
        await ask(host.port, request({ target: "/admin", headers: [["Host", "x"], AUTHORIZATION, ["X-Admin-Token", presented]] }));
        await host.stop("SIGTERM");
        for (const secret of [TOKEN, presented, "test-admin-0123456789"]) {
          assert.ok(!host.output.stderr.includes(secret) && !host.output.stdout.includes(secret), secret);
        }
        if (level !== "trace") assert.match(host.output.stderr, /invalid_token/, "the reason is there, by its code");
        if (format === "json") for (const line of host.output.stderr.trim().split("\n")) JSON.parse(line);
      });
    });
  }

  test("a path cannot forge a line", async () => {
    await serving({ settings: STATIC }, async (host) => {
      await exchange(host.port, "GET /x\x1b[31m\x85INFO\xe2\x80\xa8forged HTTP/1.1\r\nHost: x\r\n\r\n");
      await status(host, undefined, "/%0a2026-01-01%20INFO%20forged");
      await host.stop("SIGTERM");
      assert.ok(!/[\x1b\x85\u2028]/.test(host.output.stderr));
      for (const line of host.output.stderr.trimEnd().split("\n")) assert.match(line, /^\d{4}-\d\d-\d\dT\S+Z +(INFO|WARN) (listening|refused|stopping)/);
    });
  });
});

describe("connections", () => {
  let host, upstream, stop;
  before(async () => ({ host, upstream, stop } = await startServing("native", { settings: { ...STATIC, ADMIN_TOKEN: "test-admin-0123456789" } })));
  after(() => stop?.());

  test("one connection serves request after request", async () => {
    const one = request({ target: "/v1/models", headers: [["Host", "x"], AUTHORIZATION] });
    const socket = net.connect(host.port, "127.0.0.1");
    for (let round = 0; round < 5; round += 1) {
      socket.write(one);
      const [chunk] = await once(socket, "data");
      assert.match(chunk.toString(), /^HTTP\/1\.1 200 /);
    }
    socket.destroy();
  });

  test("a client that never ends its headers is cut off, and others are served meanwhile", async () => {
    const slow = net.connect(host.port, "127.0.0.1");
    const ended = once(slow, "close");
    slow.resume().on("error", () => {});
    slow.write("GET /v1/models HTTP/1.1\r\nHost: x\r\n");
    const drip = setInterval(() => slow.write("X-Slow: y\r\n"), 1000);
    const silent = net.connect(host.port, "127.0.0.1");
    const silentEnded = once(silent.resume().on("error", () => {}), "close");
    assert.equal(await status(host, TOKEN), 200);
    await Promise.all([ended, silentEnded]);
    clearInterval(drip);
    assert.equal(await status(host, TOKEN), 200);
  });

  describe("HTTP/2", () => {
    let session;
    before(async () => {
      session = http2.connect(host.url);
      await once(session, "connect");
    });
    after(() => session?.destroy());

    const send = async (headers, body) => {
      const stream = session.request(headers, { endStream: body === undefined });
      if (body !== undefined) stream.end(body);
      const [answer] = await once(stream, "response");
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      return { status: answer[":status"], headers: answer, body: Buffer.concat(chunks).toString() };
    };
    const authorization = AUTHORIZATION[1];

    test("the same rules", async () => {
      const cases = [
        [{ ":path": "/v1/models" }, 401],
        [{ ":path": "/v1/models", authorization: "Bearer wrong" }, 401],
        [{ ":path": "/v1/models", authorization: `${authorization}, ${authorization}` }, 401],
        [{ ":path": "/v1/models", authorization }, 200],
        [{ ":path": "/health" }, 200],
        [{ ":path": "/health/../admin" }, 401],
        [{ ":path": "/%61dmin", authorization }, 403],
        [{ ":path": "/admin", authorization, "x-admin-token": "test-admin-0123456789" }, 200],
        [{ ":path": "/v1%00", authorization }, 400],
        [{ ":path": "/health", ":method": "POST" }, 401],
        [{ ":path": "/.auth/x", authorization }, 404],
        [{ ":path": "/terminal", authorization }, 404],
      ];
      for (const [headers, expected] of cases) {
        const { status, headers: answer } = await send(headers);
        assert.equal(status, expected, JSON.stringify(headers));
        if (expected === 401) assert.match(answer["www-authenticate"], /^Bearer/);
      }
    });

    test("the same identity, and the cookies in one line", async () => {
      upstream.take();
      await send({ ":path": "/v1/x?y=%2F", authorization, "x-user-id": "root", "x_user_id": "root", "x-auth-role": "admin", cookie: ["a=1", "b=2"] });
      const [received] = upstream.take();
      assert.equal(received.target, "/v1/x?y=%2F");
      const identity = received.headers.filter(([name]) => /^x[-_](user|auth)/.test(name)).sort();
      assert.deepEqual(identity, [["x-auth-token-type", "static"], ["x-user-id", "1"]]);
      assert.deepEqual(received.headers.filter(([name]) => name === "cookie"), [["cookie", "a=1; b=2"]]);
      assert.ok(!received.headers.some(([name]) => name.startsWith(":")));
    });

    test("bodies both ways", async () => {
      const body = "x".repeat(300_000);
      const { status, body: answer } = await send({ ":path": "/admin/storage/x", ":method": "PUT", authorization, "x-admin-token": "test-admin-0123456789" }, body);
      assert.deepEqual([status, JSON.parse(answer).size], [201, body.length]);
    });

    test("an authority that contradicts Host is malformed", async () => {
      assert.equal((await send({ ":path": "/v1/models", ":authority": "127.0.0.1", host: "evil.example", authorization })).status, 400);
    });
  });
});

describe("stop", () => {
  test("SIGTERM lets what is in flight come to its end, and ends with 0", async () => {
    const upstream = await startUpstream();
    const host = await startNative({ settings: { ...STATIC, UPSTREAM_URL: upstream.url } });
    try {
      const held = once(upstream.events, "held");
      const answer = ask(host.port, request({ target: "/held", headers: [["Host", "x"], AUTHORIZATION] }));
      await held;
      const said = once(host.child.stderr, "data");
      const ended = host.stop("SIGTERM");
      await said;
      upstream.release();
      assert.equal((await answer).status, 200);
      assert.equal((await ended).code, 0);
    } finally {
      host.child.kill("SIGKILL");
      await upstream.stop();
    }
  });

  test("SIGINT ends it as well, and an idle connection does not hold it up", async () => {
    const host = await startNative({ settings: STATIC });
    const idle = net.connect(host.port, "127.0.0.1");
    idle.write(request({ target: "/health", headers: [["Host", "x"]] }));
    await once(idle, "data");
    const closed = once(idle, "close");
    assert.equal((await host.stop("SIGINT")).code, 0);
    await closed;
  });
});

function deferred() {
  let resolve;
  const promise = new Promise((settle) => (resolve = settle));
  return { promise, resolve };
}
