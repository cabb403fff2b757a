// Chance that can be repeated.
import { randomInt } from "node:crypto";

/** `NODETOOL_TEST_SEED`, or another one every time. */
export const seed = () => Number(process.env.NODETOOL_TEST_SEED ?? randomInt(2 ** 31));

/** @param {number} seed */
export function chance(seed) {
  let state = seed >>> 0;
  // Mulberry32.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit) => Math.floor(next() * limit);
  const one = (items) => items[below(items.length)];
  return { below, one, happens: (probability) => next() < probability };
}

/** Bytes with a few of them changed, lost or added. */
export function mutated({ below, one }, bytes, times) {
  let changed = Buffer.from(bytes);
  for (let time = 0; time < times && changed.length > 0; time += 1) {
    const at = below(changed.length);
    const [before, after] = [changed.subarray(0, at), changed.subarray(at + 1)];
    const added = one(["\r", "\n", "\r\n", " ", "\t", "\0", "\x0b", ":", ",", ";", "0", "\xff", "chunked", String.fromCharCode(below(256))]);
    changed = Buffer.concat(one([[before, after], [before, Buffer.from(added, "latin1"), after], [before, Buffer.from(added, "latin1"), changed.subarray(at)]]));
  }
  return changed;
}
