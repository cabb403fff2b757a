// A gateway between a fake Supabase and an upstream, and what may be said of its answers.
import assert from "node:assert/strict";

import { TOKEN, startHost } from "./hosts.mjs";
import { SECRET, claimsOf } from "./jwt.mjs";
import { ask, request } from "./raw.mjs";
import { API_KEY, startSupabase } from "./supabase.mjs";
import { startUpstream } from "./upstream.mjs";

export const IDENTITY = ["x-user-id", "x-auth-token-type", "x-auth-role"];

const invalid = { status: 401, detail: "Invalid authentication token" };
export const INVALID = { ...invalid, challenge: 'Bearer error="invalid_token"' };
export const EXPIRED = { ...invalid, challenge: 'Bearer error="invalid_token", error_description="The access token expired"' };
/** A wrong token with an `exp` of the past: which of both is the reason, the contract leaves open. */
export const INVALID_OR_EXPIRED = { ...invalid, challenge: [INVALID.challenge, EXPIRED.challenge] };
export const NO_CREDENTIAL = { status: 401, detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'", challenge: "Bearer" };
export const NOT_ADMIN = { status: 403, detail: "Admin access required", challenge: 'Bearer error="insufficient_scope"' };
export const NO_ADMIN_TOKEN = { status: 403, detail: "Admin token required. Use X-Admin-Token header.", challenge: 'Bearer error="insufficient_scope"' };
export const UNAVAILABLE = { status: 503, detail: "Authentication service unavailable", challenge: undefined, retryAfter: "5" };

/**
 * @param {"native" | "edge"} name
 * @param {{settings?: Record<string, string | undefined>, env?: object, store?: string, prepare?: (supabase) => void} & object} options the rest is for `startSupabase`;
 * `prepare` is called before the host starts; a setting that is `undefined` is not set
 */
export async function startGateway(name, { settings = {}, env, store, prepare, ...project } = {}) {
  const upstream = await startUpstream();
  const supabase = await startSupabase({ secret: SECRET, ...project });
  const stopAround = async () => {
    await supabase.stop();
    await upstream.stop();
  };
  let host;
  try {
    await prepare?.(supabase);
    const all = {
      AUTH_PROVIDER: "supabase",
      SUPABASE_URL: supabase.url,
      SUPABASE_KEY: API_KEY,
      WORKER_AUTH_TOKEN: TOKEN,
      UPSTREAM_URL: upstream.url,
      LOG_LEVEL: "debug",
      ...settings,
    };
    const set = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
    host = await startHost(name, { settings: set, env, store });
  } catch (error) {
    await stopAround();
    throw error;
  }

  let count = 0;

  /** Sends a request with this token, to a path that no other one has, and tells what came of it. */
  async function send(token, { target, method = "GET", headers = [], timeout } = {}) {
    count += 1;
    const path = target ?? `/v1/r${count}`;
    const marked = `${path}${path.includes("?") ? "&" : "?"}n=${count}`;
    const authorization = token === undefined ? [] : [["Authorization", `Bearer ${token}`]];
    const bytes = request({ method, target: marked, headers: [["Host", `127.0.0.1:${host.port}`], ...authorization, ...headers] });
    const answer = await ask(host.port, bytes, { timeout });
    const received = upstream.requests.filter((entry) => entry.target === marked);
    return { answer, received, status: answer.status };
  }

  const identityOf = ({ headers }) => headers.map(([header, value]) => [header.replaceAll("_", "-"), value]).filter(([header]) => IDENTITY.includes(header)).sort();

  const gateway = {
    name,
    host,
    upstream,
    supabase,
    send,
    claims: (changes) => claimsOf(supabase, changes),
    status: async (token, options) => (await send(token, options)).status,

    /** The request passes, and the upstream hears of exactly this user. */
    async accepts(token, claims, options) {
      const { answer, received } = await send(token, options);
      assert.equal(answer.status, 200, `accepted (${answer.status} ${answer.body}, ${answer.header("www-authenticate")})`);
      assert.equal(received.length, 1, "the upstream got it once");
      assert.deepEqual(identityOf(received[0]), [["x-auth-role", claims.role], ["x-auth-token-type", "user"], ["x-user-id", claims.sub]], "identity");
      return { answer, received: received[0] };
    },

    async acceptsStatic(token = TOKEN, options) {
      const { answer, received } = await send(token, options);
      assert.equal(answer.status, 200, `accepted (${answer.status} ${answer.body})`);
      assert.equal(received.length, 1, "the upstream got it once");
      assert.deepEqual(identityOf(received[0]), [["x-auth-token-type", "static"], ["x-user-id", "1"]], "identity");
    },

    /** The request is refused in exactly these words, and the upstream never hears of it. */
    async refuses(token, refusal = INVALID, options) {
      const { answer, received } = await send(token, options);
      assert.deepEqual(received, [], "nothing reaches the upstream");
      checkRefusal(answer, refusal);
      if (token) assert.ok(!answer.headers.some(([, value]) => value.includes(token)), "the token is not repeated");
      return answer;
    },

    unavailable: (token, options) => gateway.refuses(token, UNAVAILABLE, options),

    /** How often Supabase was asked while `body` ran. */
    async calls(body) {
      const [jwks, user] = [supabase.jwks.calls, supabase.user.calls];
      await body();
      return { jwks: supabase.jwks.calls - jwks, user: supabase.user.calls - user };
    },

    async stop() {
      await host.stop();
      await stopAround();
      assert.deepEqual(supabase.others.map(({ method, target }) => `${method} ${target}`), [], "Supabase was asked for nothing else");
      for (const { headers } of supabase.jwks.requests) assert.ok(!headers.authorization?.includes("."), "no token goes to where the keys are");
    },
  };
  return gateway;
}

export function checkRefusal(answer, { status, detail, challenge, retryAfter }) {
  assert.equal(answer.status, status, `status (${answer.body})`);
  assert.equal(answer.body.toString(), JSON.stringify({ detail }), "body");
  const challenges = Array.isArray(challenge) ? challenge : [challenge];
  assert.ok(challenges.includes(answer.header("www-authenticate")), `www-authenticate: ${answer.header("www-authenticate")}, not ${challenges.join(" or ")}`);
  assert.equal(answer.header("retry-after"), retryAfter, "retry-after");
  assert.equal(answer.header("content-type"), "application/json");
  assert.equal(answer.header("cache-control"), "no-store");
}

/** Runs `body` with a gateway of its own. */
export async function withGateway(name, options, body) {
  const gateway = await startGateway(name, options);
  let failed = true;
  try {
    await body(gateway);
    failed = false;
  } finally {
    // What went wrong first is what is to be read.
    await (failed ? gateway.stop().catch(() => {}) : gateway.stop());
  }
}

/** Asks again and again until it is so: for what time alone brings about. */
export async function until(what, limit, body) {
  const end = Date.now() + limit;
  for (;;) {
    const result = await body();
    if (result) return result;
    if (Date.now() > end) assert.fail(`not within ${limit} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Polls `isSo` until it returns `true`. Any other value is the reason why not, and stands in the failure. */
export async function eventually(what, isSo, limit = 15_000) {
  const end = Date.now() + limit;
  for (;;) {
    const last = await isSo();
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what}: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** As many at once as there are, or as `width` says. */
export async function inParallel(items, width, run) {
  const results = new Array(items.length);
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) results[at] = await run(items[at], at);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return results;
}

export function tally(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
