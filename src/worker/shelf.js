// The Cache API, which keeps responses and nothing else, and KV.

/** KV keeps nothing for less than this, in seconds. */
const SHORTEST = 60;

/**
 * What this data centre has of a record.
 * @param {string} name
 * @returns {Promise<string | undefined>}
 */
export async function findNearby(name) {
  const response = await caches.default.match(cacheUrl(name));
  return response?.text();
}

/**
 * What KV has of it.
 * @param {KVNamespace | undefined} namespace
 * @param {string} name
 * @returns {Promise<string | null | undefined>}
 */
export async function findEverywhere(namespace, name) {
  return namespace?.get(kvKey(name));
}

/**
 * Leaves a record in both, if they take it.
 * @param {KVNamespace | undefined} namespace
 * @param {string} name
 * @param {string} record
 * @param {number} seconds
 */
export async function leave(namespace, name, record, seconds) {
  const headers = { "cache-control": `max-age=${seconds}`, "content-type": "application/json" };
  await caches.default.put(cacheUrl(name), new Response(record, { headers })).catch(() => {});
  await namespace?.put(kvKey(name), record, { expirationTtl: Math.max(seconds, SHORTEST) }).catch(() => {});
}

/** A host that nobody serves: no request from outside can name it. */
const cacheUrl = (name) => `https://nodetool-edge-auth.invalid/${encodeURIComponent(name)}`;

const kvKey = (name) => `jwks:${name}`;
