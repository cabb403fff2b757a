// The vectors as `explain` is asked about them, and what it must say: as `tests/vectors.rs` has it for the core.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";

const FOLDER = new URL("../../vectors/", import.meta.url);

/** What a client sends that was told nothing else. */
const HOST = "127.0.0.1:8000";

/** 2026-01-01T00:00:00Z, for cases that do not say when they happen. */
const NOW = 1767225600;

const IDENTITY = ["x-user-id", "x-auth-token-type", "x-auth-role"];

/** Every run that the core makes of them: settings, and the request as `explain` wants it described. */
export function runs() {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
  const cases = files.flatMap((file) => JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")));
  return cases.flatMap((one) => hostsOf(one).map((host) => ({ name: `${one.name} [${host}]`, vector: one, settings: one.settings, request: described(one, host) })));
}

function hostsOf({ host, hosts }) {
  if (host) return [host];
  // A case that runs on no host over HTTP is still one for the core.
  return hosts?.length > 0 ? hosts : ["native", "edge"];
}

function described({ request, now, peer, scheme, store, store_fails }, host) {
  if (!request) return { host, method: "GET", target: "/" };
  const { method, target, headers = [], body, no_host } = request;
  const hasHost = headers.some(([name]) => name.toLowerCase() === "host") || no_host;
  const common = { host, method, target, hasBody: Boolean(body), peer: peer ?? "127.0.0.1", scheme, store, storeFails: store_fails, now: now ?? NOW };
  return { ...common, headers: hasHost ? headers : [["Host", HOST], ...headers] };
}

/** Whether this is what the vector expects. */
export function check({ vector, request }, { errors, explanation }) {
  if (vector.errors) return assert.deepEqual(errors.map(({ name }) => name).sort(), vector.errors);
  assert.deepEqual(errors, []);
  const { expect } = vector;
  if (expect.forward) checkForward(expect.forward, explanation, request);
  else checkAnswer(expect, explanation, request);
  // Whatever it is, the steps lead to it.
  const refused = explanation.findings.filter(({ status }) => status === "refused");
  assert.equal(refused.length > 0, explanation.verdict === "refuse", JSON.stringify(explanation.findings));
}

function checkAnswer(expect, { answer, reason, verdict }, { method, now }) {
  assert.ok(answer, "it is forwarded");
  assert.equal(reason, expect.reason ?? null);
  assert.equal(verdict, reason === null ? "pass" : "refuse");
  assert.equal(answer.status, expect.status);
  const body = answer.body === "" ? null : JSON.parse(answer.body);
  if (body?.timestamp) {
    assert.equal(Date.parse(body.timestamp), now * 1000);
    body.timestamp = "$timestamp";
  }
  // What is sent in answer to HEAD ends with the headers.
  assert.deepEqual(body, method === "HEAD" ? null : expect.json);
  const own = { "cache-control": "no-store", ...(expect.json === null ? {} : { "content-type": "application/json" }) };
  assert.deepEqual(Object.fromEntries(answer.headers), { ...expect.headers, ...own });
}

function checkForward(expect, { forward, verdict, reason }, { headers, peer, target }) {
  assert.ok(forward, `it is refused: ${reason}`);
  assert.equal(verdict, "pass");
  assert.equal(forward.target, expect.target ?? target);
  const set = Object.fromEntries(forward.set);
  assert.equal(Object.keys(set).length, forward.set.length, "a header is set twice");
  const known = { $peer: peer, $host: headers.find(([name]) => name.toLowerCase() === "host")?.[1] ?? HOST };
  for (const name of IDENTITY) assert.equal(set[name], expect.set[name], name);
  for (const [name, value] of Object.entries(expect.set)) assert.equal(set[name], known[value] ?? value, name);
  const kept = new Set(forward.headers.filter(({ fate }) => fate === "kept").map(({ name }) => name.toLowerCase()));
  for (const name of IDENTITY) assert.ok(!kept.has(name), `${name} of the client goes on`);
  for (const name of Object.keys(expect.kept ?? {})) assert.ok(kept.has(name.toLowerCase()), `${name} is dropped`);
  for (const name of expect.dropped ?? []) assert.ok(!kept.has(name.toLowerCase()), `${name} goes on`);
}
