// What Linux tells of a process, and where it lets one run.
import { readFileSync, readdirSync } from "node:fs";

const status = (pid) => readFileSync(`/proc/${pid}/status`, "utf8");

/** A figure of its memory: `VmRSS`, `RssAnon` and others. */
export const kilobytes = (pid, name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status(pid))[1]);

/** How many files and sockets it has open. */
export const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/** The number of one core that may be used here: where there is one only, the gateway has one thread, and each takes some memory. */
export const oneCore = () => /^Cpus_allowed_list:\s+(\d+)/m.exec(status("self"))[1];

/** Looks again and again until it is so; the test's own limit ends it otherwise. */
export async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}
