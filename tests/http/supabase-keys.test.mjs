// Where keys come from: the key set, its rotation, its attacks, and how seldom Supabase is asked for it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test as nodeTest } from "node:test";

import { INVALID, UNAVAILABLE, inParallel, tally, until, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { ALL_KEYS, KEYS, SECRET, handmade, headerOf, legacyToken, makeKey, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);
const { ES256, RS256 } = KEYS;
const json = JSON.stringify;
/** At the edge no request may wait for the fetch of another. */
const A_COUPLE = { native: 2, edge: 4 };

/** Supabase says no to whatever it is asked about: then the key set alone decides. */
const strict = (supabase) => (supabase.user.mode = "bad_jwt");

async function accepts(gateway, key, header) {
  const claims = gateway.claims();
  await gateway.accepts(await userToken(key, claims, header), claims);
}

async function refuses(gateway, key, header, refusal = INVALID) {
  await gateway.refuses(await userToken(key, gateway.claims(), header), refusal);
}

for (const name of HOSTS) {
  describe(`${name}: fetching`, () => {
    test("one fetch serves all keys and all requests", async () => {
      await withGateway(name, { keys: ALL_KEYS }, async (gateway) => {
        for (const key of [...ALL_KEYS, ...ALL_KEYS]) await accepts(gateway, key);
        assert.equal(gateway.supabase.jwks.calls, 1);
        assert.equal(gateway.supabase.user.calls, 0);
      });
    });

    test("nothing of the client's is sent along", async () => {
      await withGateway(name, { keys: [ES256] }, async (gateway) => {
        const claims = gateway.claims();
        const headers = ["Cookie", "X-Client-Info", "User-Agent", "X-Forwarded-For", "Accept-Language", "Origin"].map((header) => [header, "client-sentinel"]);
        await gateway.accepts(await userToken(ES256, claims), claims, { headers, target: "/v1/models?q=client-sentinel" });
        for (const { headers } of gateway.supabase.jwks.requests) {
          assert.ok(!json(headers).includes("client-sentinel"), json(headers));
          assert.ok(!/Bearer ey/.test(json(headers)), "no token");
        }
      });
    });

    for (const mode of ["ok", "slow"]) {
      test(`200 simultaneous requests on a cold cache, an answer that is ${mode}`, async () => {
        const prepare = (supabase) => Object.assign(supabase.jwks, { mode, delay: 500 });
        await withGateway(name, { keys: [ES256, RS256], prepare }, async (gateway) => {
          const tokens = await Promise.all(Array.from({ length: 200 }, (_, at) => userToken(at % 2 ? ES256 : RS256, gateway.claims())));
          const statuses = await inParallel(tokens, 200, (token) => gateway.status(token, { timeout: 30_000 }));
          assert.deepEqual(tally(statuses), { 200: 200 });
          assert.ok(gateway.supabase.jwks.calls <= A_COUPLE[name], `${gateway.supabase.jwks.calls} fetches`);
          assert.equal(gateway.supabase.user.calls, 0);
        });
      });
    }

    test("a max-age of one second is the end of it, whatever the ten minutes say", async () => {
      const prepare = (supabase) => {
        strict(supabase);
        // In two lines, which are one list.
        supabase.jwks.cacheControl = ["public", "max-age=1"];
      };
      await withGateway(name, { keys: [ES256], prepare }, async (gateway) => {
        await accepts(gateway, ES256);
        gateway.supabase.publish(RS256);
        // Fresh keys come without any unknown kid having been seen.
        await until("the withdrawn key is no longer accepted", 45_000, async () => (await gateway.status(await userToken(ES256, gateway.claims()))) === 401);
        assert.ok(gateway.supabase.jwks.calls >= 2);
        await accepts(gateway, RS256);
      });
    });

    for (const cacheControl of ["no-store", "max-age=0", "max-age=-1", "max-age=x", "max-age=99999999999999999999", ""]) {
      test(`Cache-Control ${json(cacheControl)} neither breaks it nor makes a fetch of every request`, async () => {
        await withGateway(name, { keys: [ES256], prepare: (supabase) => (supabase.jwks.cacheControl = cacheControl) }, async (gateway) => {
          await inParallel(Array.from({ length: 20 }), 4, () => accepts(gateway, ES256));
          assert.ok(gateway.supabase.jwks.calls < 20, `${gateway.supabase.jwks.calls} fetches for 20 requests`);
        });
      });
    }

    for (const [what, release] of [["and its answer comes later", true], ["and its answer never comes", false]]) {
      test(`a request dropped in mid-fetch, ${what}`, async () => {
        const settings = { AUTH_FETCH_TIMEOUT: "2" };
        await withGateway(name, { keys: [ES256], settings, prepare: (supabase) => (supabase.jwks.mode = "held") }, async (gateway) => {
          const asked = gateway.supabase.jwks.calls > 0 ? Promise.resolve() : gateway.supabase.asked("jwks");
          const dropped = gateway.send(await userToken(ES256, gateway.claims()), { timeout: 500 });
          dropped.catch(() => {});
          await asked;
          await assert.rejects(dropped, /no complete answer/);
          gateway.supabase.jwks.mode = "ok";
          if (release) gateway.supabase.release();
          const started = Date.now();
          // The next one may have joined the fetch that hangs: then it is told so, in time.
          const status = await gateway.status(await userToken(ES256, gateway.claims()), { timeout: 8000 });
          assert.ok(release ? status === 200 : [200, 503].includes(status), `answered ${status} after ${Date.now() - started} ms`);
          await until("good tokens pass again", 15_000, async () => (await gateway.status(await userToken(ES256, gateway.claims()))) === 200);
        });
      });
    }
  });

  describe(`${name}: rotation`, () => {
    test("a new key is found by exactly one refetch", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        gateway.supabase.add(RS256);
        const { jwks } = await gateway.calls(async () => {
          for (let times = 0; times < 3; times += 1) await accepts(gateway, RS256);
          await accepts(gateway, ES256);
        });
        assert.equal(jwks, 1);
      });
    });

    test("a new key that comes with fifty requests at once", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        gateway.supabase.add(RS256);
        Object.assign(gateway.supabase.jwks, { mode: "slow", delay: 300 });
        const tokens = await Promise.all(Array.from({ length: 50 }, () => userToken(RS256, gateway.claims())));
        const statuses = await inParallel(tokens, 50, (token) => gateway.status(token, { timeout: 30_000 }));
        assert.deepEqual(tally(statuses), { 200: 50 });
        assert.ok(gateway.supabase.jwks.calls <= 1 + A_COUPLE[name], `${gateway.supabase.jwks.calls} fetches`);
      });
    });

    test("a key that was replaced is no longer accepted", async () => {
      await withGateway(name, { keys: [ES256, RS256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        const next = makeKey("ES256");
        gateway.supabase.publish(next, RS256);
        await accepts(gateway, next);
        await refuses(gateway, ES256);
        await accepts(gateway, RS256);
      });
    });

    test("a key behind an old kid is the new one", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        const [next, another] = [makeKey("ES256", { kid: ES256.kid }), makeKey("ES256")];
        gateway.supabase.publish(next, another);
        await accepts(gateway, another);
        await accepts(gateway, next);
        await refuses(gateway, ES256);
      });
    });

    test("clients that leave before the answer make no more fetches than those that stay", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        Object.assign(gateway.supabase.jwks, { mode: "slow", delay: 100 });
        const { jwks } = await gateway.calls(async () => {
          for (let at = 0; at < 30; at += 1) {
            const token = await userToken(ES256, gateway.claims(), { kid: randomUUID() });
            await gateway.send(token, { timeout: 30 }).catch(() => {});
          }
          // Whatever was begun has come to its end when somebody who stays has an answer.
          await refuses(gateway, ES256, { kid: randomUUID() });
        });
        assert.ok(jwks <= 2, `${jwks} fetches for 30 clients that left`);
      });
    });

    test("within the cooldown a second unknown kid asks nobody for keys", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        await refuses(gateway, makeKey("ES256"));
        const { jwks } = await gateway.calls(async () => {
          for (let times = 0; times < 5; times += 1) await refuses(gateway, ES256, { kid: randomUUID() });
        });
        assert.equal(jwks, 0);
        await accepts(gateway, ES256);
      });
    });

    test("after the cooldown a new key is found", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        await refuses(gateway, ES256, { kid: randomUUID() });
        const before = gateway.supabase.jwks.calls;
        const refetched = Date.now();
        gateway.supabase.add(RS256);
        await until("the new key is accepted", 45_000, async () => (await gateway.status(await userToken(RS256, gateway.claims()))) === 200);
        assert.equal(gateway.supabase.jwks.calls, before + 1);
        assert.ok(Date.now() - refetched > 25_000, `the cooldown took ${Date.now() - refetched} ms`);
      });
    });

    test("1000 random kids cause at most two fetches, and no flood of questions", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        const forger = makeKey("ES256");
        const claims = json(gateway.claims());
        const tokens = Array.from({ length: 1000 }, () => handmade(forger, headerOf(forger, { kid: randomUUID() }), claims));
        const started = Date.now();
        const statuses = await inParallel(tokens, 20, (token) => gateway.status(token, { timeout: 30_000 }));
        const cooldowns = Math.ceil((Date.now() - started) / 30_000);
        const { jwks, user } = gateway.supabase;
        // Beyond what may be asked at once, no is not known; but it is never a yes.
        assert.ok(statuses.every((status) => status === 401 || status === 503), json(tally(statuses)));
        assert.ok(jwks.calls <= 1 + cooldowns, `${jwks.calls} fetches of the keys`);
        assert.ok(user.calls <= 20, `${user.calls} questions about forged tokens`);
        await accepts(gateway, ES256);
      });
    });

    test("while a user is asked about, other unknown kids cause no other fetch", async () => {
      await withGateway(name, { keys: [ES256] }, async (gateway) => {
        const { supabase } = gateway;
        await accepts(gateway, ES256);
        supabase.user.mode = "held";
        const forger = makeKey("ES256");
        const forged = () => gateway.status(handmade(forger, headerOf(forger, { kid: randomUUID() }), json(gateway.claims())));
        const waiting = [];
        for (let calls = 1; calls <= 3; calls++) {
          waiting.push(forged());
          await until(`question ${calls} is asked`, 10_000, () => supabase.user.calls === calls);
        }
        supabase.release();
        assert.deepEqual(tally(await Promise.all(waiting)), { 401: 3 });
        assert.equal(supabase.jwks.calls, 2);
      });
    });

    test("1000 random kids on a cold cache", async () => {
      await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
        const forger = makeKey("ES256");
        const claims = json(gateway.claims());
        const tokens = Array.from({ length: 1000 }, () => handmade(forger, headerOf(forger, { kid: randomUUID() }), claims));
        await inParallel(tokens, 20, (token) => gateway.status(token, { timeout: 30_000 }));
        assert.ok(gateway.supabase.jwks.calls <= A_COUPLE[name], `${gateway.supabase.jwks.calls} fetches`);
        await accepts(gateway, ES256);
      });
    });
  });

  describe(`${name}: key sets`, () => {
    const odd = [
      { kty: "FOO", kid: "a" },
      {},
      { kty: "EC", kid: "b", crv: "P-256", x: "AA", y: "AA", alg: "ES256" },
      { kty: "EC", kid: "c", crv: "P-999", x: ES256.jwk.x, y: ES256.jwk.y },
      { kty: "EC", kid: "d", crv: "P-256", x: ES256.jwk.x, y: ES256.jwk.x, alg: "ES256" },
      { kty: "EC", kid: "e", crv: "P-256", x: 1, y: null, alg: "ES256" },
      { kty: "RSA", kid: "f", n: RS256.jwk.n, alg: "RS256" },
      { kty: "RSA", kid: "g", n: "", e: "AQAB", alg: "RS256" },
      { kty: "OKP", kid: "h", crv: "X25519", x: KEYS.EdDSA.jwk.x },
      { kty: "oct", kid: "i", k: "AAAA", alg: "HS256" },
      { kty: "EC", kid: 7, crv: "P-256", x: ES256.jwk.x, y: ES256.jwk.y, alg: "ES256" },
    ];
    for (const first of [true, false]) {
      test(`keys that nobody can use, ${first ? "before" : "after"} one that serves`, async () => {
        const prepare = (supabase) => {
          strict(supabase);
          supabase.jwks.document = json({ keys: first ? [...odd, ES256.jwk] : [ES256.jwk, ...odd] });
        };
        await withGateway(name, { prepare }, async (gateway) => {
          await accepts(gateway, ES256);
          for (const { kid } of odd.filter(({ kid }) => typeof kid === "string")) await refuses(gateway, makeKey("ES256"), { kid });
        });
      });
    }

    const good = makeKey("ES256");
    const secret = Buffer.from("an-hmac-key-that-stands-in-a-public-document");
    const oct = { alg: "HS256", kid: "oct", jwk: { kty: "oct", kid: "oct", alg: "HS256", use: "sig", k: secret.toString("base64url") } };
    const [twin, other] = [makeKey("ES256", { kid: "twin" }), makeKey("ES256", { kid: "twin" })];
    const small = makeKey("RS256", { bits: 1024 });
    const tiny = makeKey("PS256", { bits: 1024 });
    const unusable = [
      ["a duplicate kid: neither of both", [twin, other], [twin, other]],
      ["use enc", [makeKey("ES256", { use: "enc", key_ops: undefined })]],
      ["use enc, RSA", [makeKey("RS256", { use: "enc", key_ops: undefined })]],
      ["key_ops without verify", [makeKey("ES256", { use: undefined, key_ops: ["deriveKey"] })]],
      ["RSA of 1024 bits", [small]],
      ["RSA-PSS of 1024 bits", [tiny]],
      ["an alg that is not its kind's", [makeKey("ES256", { alg: undefined })].map((key) => ({ ...key, jwk: { ...key.jwk, alg: "RS256" } }))],
      ["an alg that asks for a secret", [makeKey("ES256")].map((key) => ({ ...key, jwk: { ...key.jwk, alg: "HS256" } }))],
      ["alg none", [makeKey("ES256")].map((key) => ({ ...key, jwk: { ...key.jwk, alg: "none" } }))],
      ["an alg that is no text", [makeKey("ES256")].map((key) => ({ ...key, jwk: { ...key.jwk, alg: ["ES256"] } }))],
      ["a curve that is not its algorithm's", [makeKey("ES256", { curve: "P-384" })]],
    ];
    for (const [title, keys] of unusable) {
      test(`unusable: ${title}`, async () => {
        await withGateway(name, { keys: [...keys, good], prepare: strict }, async (gateway) => {
          for (const key of keys) {
            const token = handmade(key, json({ alg: key.alg ?? "ES256", kid: key.kid, typ: "JWT" }), json(gateway.claims()), key.alg ?? "ES256");
            await gateway.refuses(token, INVALID);
          }
          await accepts(gateway, good);
        });
      });
    }

    test("unusable: a secret in a public document", async () => {
      for (const settings of [{}, { SUPABASE_JWT_SECRET: SECRET }]) {
        await withGateway(name, { keys: [oct, good], settings, prepare: strict }, async (gateway) => {
          for (const kid of ["oct", undefined]) await gateway.refuses(legacyToken(gateway.claims(), { secret, kid }), INVALID);
          await accepts(gateway, good);
        });
      }
    });

    test("a key without alg serves no HMAC", async () => {
      const nameless = [makeKey("RS256"), makeKey("ES256"), makeKey("EdDSA")].map((key) => ({ ...key, jwk: { ...key.jwk, alg: undefined } }));
      await withGateway(name, { keys: [...nameless, good], prepare: strict }, async (gateway) => {
        await accepts(gateway, good);
        for (const key of nameless) {
          const texts = [key.publicKey.export({ format: "pem", type: "spki" }), key.publicKey.export({ format: "der", type: "spki" }), Buffer.from(key.jwk.n ?? key.jwk.x, "base64url"), json(key.jwk)];
          for (const secret of texts) await gateway.refuses(legacyToken(gateway.claims(), { secret, kid: key.kid }), INVALID);
          await gateway.refuses(handmade(key, headerOf(key, { alg: "none" }), json(gateway.claims())), INVALID);
        }
      });
    });

    test("two keys of one kind: without a kid neither is guessed", async () => {
      await withGateway(name, { keys: [ES256, good], prepare: strict }, async (gateway) => {
        await accepts(gateway, ES256);
        await accepts(gateway, good);
        for (const key of [ES256, good]) await refuses(gateway, key, { kid: undefined });
      });
    });

    test("an empty set is a configuration: HS256 is asked about, a forged ES256 is refused", async () => {
      await withGateway(name, {}, async (gateway) => {
        const claims = gateway.claims();
        const { user } = await gateway.calls(() => gateway.accepts(legacyToken(claims), claims));
        assert.equal(user, 1);
        await refuses(gateway, ES256);
        await refuses(gateway, ES256, { kid: undefined });
        assert.ok(gateway.supabase.jwks.calls <= 2);
      });
    });
  });

  describe(`${name}: SUPABASE_JWKS`, () => {
    const pinned = json({ keys: [ES256.jwk, KEYS.EdDSA.jwk] });

    test("nothing is fetched or asked; what it cannot verify is refused", async () => {
      await withGateway(name, { keys: [RS256], settings: { SUPABASE_JWKS: pinned } }, async (gateway) => {
        await accepts(gateway, ES256);
        await accepts(gateway, KEYS.EdDSA);
        await accepts(gateway, ES256, { kid: undefined });
        await refuses(gateway, RS256);
        await refuses(gateway, RS256, { kid: undefined });
        await refuses(gateway, ES256, { kid: "unknown" });
        await gateway.refuses(legacyToken(gateway.claims()), INVALID);
        await gateway.acceptsStatic();
        assert.deepEqual([gateway.supabase.jwks.calls, gateway.supabase.user.calls], [0, 0]);
      });
    });

    test("and SUPABASE_JWT_SECRET beside it", async () => {
      await withGateway(name, { settings: { SUPABASE_JWKS: pinned, SUPABASE_JWT_SECRET: SECRET } }, async (gateway) => {
        await accepts(gateway, ES256);
        const claims = gateway.claims();
        await gateway.accepts(legacyToken(claims), claims);
        await gateway.refuses(legacyToken(gateway.claims(), { secret: "another" }), INVALID);
        assert.deepEqual([gateway.supabase.jwks.calls, gateway.supabase.user.calls], [0, 0]);
      });
    });

    test("an outage is none", async () => {
      await withGateway(name, { settings: { SUPABASE_JWKS: pinned }, prepare: (supabase) => supabase.down() }, async (gateway) => {
        await accepts(gateway, ES256);
        await refuses(gateway, RS256);
        await gateway.refuses(legacyToken(gateway.claims()), INVALID);
      });
    });
  });

  test(`${name}: a kid unknown after a failed refetch is no no`, async () => {
    await withGateway(name, { keys: [ES256], prepare: strict }, async (gateway) => {
      await accepts(gateway, ES256);
      gateway.supabase.jwks.mode = "500";
      await refuses(gateway, RS256, {}, UNAVAILABLE);
      await refuses(gateway, RS256, {}, UNAVAILABLE);
      await accepts(gateway, ES256);
    });
  });
}
