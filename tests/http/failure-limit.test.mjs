// Who fails too often to prove who it is has to wait; who does not fail never does.
import assert from "node:assert/strict";
import { describe, test as nodeTest } from "node:test";

import { NO_CREDENTIAL, checkRefusal, until, withGateway } from "./support/gateway.mjs";
import { HOSTS, TOKEN } from "./support/hosts.mjs";
import { KEYS, handmade, headerOf, legacyToken, makeKey, userToken } from "./support/jwt.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const LIMIT = 3;
const WRONG = "wrong-0123456789-abcdefgh";

/** How each host is told to count, and whom a request comes from. */
const LIMITED = {
  native: { settings: { AUTH_FAILURE_LIMIT: String(LIMIT), AUTH_TRUSTED_PROXIES: "127.0.0.1" }, from: (address) => [["X-Forwarded-For", address]] },
  edge: {
    env: { AUTH_RATE_LIMITER: { type: "rate-limit", namespace: "1001", simple: { limit: LIMIT, period: 60 } } },
    // What Cloudflare itself sets there.
    from: (address) => [["CF-Connecting-IP", address]],
  },
};

for (const name of HOSTS) {
  const { settings = {}, env, from } = LIMITED[name];
  const gatewayWith = (options, body) => withGateway(name, { keys: [KEYS.ES256], env, ...options, settings: { ...settings, ...options.settings } }, body);

  describe(`${name}: failures`, () => {
    const wrong = (gateway, address, options) => gateway.send(WRONG, { headers: from(address), ...options });
    async function exhaust(gateway, address) {
      for (let failure = 0; failure < LIMIT; failure += 1) assert.equal((await wrong(gateway, address)).status, 401);
    }

    test("one too many is told to wait, and nobody else is", async () => {
      await gatewayWith({}, async (gateway) => {
        await exhaust(gateway, "192.0.2.1");
        for (let more = 0; more < 3; more += 1) {
          const { answer, received } = await wrong(gateway, "192.0.2.1");
          const wait = Number(answer.header("retry-after"));
          assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 60, `wait ${answer.header("retry-after")}`);
          checkRefusal(answer, { status: 429, detail: "Too many failed authentication attempts", challenge: undefined, retryAfter: String(wait) });
          assert.deepEqual(received, []);
        }
        assert.equal((await wrong(gateway, "192.0.2.2")).status, 401, "another client");
        await gateway.acceptsStatic(TOKEN, { headers: from("192.0.2.1") });
        const claims = gateway.claims();
        await gateway.accepts(await userToken(KEYS.ES256, claims), claims, { headers: from("192.0.2.1") });
        await gateway.refuses(undefined, NO_CREDENTIAL, { headers: from("192.0.2.1") });
        assert.equal((await gateway.send(undefined, { target: "/health", headers: from("192.0.2.1") })).status, 200);
        await until("the log says so", 10_000, () => gateway.host.log().includes("too_many_failures"));
      });
    });

    test("what is no failure does not count", async () => {
      await gatewayWith({}, async (gateway) => {
        const headers = from("192.0.2.1");
        const claims = gateway.claims();
        const token = await userToken(KEYS.ES256, claims);
        const expired = await userToken(KEYS.ES256, gateway.claims({ exp: claims.iat - 3600 }));
        for (let round = 0; round < 2 * LIMIT; round += 1) {
          await gateway.acceptsStatic(TOKEN, { headers });
          await gateway.accepts(token, claims, { headers });
          assert.equal((await gateway.send(undefined, { headers })).status, 401);
          assert.equal((await gateway.send(expired, { headers })).status, 401);
        }
        await exhaust(gateway, "192.0.2.1");
        assert.equal((await wrong(gateway, "192.0.2.1")).status, 429);
      });
    });

    test("whoever has to wait makes the gateway ask nobody", async () => {
      await gatewayWith({}, async (gateway) => {
        const claims = gateway.claims();
        const known = await userToken(KEYS.ES256, claims);
        await gateway.accepts(known, claims);
        // One of them is one too many.
        await exhaust(gateway, "192.0.2.1");
        assert.equal((await wrong(gateway, "192.0.2.1")).status, 429);
        const headers = from("192.0.2.1");
        const forger = makeKey("ES256");
        const calls = await gateway.calls(async () => {
          for (let round = 0; round < 5; round += 1) {
            assert.equal((await gateway.send(await legacyToken(gateway.claims()), { headers })).status, 429);
            const unknown = handmade(forger, headerOf(forger, { kid: `unknown-${round}` }), JSON.stringify(claims));
            assert.equal((await gateway.send(unknown, { headers })).status, 429);
          }
        });
        assert.deepEqual(calls, { jwks: 0, user: 0 });
        assert.equal((await gateway.send(await legacyToken(gateway.claims()), { headers: from("192.0.2.2") })).status, 200, "for others it does");
      });
    });

    test("an IPv6 household is one client", async () => {
      await gatewayWith({}, async (gateway) => {
        for (let failure = 0; failure < LIMIT; failure += 1) assert.equal((await wrong(gateway, `2001:db8:0:1::${failure + 1}`)).status, 401);
        assert.equal((await wrong(gateway, "2001:db8:0:1:ffff::9")).status, 429);
        assert.equal((await wrong(gateway, "2001:db8:0:2::1")).status, 401);
      });
    });

    test("without being asked to, nobody counts", async () => {
      await withGateway(name, { keys: [KEYS.ES256], settings: { AUTH_FAILURE_LIMIT: "0" } }, async (gateway) => {
        for (let failure = 0; failure < 30; failure += 1) assert.equal((await wrong(gateway, "192.0.2.1")).status, 401);
      });
    });
  });
}

describe("native: whose failures they are", () => {
  test("a client cannot take another address", async () => {
    await withGateway("native", { keys: [KEYS.ES256], settings: { AUTH_FAILURE_LIMIT: String(LIMIT) } }, async (gateway) => {
      const statuses = [];
      for (let failure = 0; failure <= LIMIT; failure += 1) {
        const headers = [["X-Forwarded-For", `192.0.2.${failure}`], ["CF-Connecting-IP", `192.0.2.${failure}`], ["X-Real-IP", `192.0.2.${failure}`]];
        statuses.push((await gateway.send(WRONG, { headers })).status);
      }
      assert.deepEqual(statuses, [401, 401, 401, 429]);
    });
  });

  test("edge: failures at /.auth/verify count for the client that a trusted proxy names, else for the proxy", async () => {
    const described = [["X-Forwarded-Method", "GET"], ["X-Forwarded-Uri", "/admin/x"]];
    for (const [trusted, expected] of [["198.51.100.1", [false, false, false, true, false]], [undefined, [false, false, false, true, true]]]) {
      const settings = { AUTH_TRUSTED_PROXIES: trusted, AUTH_VERIFY_OPEN: "1", ADMIN_TOKEN: "test-admin-0123456789-abcdefgh" };
      for (const [token, ...headers] of [[WRONG], [TOKEN, ["X-Admin-Token", "guessed"]]]) {
        await withGateway("edge", { keys: [KEYS.ES256], settings, env: LIMITED.edge.env }, async (gateway) => {
          const isLimited = [];
          for (const address of ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]) {
            const named = [["CF-Connecting-IP", "198.51.100.1"], ["X-Forwarded-For", address]];
            const { answer } = await gateway.send(token, { target: "/.auth/verify", headers: [...described, ...named, ...headers] });
            isLimited.push(/Too many failed/.test(answer.body));
          }
          assert.deepEqual(isLimited, expected);
        });
      }
    }
  });

  test("failures at /.auth/verify count for the client that a trusted proxy names, else for the proxy", async () => {
    const described = [["X-Forwarded-Method", "GET"], ["X-Forwarded-Uri", "/admin/x"]];
    const ask = async (gateway, address, token, ...headers) =>
      gateway.send(token, { target: "/.auth/verify", headers: [...described, ["X-Forwarded-For", address], ...headers] });
    const isLimited = ({ status, answer }) => status === 401 && /Too many failed/.test(answer.body) && Number(answer.header("retry-after")) > 0;
    for (const [trusted, expected] of [[undefined, [false, false, false, true, true, true]], ["127.0.0.1", [false, false, false, true, true, false]]]) {
      const settings = { AUTH_FAILURE_LIMIT: String(LIMIT), AUTH_TRUSTED_PROXIES: trusted, ADMIN_TOKEN: "test-admin-0123456789-abcdefgh" };
      for (const [token, wrongly, ...headers] of [[WRONG, 401], [TOKEN, 403, ["X-Admin-Token", "guessed"]]]) {
        await withGateway("native", { keys: [KEYS.ES256], settings }, async (gateway) => {
          const asked = [];
          for (const address of ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]) asked.push(await ask(gateway, address, token, ...headers));
          assert.deepEqual(asked.map(isLimited), expected);
          assert.ok(asked.filter((answer) => !isLimited(answer)).every(({ status }) => status === wrongly), "refused as before the limit");
          const right = await ask(gateway, "192.0.2.1", TOKEN, ["X-Admin-Token", settings.ADMIN_TOKEN]);
          assert.equal(right.status, 200, "right credentials pass");
        });
      }
    }
  });
});
