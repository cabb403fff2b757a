// Where Chromium is, if there is one.
import { existsSync } from "node:fs";
import path from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** `NODETOOL_TEST_CHROMIUM`, or the first that is on the path. */
export function findChromium() {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const candidates = folders.flatMap((folder) => NAMES.map((name) => path.join(folder, name)));
  return process.env.NODETOOL_TEST_CHROMIUM || candidates.find((file) => existsSync(file));
}

/** Why nothing can be tested in it, if that is so. */
export const withoutChromium = findChromium() ? false : "there is no Chromium here; NODETOOL_TEST_CHROMIUM names one (Debian: apt-get install chromium)";
