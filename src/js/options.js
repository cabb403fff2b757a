// What an embedder hands over beside its settings, and how it is used. None of these methods throws, or fails at once: what comes
// of them is a promise.

const NAMES = ["fetch", "store", "tokens", "waitUntil"];

/** KV keeps nothing for less than this, in seconds. */
const SHORTEST = 60;

/** Of a `Map` and its like, and of KV and its like. */
const put = (store) => store.put ?? store.set;

export class Options {
  /** @param {object | null | undefined} given as the package types them: `GateOptions` */
  constructor(given) {
    const options = given ?? {};
    const unknown = Object.keys(options).find((name) => !NAMES.includes(name));
    if (unknown !== undefined) throw new TypeError(`${unknown} is no option of a gate: there are ${NAMES.join(", ")}`);
    const { fetch, store, tokens, waitUntil } = options;
    const known = (name, value, suits, what) => {
      if (value != null && !suits(value)) throw new TypeError(`the option ${name} must be ${what}`);
      return value ?? undefined;
    };
    const isFunction = (value) => typeof value === "function";
    const isReadable = (value) => isFunction(value?.get);
    this.fetch = known("fetch", fetch, isFunction, "a function that does as fetch does");
    this.tokens = known("tokens", tokens, isReadable, "a store with get()");
    this.waitUntil = known("waitUntil", waitUntil, isFunction, "a function that takes a promise");
    this.stores = store == null ? [] : [store].flat();
    const isStore = (value) => isReadable(value) && isFunction(put(value));
    for (const one of this.stores) {
      if (!isStore(one)) throw new TypeError("the option store must be a store with get() and put() or set(), or a list of such");
    }
  }

  /**
   * The same for one request.
   * @param {{waitUntil?: (work: Promise<unknown>) => void} | null | undefined} context
   */
  during(context) {
    const own = Object.create(this);
    // Looked for only now: Hono's own throws where there is none.
    own.waitUntil = (work) => context.waitUntil(work);
    return own;
  }

  /** How many stores there are. */
  get places() {
    return this.stores.length;
  }

  /** What is in one of them, if it can be a record. */
  async find(place, name, limit) {
    const record = await this.stores[place].get(keyOf(name));
    return typeof record === "string" && record.length <= limit ? record : undefined;
  }

  /** Leaves a record in each that takes it. */
  async leave(name, record, seconds) {
    const terms = { expirationTtl: Math.max(seconds, SHORTEST) };
    await Promise.allSettled(this.stores.map(async (store) => put(store).call(store, keyOf(name), record, terms)));
  }

  /** What is where static tokens are kept. */
  async token(key) {
    return (await this.tokens.get(key)) ?? "";
  }

  /** Where there is nothing that a client who leaves takes along, nothing needs to be done. */
  outlive(work) {
    try {
      this.waitUntil?.(work);
    } catch {
      // The request is no more.
    }
  }
}

/** As the Worker's own in KV, so that both can share a namespace. */
const keyOf = (name) => `jwks:${name}`;
