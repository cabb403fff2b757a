import { DurableObject } from "cloudflare:workers";

/**
 * For how long the token that was settled on is the answer, in milliseconds. By then KV shows it everywhere, and whoever
 * still finds none there has found that it was deleted.
 */
const SETTLED_FOR = 300_000;

/**
 * Settles which of the tokens that isolates generate at one time is the one. There is one such object in the world, and it
 * does one thing at a time; KV alone would take one token after the other, and tell of the last one late.
 */
export class TokenArbiter extends DurableObject {
  /**
   * @param {string} key of KV
   * @param {string} candidate
   * @returns {Promise<string>} the first candidate, which is in KV by then
   */
  settle(key, candidate) {
    return this.ctx.blockConcurrencyWhile(async () => {
      const { storage } = this.ctx;
      const settled = await storage.get("settled");
      const age = Date.now() - settled?.at;
      if (age >= 0 && age < SETTLED_FOR) return settled.token;
      // One that KV does not take is nobody's: whoever brought it is told of the failure.
      await this.env.AUTH_KV.put(key, candidate);
      await storage.put("settled", { token: candidate, at: Date.now() });
      return candidate;
    });
  }
}
