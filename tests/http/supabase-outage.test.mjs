// Supabase fails in every way it can: what is known keeps working, what is not is 503, and nothing hangs.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import { describe, test as nodeTest } from "node:test";

import { EXPIRED, INVALID, NO_CREDENTIAL, UNAVAILABLE, inParallel, tally, until, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { KEYS, SECRET, legacyToken, makeKey, now, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const { ES256, RS256 } = KEYS;
const TIMEOUT = { AUTH_FETCH_TIMEOUT: "1" };
/** With a second for one fetch, an answer that takes this long has hung. */
const PROMPT = { timeout: 6000 };
const EVIL = makeKey("ES256");

const document = (text) => (supabase) => (supabase.jwks.document = text);
const mode = (which) => (supabase) => (supabase.jwks.mode = which);
const brokenBy = {
  ...Object.fromEntries(["500", "502", "503", "429", "404", "hang", "stall", "reset", "cut", "empty", "garbage", "redirect", "oversized"].map((which) => [which, mode(which)])),
  "connection refused": (supabase) => supabase.down(),
  "a 401 about something": mode("bad_api_key"),
  "a redirect to itself": mode((response) => response.writeHead(307, { location: "/auth/v1/.well-known/jwks.json" }).end()),
  "204": mode((response) => response.writeHead(204).end()),
  "no JSON": document('{"keys":['),
  "JSON, but an array": document(JSON.stringify([EVIL.jwk])),
  "JSON, but null": document("null"),
  "no keys": document("{}"),
  "keys that are no array": document(JSON.stringify({ keys: EVIL.jwk })),
  "keys twice": document(`{"keys":[],"keys":[${JSON.stringify(EVIL.jwk)}]}`),
  "something after the document": document(`${JSON.stringify({ keys: [EVIL.jwk] })}x`),
  "nesting without end": document(`{"keys":${"[".repeat(20_000)}`),
  "deep nesting": document(`{"keys":[],"x":${"[".repeat(20_000)}${"]".repeat(20_000)}}`),
  "bytes that are no text": mode((response) => response.writeHead(200, { "content-type": "application/json" }).end(Buffer.alloc(500, 0xff))),
};

const token = (gateway, key = ES256, changes) => userToken(key, gateway.claims(changes));

async function accepts(gateway, key) {
  const claims = gateway.claims();
  await gateway.accepts(await userToken(key, claims), claims, PROMPT);
}

/** Keys that run out after a second. */
const shortLived = (supabase) => (supabase.jwks.cacheControl = "public, max-age=1");

/** From now on the keys are answered for in this way; waits, accepted all the while, until they have run out and a refresh is tried. */
async function untilRefreshTried(gateway, which) {
  gateway.supabase.jwks.mode = which;
  const before = gateway.supabase.jwks.calls;
  await until("a refresh is tried", 45_000, async () => {
    await accepts(gateway, ES256);
    return gateway.supabase.jwks.calls > before;
  });
}

/** What needs no Supabase is as it always is. */
async function theRestIsWell(gateway) {
  await gateway.acceptsStatic(undefined, PROMPT);
  await gateway.refuses(undefined, NO_CREDENTIAL, PROMPT);
  await gateway.refuses("no-such-token", INVALID, PROMPT);
  assert.equal(await gateway.status(undefined, { target: "/health", ...PROMPT }), 200);
}

test("native: only so many requests wait for keys, and the others are refused at once", async () => {
  // Of each connection a dozen requests wait, and the other streams are refused.
  const [connections, streams, dozen, most] = [120, 32, 12, 1024];
  await withGateway("native", { keys: [ES256], settings: { AUTH_FETCH_TIMEOUT: "5" }, prepare: mode("hang") }, async (gateway) => {
    const forged = await userToken(EVIL, gateway.claims());
    const sessions = Array.from({ length: connections }, () => http2.connect(gateway.host.url));
    const early = [];
    const began = Date.now();
    const answers = sessions.flatMap((session) =>
      Array.from({ length: streams }, async () => {
        const stream = session.request({ ":path": "/v1/x", authorization: `Bearer ${forged}` });
        const [headers] = await once(stream, "response").catch(({ message }) => [{ ":status": message }]);
        stream.resume();
        if (Date.now() - began < 2500 && headers[":status"] === 503) early.push(503);
        return headers[":status"];
      }),
    );
    const statuses = await Promise.all(answers);
    sessions.forEach((session) => session.destroy());
    assert.deepEqual([...new Set(statuses)].sort(), [503, "Stream closed with error code NGHTTP2_REFUSED_STREAM"]);
    // One of them fetches, unless the host does so by itself.
    assert.ok(early.length >= connections * dozen - most - 1, `${early.length} were refused early`);
  });
});

for (const name of HOSTS) {
  describe(`${name}: the keys cannot be had`, () => {
    for (const [title, breakIt] of Object.entries(brokenBy)) {
      test(`from the beginning: ${title}`, async () => {
        await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: breakIt }, async (gateway) => {
          gateway.supabase.user.mode = "500";
          await gateway.unavailable(await token(gateway), PROMPT);
          await gateway.unavailable(await token(gateway, EVIL), PROMPT);
          await gateway.unavailable(await token(gateway), { ...PROMPT, target: "/admin/collections" });
          await gateway.unavailable(await token(gateway), { ...PROMPT, target: "/.auth/whoami" });
          await theRestIsWell(gateway);
          if (title === "oversized") assert.ok(gateway.supabase.poured() < 64 << 20, "an endless document is not read to its end");
        });
      });

      test(`later: ${title}`, async () => {
        await withGateway(name, { keys: [ES256, RS256], settings: TIMEOUT }, async (gateway) => {
          gateway.supabase.user.mode = "500";
          await accepts(gateway, ES256);
          await breakIt(gateway.supabase);
          // The refetch that fails must not cost the keys that are there.
          const { jwks } = await gateway.calls(async () => gateway.unavailable(await userToken(EVIL, gateway.claims()), PROMPT));
          // workerd itself sends a GET again whose kept connection was lost.
          const tries = name === "edge" && title === "reset" ? [1, 2] : [1];
          if (title !== "connection refused") assert.ok(tries.includes(jwks), `the refetch was tried, and failed: ${jwks} calls`);
          await gateway.unavailable(await userToken(ES256, gateway.claims(), { kid: randomUUID() }), PROMPT);
          for (const key of [ES256, RS256]) await accepts(gateway, key);
          await gateway.refuses(await userToken(EVIL, gateway.claims(), { kid: ES256.kid }), INVALID, PROMPT);
          await gateway.refuses(await token(gateway, ES256, { exp: now() - 3600 }), EXPIRED, PROMPT);
          await theRestIsWell(gateway);
        });
      });
    }

    for (const which of ["500", "hang", "garbage"]) {
      test(`when it is over, the very token that was put off passes: ${which}`, async () => {
        await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: mode(which) }, async (gateway) => {
          gateway.supabase.user.mode = "500";
          const claims = gateway.claims();
          const putOff = await userToken(ES256, claims);
          await gateway.unavailable(putOff, PROMPT);
          gateway.supabase.jwks.mode = "ok";
          // `Retry-After` said five seconds.
          await until("the token is accepted", 12_000, async () => (await gateway.status(putOff, PROMPT)) === 200);
          await gateway.accepts(putOff, claims);
        });
      });
    }

    test("once they have run out, stale keys still serve, and Supabase is not hammered", async () => {
      await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: shortLived }, async (gateway) => {
        gateway.supabase.user.mode = "500";
        await accepts(gateway, ES256);
        await untilRefreshTried(gateway, "500");
        const { jwks } = await gateway.calls(async () => {
          for (let times = 0; times < 30; times += 1) await accepts(gateway, ES256);
        });
        assert.ok(jwks <= 3, `${jwks} refreshes tried for 30 requests`);
        await gateway.unavailable(await token(gateway, EVIL), PROMPT);
      });
    });

    test("once they have run out, a hanging refresh delays nobody for longer than one fetch", async () => {
      await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: shortLived }, async (gateway) => {
        await accepts(gateway, ES256);
        await untilRefreshTried(gateway, "hang");
        let waited = 0;
        const statuses = await inParallel(Array.from({ length: 20 }), 10, async () => {
          const began = Date.now();
          const status = await gateway.status(await token(gateway), PROMPT);
          if (Date.now() - began > 500) waited += 1;
          return status;
        });
        assert.deepEqual(tally(statuses), { 200: 20 });
        assert.ok(waited <= 1, `${waited} waited for a fetch that another had under way`);
      });
    });

    test("200 simultaneous requests: 503 for all, and no storm", async () => {
      await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: mode("500") }, async (gateway) => {
        gateway.supabase.user.mode = "500";
        const tokens = await Promise.all(Array.from({ length: 200 }, () => token(gateway)));
        const statuses = await inParallel(tokens, 200, (each) => gateway.status(each, { timeout: 30_000 }));
        assert.deepEqual(tally(statuses), { 503: 200 });
        // At the edge no request may wait for another's fetch: but what failed a moment ago need not be tried by all.
        assert.ok(gateway.supabase.jwks.calls <= (name === "native" ? 4 : 20), `${gateway.supabase.jwks.calls} fetches`);
      });
    });

    test("HS256 with the secret needs no keys", async () => {
      await withGateway(name, { settings: { ...TIMEOUT, SUPABASE_JWT_SECRET: SECRET }, prepare: (supabase) => supabase.down() }, async (gateway) => {
        const claims = gateway.claims();
        await gateway.accepts(legacyToken(claims), claims, PROMPT);
        await gateway.refuses(legacyToken(gateway.claims(), { secret: "another" }), INVALID, PROMPT);
      });
    });
  });

  test(`${name}: an outage of everything, and its end`, async () => {
    await withGateway(name, { keys: [ES256], settings: TIMEOUT, prepare: (supabase) => supabase.down() }, async (gateway) => {
      await gateway.unavailable(await token(gateway), PROMPT);
      await gateway.unavailable(legacyToken(gateway.claims()), PROMPT);
      await gateway.supabase.up();
      await until("keys are found", 12_000, async () => (await gateway.status(await token(gateway), PROMPT)) === 200);
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims), claims, PROMPT);
    });
  });
}
