// In Node and Bun.
import { readFileSync } from "node:fs";

import { load } from "./gate.js";

export const { Gate, cacheStore, generateToken, maskToken } = load(readFileSync(new URL("./wasm/gate_bg.wasm", import.meta.url)));
