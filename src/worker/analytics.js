// Analytics Engine, where it is bound: a data point for each judgement.

/**
 * Never waits, and never fails: what becomes of a data point is nothing to the request.
 * @param {{AUTH_ANALYTICS: AnalyticsEngineDataset}} env
 * @param {string} judgement verdict, reason, token type and method, a line each
 */
export function record(env, judgement) {
  try {
    const blobs = judgement.split("\n");
    const [verdict, reason] = blobs;
    const written = env.AUTH_ANALYTICS.writeDataPoint({ blobs, doubles: [1], indexes: [verdict === "pass" ? verdict : reason] });
    // The platform's own returns nothing. Another one may promise something and break it.
    if (typeof written?.then === "function") written.then(undefined, () => {});
  } catch {
    // As if nothing were bound.
  }
}
