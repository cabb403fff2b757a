// In workerd, which compiles modules before it runs anything.
import module from "./gate.wasm";
import { load } from "./gate.js";

// Names of its own, and none handed on: bundlers would pass by a file that has no other use.
export const { Gate, cacheStore, generateToken, maskToken } = load(module);
