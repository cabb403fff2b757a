// A host and the API behind it, which start and stop together.
import { STATIC, startHost } from "./hosts.mjs";
import { startUpstream } from "./upstream.mjs";

/**
 * @param {"native" | "edge"} name
 * @param {{settings?: Record<string, string>, start?: () => unknown} & object} options `settings`: but for where the upstream is; `start`: makes
 * another upstream than the usual one; the rest is for `startHost`
 * @returns {Promise<{host: import("./hosts.mjs").Running, upstream: object, stop(): Promise<void>}>}
 */
export async function startServing(name, { settings = STATIC, start = startUpstream, ...options } = {}) {
  const upstream = await start();
  try {
    const host = await startHost(name, { settings: { UPSTREAM_URL: upstream.url, ...settings }, ...options });
    const stop = async () => {
      await host.stop();
      await upstream.stop();
    };
    return { host, upstream, stop };
  } catch (error) {
    await upstream.stop();
    throw error;
  }
}

/** Runs both for as long as `body` takes. */
export async function serving(name, options, body) {
  const { host, upstream, stop } = await startServing(name, options);
  try {
    return await body(host, upstream);
  } finally {
    await stop();
  }
}
