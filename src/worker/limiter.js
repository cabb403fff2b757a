// The rate limiting binding, which counts in each data centre.

/**
 * Counts one more of a key, and says whether it is within the limit. What cannot be counted is.
 * @param {RateLimit} binding
 * @param {string} key
 */
export async function count(binding, key) {
  const { success } = await binding.limit({ key });
  return success !== false;
}
