// In Node and Bun.
import { readFileSync } from "node:fs";

import { load } from "./gate.js";

export const { Gate, cacheStore, generateToken, maskToken } = load(readFileSync(new URL("./gate.wasm", import.meta.url)));
