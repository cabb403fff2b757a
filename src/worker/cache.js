// The Cache API, which keeps responses and nothing else.

/**
 * What this data centre remembers of a record.
 * @param {string} name
 * @returns {Promise<string | undefined>}
 */
export async function recall(name) {
  const response = await caches.default.match(cacheUrl(name));
  return response?.text();
}

/**
 * @param {string} name
 * @param {string} record
 * @param {number} seconds
 */
export async function remember(name, record, seconds) {
  const headers = { "cache-control": `max-age=${seconds}`, "content-type": "application/json" };
  await caches.default.put(cacheUrl(name), new Response(record, { headers }));
}

/** A host that nobody serves: no request from outside can name it. */
const cacheUrl = (name) => `https://nodetool-edge-auth.invalid/${encodeURIComponent(name)}`;
