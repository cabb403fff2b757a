// In Deno, which compiles what is imported by its source, and needs no permission to read it.
import source module from "./gate.wasm";
import { load } from "./gate.js";

export const { Gate, cacheStore, generateToken, maskToken } = load(module);
