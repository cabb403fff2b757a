// The search for secrets in what hosts print finds them in every form, and leaves alone what may be seen.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";

import { findLeaks } from "./support/leaks.mjs";

const SECRET = "Xq3_planted-token-7Yz9kLmN0pQrStUvW8a-bCdEf";
const MASK = `${SECRET.slice(0, 8)}...${SECRET.slice(-4)}`;
const BANNER = (source, token) => `🔑 Token: ${MASK}\n📍 Source: ${source}\n\n   Authorization: Bearer ${token}\n\n`;
const MADE = "Auto-generated and saved to /x/deployment.yaml";

/** What is found of the secret in this text. */
function search(text, kind = "stderr") {
  const folder = mkdtempSync(path.join(os.tmpdir(), "nodetool-auth-test-"));
  try {
    writeFileSync(path.join(folder, "secrets.jsonl"), `${JSON.stringify({ name: "THE_TOKEN", value: SECRET })}\n`);
    writeFileSync(path.join(folder, `planted.native.${kind}.txt`), text);
    return findLeaks(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const base64 = (text) => Buffer.from(text).toString("base64");
const hex = (text) => Buffer.from(text).toString("hex");
for (const [title, text] of [
  ["whole", `token=${SECRET}`],
  ["in quotes", `{"token":"${SECRET}"}`],
  ["its beginning", `"${SECRET.slice(0, 12)}…"`],
  ["its middle", `x${SECRET.slice(20, 32)}y`],
  ["its end", SECRET.slice(-12)],
  ["in capitals", SECRET.toUpperCase()],
  ["in base64", base64(SECRET)],
  ["in base64, behind one byte", base64(`a${SECRET}`)],
  ["in base64, behind a name and two bytes", `Basic ${base64(`user:ab${SECRET}`)}`],
  ["in base64url, without padding", Buffer.from(SECRET).toString("base64url")],
  ["in hexadecimal", hex(SECRET)],
  ["in hexadecimal capitals, at an odd place", `0${hex(SECRET).toUpperCase()}`],
  ["percent-encoded", `/x?token=${[...SECRET].map((letter) => `%${hex(letter)}`).join("")}`],
  ["escaped as JSON", [...SECRET].map((letter) => `\\u00${hex(letter)}`).join("")],
  ["as a list of bytes", `Authorization([${[...Buffer.from(SECRET)].join(", ")}])`],
]) {
  test(`it is found: ${title}`, () => {
    const { leaks } = search(`one\n2026-01-01 DEBUG ${text}\nthree`);
    assert.deepEqual(leaks, ["THE_TOKEN is in planted.native.stderr.txt:2"]);
    assert.ok(!leaks.join().includes(SECRET.slice(0, 8)), "and not repeated");
  });
}

for (const [title, text, kind] of [
  ["its mask", BANNER("Environment variable (WORKER_AUTH_TOKEN)", ""), "stdout"],
  ["the banner where it was made", BANNER(MADE, SECRET), "stdout"],
  ["the banner on a terminal", BANNER("Config file (/x)", SECRET).replaceAll("\n", "\r\n"), "terminal"],
  ["what was asked for", `${SECRET}\n`, "revealed"],
  ["what was asked for, as JSON", `{"path":"/x","token":"${SECRET}"}\n`, "revealed"],
  ["the console where it was made", `Generated a token and saved it to AUTH_KV:\n\n   Authorization: Bearer ${SECRET}\n`, "console"],
]) {
  test(`it may be seen: ${title}`, () => assert.deepEqual(search(text, kind).leaks, []));
}

for (const [title, text, kind, line] of [
  ["in the banner at every start", BANNER("Config file (/x)", SECRET), "stdout", 4],
  ["in a log, as in the banner", BANNER(MADE, SECRET), "stderr", 4],
  ["a second time", `${BANNER(MADE, SECRET)}${SECRET}\n`, "stdout", 6],
  ["on the error output of a command that was asked for it", `${SECRET}\n`, "stderr", 1],
  ["beside what was asked for", `${SECRET}\n${SECRET}\n`, "revealed", 1],
]) {
  test(`it may not be seen: ${title}`, () => assert.deepEqual(search(text, kind).leaks, [`THE_TOKEN is in planted.native.${kind}.txt:${line}`]));
}
