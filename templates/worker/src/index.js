// Lets nobody through to the API at UPSTREAM_URL who may not pass, and tells it who everybody is. What is to be done besides has its
// place in `serve`.
import { Gate, cacheStore } from "nodetool-edge-auth";

/** What must be kept by no cache. */
const FAILURE = { headers: { "cache-control": "no-store" } };

let gate;

export default {
  async fetch(request, env, context) {
    gate ??= load(env);
    if (!gate) return Response.json({ detail: "Authentication is misconfigured" }, { status: 500, ...FAILURE });
    const decision = await gate.check(request, context);
    return decision.response ?? decision.finish(await serve(request, decision, env));
  },
};

/** Nothing if a setting is wrong, which the log then tells. */
function load(env) {
  try {
    new URL(env.UPSTREAM_URL);
    const store = [cacheStore(caches.default), env.AUTH_KV].filter(Boolean);
    return new Gate(env, { store, tokens: env.WORKER_AUTH_TOKEN ? undefined : env.AUTH_KV });
  } catch (error) {
    console.error(error.message);
  }
}

/**
 * The request goes on with the headers that the gate made: `x-user-id`, `x-auth-token-type`, `x-auth-role`. Cloudflare's cache is not
 * used: it would give the answer to one user to another.
 */
async function serve(request, { headers, url }, env) {
  const { pathname, search } = new URL(url);
  const target = new URL(env.UPSTREAM_URL).origin + pathname + search;
  try {
    return await fetch(new Request(target, request), { headers, cache: "no-store" });
  } catch (error) {
    console.error(`The upstream cannot be reached: ${error.message}`);
    return Response.json({ detail: "Upstream unavailable" }, { status: 502, ...FAILURE });
  }
}
