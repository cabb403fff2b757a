// The static token beside JWTs, wherever it comes from.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test as nodeTest } from "node:test";

import { INVALID, NO_CREDENTIAL, withGateway } from "./support/gateway.mjs";
import { HOSTS, TOKEN } from "./support/hosts.mjs";
import { KEYS, SECRET, legacyToken, now, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const { ES256 } = KEYS;
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

async function acceptsJwt(gateway) {
  const claims = gateway.claims();
  await gateway.accepts(await userToken(ES256, claims), claims);
}

for (const name of HOSTS) {
  describe(name, () => {
    test("both pass, each as what it is", async () => {
      await withGateway(name, { keys: [ES256] }, async (gateway) => {
        await gateway.acceptsStatic();
        await acceptsJwt(gateway);
        await gateway.acceptsStatic();
        const { answer } = await gateway.send(TOKEN, { target: "/.auth/whoami" });
        assert.equal(answer.body.toString(), '{"user_id":"1","token_type":"static","role":null}');
      });
    });

    test("the static token troubles nobody at Supabase", async () => {
      await withGateway(name, { keys: [ES256] }, async (gateway) => {
        await acceptsJwt(gateway);
        const calls = await gateway.calls(() => gateway.acceptsStatic());
        assert.deepEqual(calls, { jwks: 0, user: 0 });
      });
    });

    test("it passes while Supabase is away", async () => {
      await withGateway(name, { prepare: (supabase) => supabase.down(), settings: { AUTH_FETCH_TIMEOUT: "1" } }, (gateway) => gateway.acceptsStatic());
    });

    test("it may use /admin, whatever AUTH_ADMIN_ROLES says", async () => {
      await withGateway(name, { settings: { AUTH_ADMIN_ROLES: "admin" } }, (gateway) => gateway.acceptsStatic(TOKEN, { target: "/admin/collections" }));
    });

    test("what comes near it does not pass", async () => {
      await withGateway(name, { keys: [ES256] }, async (gateway) => {
        for (const wrong of [TOKEN.slice(0, -1), `${TOKEN}x`, TOKEN.toUpperCase(), `${TOKEN}.${TOKEN}.${TOKEN}`]) await gateway.refuses(wrong, INVALID);
        await gateway.refuses(undefined, NO_CREDENTIAL);
      });
    });

    test("a static token that looks like a JWT is a static token", async () => {
      const key = legacyToken({ iss: "supabase", ref: "abcdefghijklmnopqrst", role: "service_role", iat: 1, exp: 2 });
      await withGateway(name, { keys: [ES256], settings: { WORKER_AUTH_TOKEN: key } }, async (gateway) => {
        await gateway.acceptsStatic(key);
        const [header, payload] = key.split(".");
        await gateway.refuses(`${header}.${payload}.AAAA`, INVALID);
        await acceptsJwt(gateway);
      });
    });

    test("in production", async () => {
      await withGateway(name, { keys: [ES256], settings: { ENV: "production" } }, async (gateway) => {
        await gateway.acceptsStatic();
        await acceptsJwt(gateway);
        await gateway.refuses(undefined, NO_CREDENTIAL);
      });
    });
  });
}

describe("edge", () => {
  test("without any static token it goes on with JWTs alone", async () => {
    await withGateway("edge", { keys: [ES256], settings: { WORKER_AUTH_TOKEN: undefined, ENV: "production" } }, async (gateway) => {
      await acceptsJwt(gateway);
      await gateway.refuses(TOKEN, INVALID);
      await gateway.refuses(undefined, NO_CREDENTIAL);
      await gateway.refuses(await userToken(ES256, gateway.claims({ sub: "1" })), INVALID);
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims), claims);
    });
  });

  test("the token in KV", async () => {
    await withGateway("edge", { keys: [ES256], settings: { WORKER_AUTH_TOKEN: undefined }, store: TOKEN }, async (gateway) => {
      await gateway.acceptsStatic();
      await acceptsJwt(gateway);
      await gateway.refuses(`${TOKEN}x`, INVALID);
    });
  });

  test("a list of tokens in KV; one of them past its end is plainly invalid", async () => {
    const store = JSON.stringify({ tokens: [{ name: "new", sha256: sha256(TOKEN) }, { name: "old", sha256: sha256(`old-${TOKEN}`), not_after: now() - 60 }] });
    await withGateway("edge", { keys: [ES256], settings: { WORKER_AUTH_TOKEN: undefined }, store }, async (gateway) => {
      await gateway.acceptsStatic();
      await gateway.refuses(`old-${TOKEN}`, INVALID);
      await acceptsJwt(gateway);
    });
  });

  test("an expired JWT in the place of a token that KV does not have", async () => {
    await withGateway("edge", { settings: { WORKER_AUTH_TOKEN: undefined, SUPABASE_JWT_SECRET: SECRET } }, async (gateway) => {
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims), claims);
      await gateway.refuses(legacyToken(claims, { secret: "another" }), INVALID);
    });
  });
});

describe("native", () => {
  test("a generated token passes beside JWTs", async () => {
    await withGateway("native", { keys: [ES256], settings: { WORKER_AUTH_TOKEN: undefined } }, async (gateway) => {
      const { readFileSync } = await import("node:fs");
      const [, generated] = /^worker_auth_token: (\S{43})$/m.exec(readFileSync(gateway.host.config, "utf8"));
      await gateway.acceptsStatic(generated);
      await acceptsJwt(gateway);
      await gateway.refuses(TOKEN, INVALID);
    });
  });
});
