// Forged HS256 tokens, which only the project can tell from real ones: they are asked about once, and shut out no user.
import assert from "node:assert/strict";
import { describe, test as nodeTest } from "node:test";

import { INVALID, tally, until, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { KEYS, legacyToken, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const forged = (gateway) => legacyToken(gateway.claims(), { secret: "not the secret of the project, but as long" });

/** Headers by which a host takes a request for one of this client. */
const by = (gateway, client) => (gateway.name === "edge" ? [["CF-Connecting-IP", client]] : [["X-Forwarded-For", client]]);

for (const name of HOSTS) {
  const withProject = (settings, body) => withGateway(name, { settings: { ...(name === "native" ? { AUTH_TRUSTED_PROXIES: "127.0.0.1" } : {}), ...settings } }, body);

  /** 300 forged tokens under way, of these clients, while the project takes its time. */
  async function flooded(gateway, clients, body) {
    Object.assign(gateway.supabase.user, { mode: "slow", delay: 400 });
    const flood = Array.from({ length: 300 }, (_, index) => gateway.status(forged(gateway), { headers: by(gateway, clients[index % clients.length]), timeout: 30_000 }));
    await until("the project is busy", 5000, () => gateway.supabase.user.open >= 8);
    await body();
    const counts = tally(await Promise.all(flood));
    assert.deepEqual(Object.keys(counts).filter((status) => !["401", "503"].includes(status)), [], JSON.stringify(counts));
    assert.ok(gateway.supabase.user.peak <= 32, `${gateway.supabase.user.peak} questions at once`);
  }

  describe(name, () => {
    test("a forged token is asked about once while its refusal is remembered", () =>
      withProject({ AUTH_CACHE_TTL: "2" }, async (gateway) => {
        const [first, second] = [forged(gateway), forged(gateway)];
        const asked = async (token) => (await gateway.calls(() => gateway.refuses(token, INVALID))).user;
        assert.deepEqual([await asked(first), await asked(second), await asked(first), await asked(second)], [1, 1, 0, 0]);
        await until("it is asked about again", 10_000, async () => (await asked(first)) === 1);
      }));

    test("a user of another client is served within a second while one client floods", () =>
      withProject({}, (gateway) =>
        flooded(gateway, ["198.51.100.1"], async () => {
          const claims = gateway.claims();
          const began = Date.now();
          await gateway.accepts(legacyToken(claims), claims, { headers: by(gateway, "198.51.100.2") });
          assert.ok(Date.now() - began < 1000, `${Date.now() - began} ms`);
        }),
      ));

    test("addresses of one IPv6 network are one client", () =>
      withProject({}, (gateway) =>
        flooded(gateway, Array.from({ length: 300 }, (_, index) => `2001:db8::${(index + 1).toString(16)}`), async () => {
          const claims = gateway.claims();
          const began = Date.now();
          await gateway.accepts(legacyToken(claims), claims, { headers: by(gateway, "2001:db8:0:1::1") });
          assert.ok(Date.now() - began < 1000, `${Date.now() - began} ms`);
        }),
      ));

    for (const [title, clients] of [["the same client floods", ["198.51.100.2"]], ["300 clients flood", Array.from({ length: 300 }, (_, index) => `203.0.${index >> 8}.${index & 255}`)]]) {
      test(`a user whose token was verified before is served within a second while ${title}`, () =>
        withProject({ AUTH_CACHE_TTL: "0" }, async (gateway) => {
          const claims = gateway.claims();
          const token = legacyToken(claims);
          const headers = by(gateway, "198.51.100.2");
          await gateway.accepts(token, claims, { headers });
          await flooded(gateway, clients, async () => {
            const began = Date.now();
            const { user } = await gateway.calls(() => gateway.accepts(token, claims, { headers }));
            assert.ok(user >= 1, "nothing was remembered");
            assert.ok(Date.now() - began < 1000, `${Date.now() - began} ms`);
          });
        }));
    }

    test("SUPABASE_ALLOW_HS256=no refuses them without asking, and no others", () =>
      withGateway(name, { keys: [KEYS.ES256], settings: { SUPABASE_ALLOW_HS256: "no" } }, async (gateway) => {
        const claims = gateway.claims();
        const { user } = await gateway.calls(async () => {
          await gateway.refuses(legacyToken(claims), INVALID);
          await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
          await gateway.acceptsStatic();
        });
        assert.equal(user, 0);
      }));
  });
}
