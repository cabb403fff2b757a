// The platform's side of where the token is kept.

/**
 * What is kept: in the secret, unless it is blank, else in KV. A binding that is not there holds nothing.
 * @param {{get(): Promise<string>} | undefined} secret
 * @param {KVNamespace | undefined} namespace
 * @param {string} key
 * @returns {Promise<string>}
 */
export async function find(secret, namespace, key) {
  const value = await secret?.get();
  return value?.trim() ? value : ((await namespace?.get(key)) ?? "");
}

/**
 * @param {KVNamespace} namespace
 * @param {string} key
 * @param {string} value
 * @returns {Promise<string>} the value
 */
export async function keep(namespace, key, value) {
  await namespace.put(key, value);
  return value;
}

/**
 * The one token that all isolates settle on, kept in KV by then.
 * @param {DurableObjectNamespace} arbiter of `TokenArbiter`
 * @param {string} key
 * @param {string} candidate
 * @returns {Promise<string>}
 */
export function settle(arbiter, key, candidate) {
  return arbiter.getByName(key).settle(key, candidate);
}
