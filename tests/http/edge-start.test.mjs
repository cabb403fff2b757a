// How an isolate starts: with what its first request takes compiled, and with nothing else of the rehearsal that did it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { SETTINGS, rehearse } from "../../src/worker/rehearsal.js";
import { startWorkerd } from "../../tools/workerd.mjs";
import { STATIC, TOKEN, WORKER } from "./support/hosts.mjs";
import { claimsOf, legacyToken } from "./support/jwt.mjs";
import { status } from "./support/raw.mjs";
import { secretsOfSettings, transcript } from "./support/transcripts.mjs";
import { startUpstream } from "./support/upstream.mjs";

const SUPABASE = { AUTH_PROVIDER: "supabase", SUPABASE_URL: "https://project.supabase.co", SUPABASE_KEY: "sb_publishable_start-0123456789", SUPABASE_JWT_SECRET: "start-".repeat(8) };

describe("an isolate of the Worker", () => {
  let upstream;
  before(async () => (upstream = await startUpstream()));
  after(() => upstream.stop());

  /** What a fresh isolate answers to these tokens, one after the other, and how many functions V8 compiles meanwhile. */
  async function start(settings, tokens) {
    secretsOfSettings(settings);
    const running = await startWorkerd({
      folder: WORKER,
      bindings: { ...settings, UPSTREAM_URL: upstream.url },
      v8Flags: ["--trace-wasm-compilation-times"],
    });
    const statuses = [];
    let output;
    try {
      for (const token of tokens) statuses.push(await status(running, token));
    } finally {
      output = await running.stop();
      transcript("edge", "console")(output);
    }
    // workerd itself remarks that V8's flags are not those that its own compile cache was made with.
    const lines = output.split("\n").filter((line) => line !== "" && !line.startsWith("workerd/"));
    const compiled = lines.filter((line) => line.startsWith("Compiled function "));
    return { statuses, compiled: compiled.length, said: lines.length - compiled.length };
  }

  test("has compiled what its first request takes", async () => {
    const { compiled, said } = await start(STATIC, []);
    assert.equal(said, 0, "nothing is said of the rehearsal");
    assert.ok(compiled > 100, `${compiled} functions before any request`);
    for (const [settings, token, expected, most] of [
      [STATIC, TOKEN, 200, 0],
      [STATIC, undefined, 401, 10],
      [SUPABASE, jwt(SUPABASE), 200, 20],
    ]) {
      const first = await start(settings, [token]);
      assert.deepEqual(first.statuses, [expected]);
      assert.ok(first.compiled - compiled <= most, `${first.compiled - compiled} functions for a request that is answered ${expected}`);
    }
  });

  test("knows nothing of those whom the rehearsal knows", async () => {
    const strangers = [SETTINGS.WORKER_AUTH_TOKEN, jwt(SETTINGS), jwt({ ...SUPABASE, SUPABASE_JWT_SECRET: SETTINGS.SUPABASE_JWT_SECRET })];
    for (const [settings, good] of [[STATIC, TOKEN], [SUPABASE, jwt(SUPABASE)]]) {
      const { statuses } = await start(settings, [...strangers, good]);
      assert.deepEqual(statuses, [401, 401, 401, 200]);
    }
  });

  test("is made anew after each request of the rehearsal, whatever comes of it", () => {
    for (const judge of [() => {}, () => assert.fail("a refusal to judge")]) {
      const calls = [];
      rehearse({ judge: (...args) => (calls.push("judge"), judge(...args)), __wbg_reset_state: () => calls.push("reset") });
      assert.deepEqual(calls, ["judge", "reset", "judge", "reset", "judge", "reset"]);
    }
    assert.throws(() => rehearse({ judge() {}, __wbg_reset_state: () => assert.fail("no new instance") }), /no new instance/);
  });
});

function jwt({ SUPABASE_URL, SUPABASE_JWT_SECRET: secret }) {
  return legacyToken(claimsOf({ issuer: `${SUPABASE_URL}/auth/v1` }), { secret });
}
