// Whether others are at work on this machine while something is measured: their share of the processors, and waiting for them to be done.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** More than this share of one core for others, and a measurement is not worth much. */
export const LIMIT = 0.1;

const TICKS_PER_SECOND = 100;

/** Ticks that all processors were busy, interrupts aside, which belong to nobody. */
function busyTicks() {
  const [, user, nice, system] = readFileSync("/proc/stat", "utf8").split("\n")[0].split(/\s+/).map(Number);
  return user + nice + system;
}

/** With those of children that have ended: the load generator is one. */
function ticksOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ").map(Number);
  return fields[11] + fields[12] + fields[13] + fields[14];
}

/** Begins to look; what it returns tells the share of one core that went to other processes than these meanwhile. */
export function watchOthers(pids) {
  const all = [...new Set([String(process.pid), ...pids])];
  const own = () => all.reduce((sum, pid) => sum + ticksOf(pid), 0);
  const [busy, ours, began] = [busyTicks(), own(), performance.now()];
  return () => Math.max(0, (busyTicks() - busy - (own() - ours)) / TICKS_PER_SECOND / ((performance.now() - began) / 1000));
}

/** Waits, as many seconds as it may, for a moment without others. Returns how many it took. */
export async function quietMoment(patience) {
  const began = Date.now();
  for (;;) {
    const waited = (Date.now() - began) / 1000;
    if (waited >= patience) return waited;
    const others = watchOthers([]);
    await sleep(200);
    if (others() < LIMIT) return waited;
    await sleep(1000);
  }
}
