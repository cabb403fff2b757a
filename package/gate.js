// What users see of the compiled core.
import { Gate as Judge, generateToken, initSync, maskToken } from "./glue/gate.js";
import { cacheStore } from "./stores.js";

class Gate {
  #judge;

  constructor(settings, options) {
    if (typeof settings !== "object" || settings === null) throw new TypeError("new Gate() takes an object of settings");
    this.#judge = new Judge(settings, options);
  }

  // Each of these is async so that whoever awaits it learns of every failure in the same way.

  async check(request, context) {
    const { url, headers } = request ?? {};
    if (typeof url !== "string" || typeof headers?.forEach !== "function") throw new TypeError("check() takes a Request");
    const { peer } = context ?? {};
    return this.#alive().check(peer == null ? request : withPeer(request, peer), context);
  }

  async verify(token, context) {
    if (typeof token !== "string") throw new TypeError("verify() takes a token");
    return this.#alive().verify(token, context);
  }

  /** What is under way goes on to its end. */
  free() {
    this.#judge?.free();
    this.#judge = undefined;
  }

  #alive() {
    if (this.#judge === undefined) throw new Error("This gate was freed: make another one");
    return this.#judge;
  }
}

/** The same request with its peer, for which a `Request` has no place. What cannot be read fails where it is judged. */
function withPeer(request, peer) {
  const { url, headers, forwarded } = request;
  return {
    url,
    headers,
    peer,
    forwarded,
    get method() {
      return request.method;
    },
    get body() {
      return request.body;
    },
  };
}

// Not every runtime has it yet.
if (Symbol.dispose) Object.defineProperty(Gate.prototype, Symbol.dispose, { value: Gate.prototype.free, configurable: true, writable: true });

/**
 * The library, over the compiled module or its bytes. However often it is called, there is one of it.
 * @param {WebAssembly.Module | BufferSource} module
 */
export function load(module) {
  initSync({ module });
  return { Gate, cacheStore, generateToken, maskToken };
}
