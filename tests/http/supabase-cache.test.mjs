// What was verified is remembered: for how long, for how many, and never past its end.
import assert from "node:assert/strict";
import { describe, test as nodeTest } from "node:test";

import { EXPIRED, INVALID, INVALID_OR_EXPIRED, checkRefusal, until, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { KEYS, SECRET, legacyToken, now, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);

/** A legacy token is asked about unless it is remembered: the questions tell. */
async function questions(gateway, tokens) {
  const { user } = await gateway.calls(async () => {
    for (const token of tokens) assert.equal(await gateway.status(token), 200);
  });
  return user;
}

const make = (gateway, count) => Array.from({ length: count }, () => legacyToken(gateway.claims()));

for (const name of HOSTS) {
  describe(name, () => {
    test("a second call asks nobody, and tells the upstream the same", async () => {
      await withGateway(name, {}, async (gateway) => {
        const claims = gateway.claims({ role: "editor" });
        const token = legacyToken(claims);
        for (let times = 0; times < 3; times += 1) await gateway.accepts(token, claims);
        assert.equal(gateway.supabase.user.calls, 1);
        gateway.supabase.user.mode = "500";
        await gateway.accepts(token, claims);
        await gateway.unavailable(legacyToken(gateway.claims()));
      });
    });

    test("what is remembered of one is not said of another", async () => {
      await withGateway(name, {}, async (gateway) => {
        const both = [gateway.claims({ role: "one" }), gateway.claims({ role: "two" })];
        for (let times = 0; times < 2; times += 1) for (const claims of both) await gateway.accepts(legacyToken(claims), claims);
        assert.equal(gateway.supabase.user.calls, 2);
      });
    });

    test("a remembered user still needs the role for /admin", async () => {
      await withGateway(name, { settings: { AUTH_ADMIN_ROLES: "admin" } }, async (gateway) => {
        const claims = gateway.claims();
        const token = legacyToken(claims);
        await gateway.accepts(token, claims);
        assert.equal(await gateway.status(token, { target: "/admin/collections" }), 403);
        await gateway.accepts(token, claims);
      });
    });

    test("a no is not remembered as a yes, nor a yes as a no", async () => {
      await withGateway(name, {}, async (gateway) => {
        const claims = gateway.claims();
        const token = legacyToken(claims);
        gateway.supabase.user.mode = "500";
        await gateway.unavailable(token);
        gateway.supabase.user.mode = "ok";
        await gateway.accepts(token, claims);
      });
    });

    for (const [title, settings] of [
      ["AUTH_CACHE_TTL=0", { AUTH_CACHE_TTL: "0" }],
      ["AUTH_CACHE_MAX=0", { AUTH_CACHE_MAX: "0" }],
      ["REMOTE_AUTH_CACHE_TTL=0", { REMOTE_AUTH_CACHE_TTL: "0" }],
      ["REMOTE_AUTH_CACHE_MAX=0", { REMOTE_AUTH_CACHE_MAX: "0" }],
      ["AUTH_CACHE_TTL=0 before REMOTE_AUTH_CACHE_TTL", { AUTH_CACHE_TTL: "0", REMOTE_AUTH_CACHE_TTL: "30" }],
    ]) {
      test(`${title}: every call is asked about`, async () => {
        await withGateway(name, { settings }, async (gateway) => {
          const [token] = make(gateway, 1);
          assert.equal(await questions(gateway, [token, token, token]), 3);
          gateway.supabase.user.mode = "session_not_found";
          await gateway.refuses(token, INVALID);
        });
      });
    }

    test("AUTH_CACHE_TTL goes before REMOTE_AUTH_CACHE_TTL", async () => {
      await withGateway(name, { settings: { AUTH_CACHE_TTL: "30", REMOTE_AUTH_CACHE_TTL: "0" } }, async (gateway) => {
        const [token] = make(gateway, 1);
        assert.equal(await questions(gateway, [token, token]), 1);
      });
    });

    test("after AUTH_CACHE_TTL a deleted session is noticed", async () => {
      await withGateway(name, { settings: { AUTH_CACHE_TTL: "2" } }, async (gateway) => {
        const [token] = make(gateway, 1);
        const first = Date.now();
        assert.equal(await gateway.status(token), 200);
        const remembered = Date.now();
        gateway.supabase.user.mode = "session_not_found";
        await until("the token is refused", 10_000, async () => {
          const asked = Date.now();
          const status = await gateway.status(token);
          // Used again and again, it is not remembered for longer.
          if (status === 200) assert.ok(asked < remembered + 2100, `still accepted ${asked - remembered} ms later`);
          else assert.ok(Date.now() >= first + 1900, `forgotten after ${Date.now() - first} ms`);
          return status === 401;
        });
      });
    });

    test("AUTH_CACHE_MAX: the one that was not used for longest goes first", async () => {
      await withGateway(name, { settings: { AUTH_CACHE_MAX: "2" } }, async (gateway) => {
        const [a, b, c] = make(gateway, 3);
        assert.equal(await questions(gateway, [a, b]), 2);
        assert.equal(await questions(gateway, [a]), 0);
        assert.equal(await questions(gateway, [c]), 1);
        assert.equal(await questions(gateway, [a, c]), 0);
        assert.equal(await questions(gateway, [b]), 1);
      });
    });

    test("a flood of others does not grow it", async () => {
      await withGateway(name, { settings: { REMOTE_AUTH_CACHE_MAX: "5" } }, async (gateway) => {
        const tokens = make(gateway, 12);
        assert.equal(await questions(gateway, tokens), 12);
        assert.equal(await questions(gateway, tokens.slice(-5)), 0);
        assert.equal(await questions(gateway, tokens.slice(0, 1)), 1);
      });
    });

    for (const [title, settings, sign, refusal] of [
      ["asked", {}, legacyToken, INVALID_OR_EXPIRED],
      ["HS256 with the secret", { SUPABASE_JWT_SECRET: SECRET }, legacyToken, EXPIRED],
      ["ES256", {}, (claims) => userToken(KEYS.ES256, claims), EXPIRED],
    ]) {
      test(`a remembered token ends with its exp: ${title}`, async () => {
        await withGateway(name, { keys: [KEYS.ES256], settings: { AUTH_LEEWAY: "0", AUTH_CACHE_TTL: "300", ...settings } }, async (gateway) => {
          const warm = gateway.claims();
          await gateway.accepts(await sign(warm), warm);
          const exp = now() + 3;
          const claims = gateway.claims({ exp });
          const token = await sign(claims);
          await gateway.accepts(token, claims);
          await until("it ends", 10_000, async () => {
            const asked = Date.now();
            const { answer } = await gateway.send(token);
            if (answer.status === 200) {
              assert.ok(asked < exp * 1000 + 100, `still accepted ${asked - exp * 1000} ms after its end`);
              return false;
            }
            checkRefusal(answer, refusal);
            assert.ok(Date.now() >= exp * 1000 - 50, "not before its end");
            return true;
          });
          await gateway.refuses(token, refusal);
        });
      });
    }
  });
}
