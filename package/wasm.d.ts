import type { Gate, cacheStore, generateToken, maskToken } from "./index.js";

/** What the main module exports. */
export interface Library {
  Gate: typeof Gate;
  cacheStore: typeof cacheStore;
  generateToken: typeof generateToken;
  maskToken: typeof maskToken;
}

/**
 * The library, over the module `nodetool-edge-auth/gate.wasm`, compiled or as bytes. However often it is called, there is one
 * of it.
 */
export function load(module: ArrayBuffer | ArrayBufferView | WebAssembly.Module): Library;
