// Where gates leave keys for each other.

/**
 * A store in a cache of the Cache API. A host that nobody serves: no request from outside can name what is in there.
 * @param {Cache | Promise<Cache>} cache
 */
export function cacheStore(cache) {
  const urlOf = (key) => `https://nodetool-edge-auth.invalid/${encodeURIComponent(key)}`;
  return {
    async get(key) {
      const response = await (await cache).match(urlOf(key));
      return response ? response.text() : null;
    },
    async put(key, value, { expirationTtl }) {
      const headers = { "cache-control": `max-age=${expirationTtl}`, "content-type": "text/plain;charset=utf-8" };
      await (await cache).put(urlOf(key), new Response(value, { headers }));
    },
  };
}
