// A new process takes the place of an old one, and no client notices: a socket that is handed over, or shared.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";

import { AUTHORIZATION, NATIVE_BINARY, STATIC, TOKEN, gatherOutput, spawnNative, startNative, temporaryFolder } from "./support/hosts.mjs";
import { until } from "./support/process.mjs";
import { ask, request } from "./support/raw.mjs";
import { startUpstream } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);
const headers = Object.fromEntries([AUTHORIZATION]);
const head = [["Host", "x"], AUTHORIZATION];

/** Clients that ask one after the other, on kept connections and on new ones, until they are told to end; what went wrong. */
function steadyLoad(port, { clients = 8 } = {}) {
  const failures = [];
  let count = 0;
  let isOver = false;
  const agents = [new http.Agent({ keepAlive: true, maxSockets: clients }), new http.Agent({ keepAlive: false })];
  const one = async (agent) => {
    const outgoing = http.get({ port, host: "127.0.0.1", path: "/v1/models", agent, headers });
    try {
      const [response] = await once(outgoing, "response");
      let size = 0;
      for await (const chunk of response) size += chunk.length;
      if (response.statusCode !== 200 || size !== Number(response.headers["content-length"])) failures.push(`${response.statusCode}, ${size} bytes`);
      count += 1;
    } catch (error) {
      failures.push(`${error.code} ${error.message} (a new connection: ${!outgoing.reusedSocket})`);
    }
  };
  const running = Array.from({ length: clients }, async (_, index) => {
    while (!isOver) await one(agents[index % 2]);
  });
  return {
    /** When so many more have been answered. */
    async after(more) {
      const goal = count + more;
      while (count < goal) await new Promise((resolve) => setTimeout(resolve, 10));
    },
    async end() {
      isOver = true;
      await Promise.all(running);
      for (const agent of agents) agent.destroy();
      return failures;
    },
  };
}

/**
 * A gateway that is started with this socket as its descriptor 3, as systemd does it. With `waits` that happens at `go`, and
 * until then the socket is held, and nobody accepts from it.
 */
function startWith(server, { settings = {}, count = 1, pid = "$$", descriptors = [server._handle.fd], waits = false } = {}) {
  const home = temporaryFolder();
  const env = { PATH: process.env.PATH, HOME: home, NODETOOL_CONFIG_PATH: path.join(home, "deployment.yaml"), ...STATIC, ...settings };
  const child = spawn("sh", ["-c", `${waits ? "read go; " : ""}LISTEN_PID=${pid} LISTEN_FDS=${count} exec "$0" serve`, NATIVE_BINARY], { env, cwd: home, stdio: [waits ? "pipe" : "ignore", "pipe", "pipe", ...descriptors] });
  const output = gatherOutput(child, "native");
  const exited = once(child, "close").then(([code]) => {
    rmSync(home, { recursive: true, force: true });
    return { code, ...output };
  });
  const listening = (async () => {
    while (!output.stderr.includes("listening on")) {
      if (child.exitCode !== null) throw new Error(output.stderr);
      await Promise.race([once(child.stderr, "data"), exited]);
    }
  })();
  listening.catch(() => {});
  return { child, output, exited, listening, go: () => child.stdin.write("go\n") };
}

/** Whether the system hands connections in the queue of a closed socket to another one at the same address. */
function migrates() {
  const file = "/proc/sys/net/ipv4/tcp_migrate_req";
  return existsSync(file) && readFileSync(file, "utf8").trim() === "1";
}

/** A socket that listens, and that nobody here accepts from. */
async function listeningSocket(host = "127.0.0.1") {
  const server = net.createServer();
  server.listen(0, host);
  await once(server, "listening");
  return { server, port: server.address().port, close: () => once(server.close(), "close") };
}

describe("a socket that is handed over", { skip: process.platform === "win32" && "there are no such sockets" }, () => {
  // Node would accept from the socket too: it is closed here as soon as another has it.
  async function handedOver(options, body) {
    const upstream = await startUpstream();
    const socket = await listeningSocket(options.host);
    const host = startWith(socket.server, { ...options, settings: { UPSTREAM_URL: upstream.url, ...options.settings } });
    await socket.close();
    try {
      return await body({ ...host, port: socket.port, upstream });
    } finally {
      host.child.kill("SIGKILL");
      await host.exited;
      await upstream.stop();
    }
  }

  test("is served, whatever AUTH_LISTEN says, and the log tells so", () =>
    handedOver({ settings: { AUTH_LISTEN: "127.0.0.1:1" } }, async ({ port, listening, output, child, exited }) => {
      await listening;
      assert.match(output.stderr, new RegExp(`listening on http://127\\.0\\.0\\.1:${port}, a socket that was handed over`));
      assert.equal((await ask(port, request({ target: "/v1/models", headers: head }))).status, 200);
      child.kill("SIGTERM");
      assert.equal((await exited).code, 0);
    }),
  );

  test("decides who may pass by default: beyond this machine nobody does without a token", () =>
    handedOver({ host: "0.0.0.0", settings: { AUTH_PROVIDER: "", WORKER_AUTH_TOKEN: TOKEN } }, async ({ port, listening, output }) => {
      await listening;
      assert.equal((await ask(port, request({ target: "/v1/models", headers: [["Host", "127.0.0.1"]] }))).status, 401);
      assert.match(output.stdout, /ENABLED/);
    }),
  );

  test("for another process is none of ours", () =>
    handedOver({ pid: "1", settings: { AUTH_LISTEN: "127.0.0.1:0" } }, async ({ listening, output, port }) => {
      await listening;
      assert.ok(!output.stderr.includes(`:${port}`) && !output.stderr.includes("handed over"));
    }),
  );

  test("that is no such thing is an error, and so are two", async () => {
    const { server, close } = await listeningSocket();
    const fd = server._handle.fd;
    for (const [options, expected] of [[{ count: 2, descriptors: [fd, fd] }, /LISTEN_FDS\) cannot be used: there are 2/], [{ descriptors: ["pipe"] }, /LISTEN_FDS\) cannot be used/]]) {
      const { code, stderr } = await startWith(server, options).exited;
      assert.equal(code, 1);
      assert.match(stderr, expected);
    }
    await close();
  });

  test("stays open from one process to the next: no request fails", async () => {
    const upstream = await startUpstream();
    const socket = await listeningSocket();
    const settings = { UPSTREAM_URL: upstream.url };
    // Those that wait hold the socket, as systemd does.
    const hosts = Array.from({ length: 4 }, () => startWith(socket.server, { settings, waits: true }));
    await socket.close();
    const [first, ...others] = hosts;
    first.go();
    await first.listening;
    const load = steadyLoad(socket.port);
    try {
      let host = first;
      for (const [round, next] of others.entries()) {
        await load.after(200);
        host.child.kill("SIGTERM");
        // Beside the old one, or only after its end, when clients wait in the queue meanwhile.
        if (round % 2) assert.equal((await host.exited).code, 0);
        next.go();
        await next.listening;
        assert.equal((await host.exited).code, 0);
        host = next;
      }
      await load.after(200);
      assert.deepEqual(await load.end(), []);
    } finally {
      for (const { child } of hosts) child.kill("SIGKILL");
      await load.end();
      await upstream.stop();
    }
  });
});

describe("AUTH_REUSE_PORT", { skip: process.platform === "win32" && "it is not supported there" }, () => {
  test("lets a new process take over from the old one: no request on a kept connection fails, and next to none on a new one", async () => {
    const upstream = await startUpstream();
    const settings = { ...STATIC, UPSTREAM_URL: upstream.url, AUTH_REUSE_PORT: "1" };
    let host = await startNative({ settings });
    const { port } = host;
    const load = steadyLoad(port);
    try {
      for (let round = 0; round < 3; round += 1) {
        await load.after(200);
        const next = await startNative({ settings: { ...settings, AUTH_LISTEN: `127.0.0.1:${port}` } });
        await load.after(200);
        assert.equal((await host.stop("SIGTERM")).code, 0);
        host = next;
      }
      await load.after(200);
      const failures = await load.end();
      // Without this switch Linux resets a connection that begins in the very moment in which the old socket closes.
      const resets = failures.filter((failure) => /^ECONNRESET .*a new connection: true/.test(failure));
      assert.deepEqual(failures.filter((failure) => !resets.includes(failure)), []);
      assert.ok(resets.length <= (migrates() ? 0 : 3), resets.join("\n"));
    } finally {
      await load.end();
      await host.stop();
      await upstream.stop();
    }
  });

  test("is nothing that happens by mistake: all of them must have set it", async () => {
    for (const [first, second, code] of [["1", "0", 1], ["0", "1", 1]]) {
      const host = await startNative({ settings: { ...STATIC, AUTH_REUSE_PORT: first } });
      const other = spawnNative({ settings: { ...STATIC, AUTH_REUSE_PORT: second, AUTH_LISTEN: `127.0.0.1:${host.port}` } });
      const ended = await other.exited;
      assert.equal(ended.code, code);
      assert.match(ended.stderr, /cannot listen on .*in use/);
      rmSync(other.home, { recursive: true, force: true });
      await host.stop();
    }
  });
});

describe("the queue of a socket that is closed", () => {
  test("is served to its end: those in it are connected, as far as they can tell", async () => {
    const upstream = await startUpstream();
    // With room for one connection, and sixteen beyond it, all others wait in the queue of the system.
    const room = 17;
    const host = await startNative({ settings: { ...STATIC, UPSTREAM_URL: upstream.url, AUTH_MAX_CONNECTIONS: "1" } });
    try {
      const first = Array.from({ length: room }, () => ask(host.port, request({ target: "/held", headers: head }), { timeout: 60_000 }));
      await until(() => upstream.requests.filter(({ target }) => target === "/held").length === room);
      const waiting = Array.from({ length: 20 }, () => ask(host.port, request({ target: "/v1/models", headers: [...head, ["Connection", "close"]] }), { timeout: 60_000 }));
      // Another connection that was made later: theirs are in the queue by then.
      const last = net.connect(host.port, "127.0.0.1");
      await once(last, "connect");
      host.child.kill("SIGTERM");
      const statuses = (await Promise.all(waiting)).map(({ status }) => status);
      assert.deepEqual([...new Set(statuses)], [200]);
      last.destroy();
      upstream.release();
      assert.deepEqual(new Set((await Promise.all(first)).map(({ status }) => status)), new Set([200]));
      assert.equal((await host.exited).code, 0);
    } finally {
      host.child.kill("SIGKILL");
      await upstream.stop();
    }
  });
});
