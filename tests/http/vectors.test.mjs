// Every vector over HTTP on both hosts: what is expected of each, and that both did the same.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import test, { after, before } from "node:test";

import { HOSTS, spawnNative, startHost, temporaryFolder, writeFile } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { startUpstream } from "./support/upstream.mjs";

const FOLDER = new URL("../vectors/", import.meta.url);
const IDENTITY = ["x-user-id", "x-auth-token-type", "x-auth-role"];
const CORS = ["allow-origin", "allow-methods", "allow-headers", "expose-headers", "max-age"].map((name) => `access-control-${name}`);
const OWN_HEADERS = ["content-type", "cache-control", "www-authenticate", "retry-after", "allow", "vary", ...CORS, ...IDENTITY];

/** What each platform says in its own way: framing, connection, where the request came from. */
const PLATFORM = /^(host|x-request-id|x-nodetool-auth-hops|connection|keep-alive|transfer-encoding|content-length|accept-encoding|x-forwarded-.*|cf-.*|mf-.*)$/;

const upstreams = {};
before(async () => {
  for (const host of HOSTS) upstreams[host] = await startUpstream();
});
after(async () => {
  for (const host of HOSTS) await upstreams[host].stop();
});

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
  const cases = JSON.parse(readFileSync(new URL(file, FOLDER), "utf8"));
  test(file, async () => {
    const failures = file === "settings.json" ? await runSettings(cases) : await runRequests(cases);
    assert.ok(failures.length === 0, `of ${cases.length} cases, these failed:\n${failures.join("\n")}`);
  });
}

async function runRequests(cases) {
  const failures = [];
  for (const group of groupBy(cases, ({ settings, store }) => JSON.stringify([settings, store]))) {
    const { settings, store } = group[0];
    const wanted = HOSTS.filter((host) => group.some((vector) => hostsOf(vector).includes(host)));
    const running = await Promise.all(wanted.map((host) => startHost(host, { settings: withUpstream(settings, host), store, home: homeOf(store, host) })));
    try {
      for (const vector of group) {
        const hosts = running.filter(({ name }) => hostsOf(vector).includes(name));
        const outcomes = await Promise.all(hosts.map((host) => run(vector, host).catch((error) => ({ host: host.name, error: orDeath(error, host) }))));
        for (const outcome of outcomes) {
          const failure = outcome.error ?? attempt(() => check(vector, outcome));
          if (failure) failures.push(`${vector.name} [${outcome.host}]\n    ${failure.message.replaceAll("\n", "\n    ")}`);
        }
        const failure = outcomes.length === 2 && !outcomes.some(({ error }) => error) && attempt(() => checkParity(...outcomes));
        if (failure && !vector.edge) failures.push(`${vector.name} [parity]\n    ${failure.message.replaceAll("\n", "\n    ")}`);
      }
    } finally {
      await Promise.all(running.map((host) => host.stop()));
      for (const { name, home } of running) if (name === "native" && home) rmSync(home, { recursive: true, force: true });
    }
  }
  return failures;
}

/** A folder with a deployment file that holds the bare token which KV holds at the edge. */
function homeOf(store, host) {
  if (host !== "native" || store === undefined || /^[{["]/.test(store)) return undefined;
  const home = temporaryFolder();
  mkdirSync(path.join(home, "nodetool"), { mode: 0o700 });
  writeFile(path.join(home, "nodetool", "deployment.yaml"), `worker_auth_token: ${store}\n`);
  return home;
}

/** How a request is called whose vector says nothing of it. */
const ID = "vector-1";

async function run(vector, host) {
  const upstream = upstreams[host.name];
  upstream.take();
  const { method, target, headers = [], body } = vector.request;
  const named = headers.some(([name]) => name.toLowerCase() === "host");
  const hostHeader = headers.find(([name]) => name.toLowerCase() === "host")?.[1] ?? `127.0.0.1:${host.port}`;
  // Without one, each host calls the request in its own way.
  const marked = headers.some(([name]) => name.toLowerCase() === "x-request-id") ? headers : [["X-Request-Id", ID], ...headers];
  const all = named ? marked : [["Host", hostHeader], ...marked];
  const answer = await ask(host.port, request({ method, target, headers: all, body }), { head: method === "HEAD" });
  const received = await Promise.all(upstream.take().map(async (entry) => ({ ...entry, body: await entry.body })));
  return { host: host.name, answer, received, hostHeader };
}

function check(vector, { host, answer, received, hostHeader }) {
  const expect = (host === "edge" && vector.edge) || vector.expect;
  if (expect.forward) {
    const shown = received.length === 1 ? "" : `; the gateway answered ${answer.status} ${answer.body}`;
    assert.equal(received.length, 1, `the upstream got ${received.length} requests${shown}`);
    assert.ok(answer.status === 200 || answer.status === 201, `status ${answer.status}`);
    checkReceived(vector, expect.forward, received[0], { host, hostHeader });
    return;
  }
  assert.deepEqual(received.map(({ method, target }) => `${method} ${target}`), [], "the upstream got a request");
  assert.equal(answer.status, expect.status, `status (body: ${answer.body})`);
  const headers = { "content-type": expect.json === null ? undefined : "application/json", "cache-control": "no-store", ...expect.headers };
  for (const name of OWN_HEADERS) assert.equal(answer.header(name), headers[name], name);
  if (vector.request.method === "HEAD") assert.equal(answer.body.length, 0, "HEAD has no body");
  else assert.deepEqual(bodyOf(answer), expect.json, "body");
}

function bodyOf(answer) {
  if (answer.body.length === 0) return null;
  const body = JSON.parse(answer.body.toString());
  if (typeof body.timestamp === "string" && !Number.isNaN(Date.parse(body.timestamp)) && /^\d{4}-.*Z$/.test(body.timestamp)) {
    body.timestamp = "$timestamp";
  }
  return body;
}

function checkReceived(vector, expected, received, { host, hostHeader }) {
  const { method, target, headers = [], body = "" } = vector.request;
  assert.equal(`${received.method} ${received.target}`, `${method} ${expected.target ?? target}`, "what was judged is what goes on");
  assert.equal(received.body.toString("latin1"), Buffer.from(body).toString("latin1"), "body");

  // Any header that somebody could read as an identity is one of ours.
  const identity = received.headers.filter(([name]) => IDENTITY.includes(name.replaceAll("_", "-")));
  const own = Object.entries(expected.set).filter(([name]) => IDENTITY.includes(name));
  assert.deepEqual(identity.sort(), own.sort(), "identity");

  const values = (name) => received.headers.filter(([other]) => other === name).map(([, value]) => value);
  for (const [name, value] of Object.entries(expected.set)) {
    // Where a request comes from, the edge is told by its platform; in a test that may be nothing at all.
    if (value === "$peer" && host === "edge" && values(name).length === 0) continue;
    assert.deepEqual(values(name), [{ $peer: "127.0.0.1", $host: hostHeader }[value] ?? value], name);
  }
  for (const [name, value] of Object.entries(expected.kept ?? {})) assert.deepEqual(values(name), [value], `${name} is kept`);
  for (const dropped of expected.dropped ?? []) {
    const sent = headers.filter(([name]) => name.toLowerCase() === dropped.toLowerCase()).map(([, value]) => value);
    const leaked = values(dropped.toLowerCase()).filter((value) => sent.includes(value));
    assert.deepEqual(leaked, [], `${dropped} is dropped`);
  }
  const id = headers.find(([name]) => name.toLowerCase() === "x-request-id")?.[1] ?? ID;
  assert.deepEqual(values("x-request-id"), [id], "the id of the request goes on");
  const upstreamHost = values("host");
  assert.ok(upstreamHost.length === 1 && upstreamHost[0].startsWith("127.0.0.1:") && upstreamHost[0] !== hostHeader, `Host is ${upstreamHost}`);
}

function checkParity(one, other) {
  const shownAnswer = ({ answer }) => ({
    status: answer.status,
    headers: OWN_HEADERS.map((name) => [name, answer.header(name)]),
    body: answer.body.length > 0 ? bodyOf(answer) : "",
  });
  assert.deepEqual(shownAnswer(one), shownAnswer(other), "both hosts answer alike");
  const shownRequest = ({ received }) =>
    received.map(({ method, target, headers, body }) => ({
      line: `${method} ${target}`,
      headers: headers.filter(([name]) => !PLATFORM.test(name)).sort(),
      body: body.toString("latin1"),
    }));
  assert.deepEqual(shownRequest(one), shownRequest(other), "the upstream gets the same from both hosts");
}

/** Wrong settings: the binary names each of them and ends with 78, the Worker answers 500 to everything. */
async function runSettings(cases) {
  const failures = [];
  for (const { name, host, settings, errors } of cases.filter((vector) => vector.errors.length > 0)) {
    // An environment variable cannot hold a NUL byte.
    if (Object.values(settings).some((value) => value.includes("\0"))) continue;
    const failure = await (host === "native" ? refusesToStart(settings, errors) : answersNothing(settings)).then(() => null, (error) => error);
    if (failure) failures.push(`${name} [${host}]\n    ${failure.message.replaceAll("\n", "\n    ")}`);
  }
  return failures;
}

async function refusesToStart(settings, errors) {
  const running = spawnNative({ settings: { AUTH_LISTEN: "127.0.0.1:0", ...settings } });
  running.listening.then(() => running.child.kill(), () => {});
  const { code, stderr } = await running.exited;
  assert.equal(code, 78, `exit status; standard error: ${stderr}`);
  for (const name of errors) assert.match(stderr, new RegExp(`^${name}: `, "m"));
}

async function answersNothing(settings) {
  const host = await startHost("edge", { settings });
  try {
    for (const target of ["/v1/models", "/health", "/v1%00"]) {
      const answer = await ask(host.port, request({ target, headers: [["Host", "x"]] }));
      assert.deepEqual([answer.status, answer.body.toString()], [500, '{"detail":"Authentication is misconfigured"}'], target);
      assert.deepEqual([answer.header("content-type"), answer.header("cache-control")], ["application/json", "no-store"], target);
    }
  } finally {
    await host.stop();
  }
}

/** A host that has ended explains more than the answer that it did not give. */
function orDeath(error, { child, log }) {
  const end = child?.exitCode ?? child?.signalCode;
  return end == null ? error : new Error(`the host had ended (${end}):\n${log().slice(-500)}`);
}

const hostsOf = ({ hosts = HOSTS }) => hosts;

const withUpstream = (settings, host) =>
  settings.UPSTREAM_URL === "http://upstream.test" ? { ...settings, UPSTREAM_URL: upstreams[host].url } : settings;

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups.values();
}

function attempt(run) {
  try {
    run();
    return null;
  } catch (error) {
    return error;
  }
}
