// Writes down what every host of the tests prints, and every secret that a host is given, so that the ones can be
// searched for the others: by `tools/test.mjs` for the whole suite, or here when a single file has come to its end.
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";

import { built } from "../../../tools/paths.mjs";
import { findLeaks } from "./leaks.mjs";

const WHOLE_SUITE = process.env.NODETOOL_TEST_TRANSCRIPTS;
const FOLDER = WHOLE_SUITE ?? temporary();
const TEST = path.basename(process.argv[1] ?? "test", ".test.mjs");
/** Settings whose values are secret. */
const SECRET_SETTINGS = ["WORKER_AUTH_TOKEN", "SERVER_AUTH_TOKEN", "ADMIN_TOKEN", "SUPABASE_KEY", "SUPABASE_JWT_SECRET"];

const known = new Set();
let count = 0;

/**
 * A secret that a host gets to see. Shorter ones than a window are for the tests themselves to look for. None may be spelled like
 * what a host says anyway: twelve letters are enough to be found, and `-admin-token` is the end of a flag.
 */
export function secret(name, value) {
  if (typeof value !== "string" || value.length < 12 || known.has(value)) return;
  known.add(value);
  appendFileSync(path.join(FOLDER, "secrets.jsonl"), `${JSON.stringify({ name: `${name} (${TEST})`, value })}\n`, { mode: 0o600 });
}

export function secretsOfSettings(settings) {
  for (const name of SECRET_SETTINGS) secret(name, settings[name]);
  // The scheme before it is none.
  secret("UPSTREAM_AUTHORIZATION", settings.UPSTREAM_AUTHORIZATION?.split(" ").at(-1));
}

/** The token in the text of a deployment file, whoever put it there. */
export function secretsOfText(text) {
  for (const [, value] of String(text).matchAll(/^(?:worker|server)_auth_token:[ \t]*["']?([^\s"'#]+)/gm)) secret("the token of a deployment file", value);
}

export function secretsOfFile(file) {
  try {
    // To read a pipe would wait for ever.
    if (statSync(file).isFile()) secretsOfText(readFileSync(file, "utf8"));
  } catch {
    // Where there is no file, there is no token either.
  }
}

/** What a client sends as a credential, right or wrong, in any place of a request's head. */
export function secretsOfRequest(bytes) {
  const head = Buffer.from(bytes).subarray(0, 1 << 16).toString("latin1").split("\r\n\r\n", 1)[0];
  for (const [, value] of head.matchAll(/^(?:authorization|x-admin-token|sec-websocket-protocol):(.*)$/gim)) {
    for (const word of value.split(/[\s,]+/)) {
      // A token's mask and its hash are no secrets, even where a client takes them for the token.
      if (/^.{8}\.{3}.{4}$|^[0-9a-f]{64}$/i.test(word)) continue;
      // Of `token="…"` only what is in it.
      secret("a credential that a client sent", word.replace(/^\w+="/, ""));
    }
  }
  for (const [, value] of head.split("\r\n", 1)[0].matchAll(/[?&](?:token|api_key)=([^&\s]+)/g)) secret("a credential in a query", value);
}

/**
 * Begins a transcript. `kind` says what may be seen in it, as `leaks.mjs` has it.
 * @returns {(text: string) => void} what writes on
 */
export function transcript(host, kind) {
  count += 1;
  const file = path.join(FOLDER, `${TEST}-${process.pid}-${count}.${host}.${kind}.txt`);
  return (text) => appendFileSync(file, text);
}

function temporary() {
  const target = built("tmp");
  mkdirSync(target, { recursive: true });
  return mkdtempSync(path.join(target, "transcripts-"));
}

if (!WHOLE_SUITE) {
  process.on("exit", () => {
    const { leaks } = findLeaks(FOLDER);
    if (leaks.length === 0) return rmSync(FOLDER, { recursive: true, force: true });
    console.error(`What the hosts printed (${FOLDER}) holds secrets:\n  ${leaks.join("\n  ")}`);
    process.exitCode = 1;
  });
} else if (!existsSync(FOLDER)) {
  throw new Error("NODETOOL_TEST_TRANSCRIPTS names no folder");
}
