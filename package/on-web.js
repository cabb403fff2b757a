// In browsers, and wherever a bundler puts things: those know this form of naming a file.
import { load } from "./gate.js";

export const { Gate, cacheStore, generateToken, maskToken } = load(await compiled(new URL("./gate.wasm", import.meta.url)));

async function compiled(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be had: ${response.status}`);
  // Compiled as it comes in, but only if the server says what it is.
  const isNamed = response.headers.get("content-type")?.startsWith("application/wasm");
  return isNamed ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
