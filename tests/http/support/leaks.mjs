// Looks for secrets in all that hosts have printed: whole, in long pieces, in any case and in the usual encodings.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import path from "node:path";

/** Characters in a row that a secret and a transcript may not have in common. The mask shows eight, and four more. */
const WINDOW = 12;
/** With fewer different characters it is padding, which is in much that has nothing to do with each other. */
const DIFFERENT = 4;
/** What a secret is made of, and any encoding of it. */
const RUN = /[!-~]{12,}/g;

/** Where the contract lets a token be seen, by what was written down. The group is what may be there. */
const MAY_SHOW = {
  stderr: [],
  // The banner, where the token has just been made.
  stdout: [/^📍 Source: Auto-generated and saved to .*\n\n {3}Authorization: Bearer (\S+)$/mu],
  // The console of a Worker that has just made one; and workerd itself, when it cannot read a URL: no Worker has seen that.
  console: [/Generated a token and saved it to AUTH_KV:\n\n {3}Authorization: Bearer (\S+)$/gm, /invalid URL; url = http:\/\/user:(\S+)@127/g],
  // A person at a terminal: the banner, or what `token rotate` prints first.
  terminal: [/^ {3}Authorization: Bearer (\S+)\r?$/m, /^(\S+)\r\n/],
  // The standard output of a command that was asked for a token in so many words.
  revealed: [/^(\S+)\n$/, /^\{.*?"token":"([^"]+)".*\}\n$/],
  // A script of the tests that shows the deployment file.
  shell: [/^worker_auth_token: (\S+)/gm],
};

/**
 * @param {string} folder what `transcripts.mjs` has written
 * @returns {{leaks: string[], transcripts: string[], secrets: number}} `leaks`: which secret, file and line, never the secret
 */
export function findLeaks(folder) {
  const transcripts = readdirSync(folder).filter((name) => name.endsWith(".txt")).sort();
  const places = new Map();
  for (const name of transcripts) {
    const text = withoutAllowed(readFileSync(path.join(folder, name), "utf8"), name.split(".").at(-2));
    text.split("\n").forEach((line, index) => note(places, line, `${name}:${index + 1}`));
  }
  const register = path.join(folder, "secrets.jsonl");
  const lines = existsSync(register) ? readFileSync(register, "utf8").trimEnd().split("\n") : [];
  /** For each place the secret that has most in common with it: those of tests are alike. */
  const found = new Map();
  for (const line of lines) {
    const { name, value } = JSON.parse(line);
    const common = new Map();
    for (const window of windows(value)) {
      const place = places.get(window);
      if (place) common.set(place, (common.get(place) ?? 0) + 1);
    }
    for (const [place, length] of common) if (length > (found.get(place)?.length ?? 0)) found.set(place, { name, length });
  }
  return { leaks: [...found].map(([place, { name }]) => `${name} is in ${place}`), transcripts, secrets: lines.length };
}

function withoutAllowed(text, kind) {
  const blank = (match, token) => match.replace(token, "");
  return MAY_SHOW[kind].reduce((rest, allowed) => rest.replace(allowed, blank), text);
}

/** Every window of a line, and of what a run in it decodes to, with the first place where it was seen. */
function note(places, line, place) {
  for (const [run] of line.matchAll(RUN)) {
    for (const text of [run, ...decoded(run)]) {
      for (const window of windows(text)) if (!places.has(window)) places.set(window, place);
    }
  }
  // Bytes as `{:?}` prints them.
  for (const [list] of line.matchAll(/\d{1,3}(?:, ?\d{1,3}){11,}/g)) {
    for (const window of windows(String.fromCharCode(...list.split(",").map(Number)))) if (!places.has(window)) places.set(window, place);
  }
}

function* decoded(run) {
  if (run.includes("%")) yield run.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)));
  if (run.includes("\\")) yield run.replace(/\\u\{?([0-9a-f]{2,4})\}?|\\x([0-9a-f]{2})/gi, (_, unicode, hex) => String.fromCharCode(Number.parseInt(unicode ?? hex, 16)));
  for (const [digits] of run.matchAll(/[0-9a-f]{24,}/gi)) {
    for (const start of [0, 1]) yield Buffer.from(digits.slice(start), "hex").toString("latin1");
  }
  // Whatever comes before it in the run, one of these four is where it begins.
  for (const [letters] of run.matchAll(/[\w+/-]{16,}/g)) {
    for (const start of [0, 1, 2, 3]) yield Buffer.from(letters.slice(start), "base64").toString("latin1");
  }
}

function* windows(text) {
  const folded = text.toLowerCase();
  for (const [run] of folded.matchAll(RUN)) {
    for (let at = 0; at + WINDOW <= run.length; at += 1) {
      const window = run.slice(at, at + WINDOW);
      if (new Set(window).size >= DIFFERENT) yield window;
    }
  }
}
