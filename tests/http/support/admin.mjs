// What `AUTH_ADMIN_LISTEN` says of a native gateway.
import assert from "node:assert/strict";

import { parseExposition } from "./exposition.mjs";

export const ADMIN_LISTEN = { AUTH_ADMIN_LISTEN: "127.0.0.1:0" };

export function adminPort(host) {
  const found = /probes and metrics on http:\/\/127\.0\.0\.1:(\d+)/.exec(host.log());
  assert.ok(found, host.log());
  return Number(found[1]);
}

export async function probe(host, path, options) {
  const response = await fetch(`http://127.0.0.1:${adminPort(host)}${path}`, { redirect: "manual", ...options });
  return { status: response.status, headers: response.headers, body: await response.text() };
}

/** What `/readyz` says is missing; nothing if it says 200. */
export async function reasons(host) {
  const { status, body } = await probe(host, "/readyz");
  const { ready, reasons = [] } = JSON.parse(body);
  assert.deepEqual([status, ready], reasons.length === 0 ? [200, true] : [503, false]);
  return reasons;
}

export async function metrics(host) {
  const { status, headers, body } = await probe(host, "/metrics");
  assert.equal(status, 200);
  assert.match(headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  return parseExposition(body);
}

/**
 * What moved while `body` ran, as `{name{label=value,…}: difference}`, but for what time alone moves and the numbers of the
 * moment.
 */
export async function moved(host, body) {
  const before = await metrics(host);
  await body();
  const after = await metrics(host);
  const changes = {};
  for (const [key, value] of after.samples) {
    const [, name, labels] = /^([^[]+)(.*)$/.exec(key);
    if (/_(sum|bucket|open|in_flight|age_seconds)$/.test(name)) continue;
    const change = value - (before.samples.get(key) ?? 0);
    if (change !== 0) changes[`${name.replace("nodetool_auth_", "")}${JSON.parse(labels).map(([label, text]) => ` ${label}=${text}`).join("")}`] = change;
  }
  return changes;
}
