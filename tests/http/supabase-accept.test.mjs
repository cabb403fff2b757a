// Supabase JWTs that pass, who the upstream takes their bearers for, and what they may not do.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { EXPIRED, INVALID, NOT_ADMIN, NO_ADMIN_TOKEN, NO_CREDENTIAL, startGateway, withGateway } from "./support/gateway.mjs";
import { HOSTS, TOKEN } from "./support/hosts.mjs";
import { ALGORITHMS, ALL_KEYS, KEYS, SECRET, handmade, headerOf, legacyToken, makeKey, now, userToken, withRaw } from "./support/jwt.mjs";
import { ask, request } from "./support/raw.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const ADMIN_TOKEN = "test-admin-0123456789-abcdefgh";

for (const name of HOSTS) {
  describe(name, () => {
    let gateway;
    before(async () => (gateway = await startGateway(name, { keys: ALL_KEYS, settings: { SUPABASE_JWT_SECRET: SECRET } })));
    after(() => gateway?.stop());

    /** Accepted, and Supabase was not asked about it. */
    async function acceptedLocally(make, changes) {
      const claims = gateway.claims(typeof changes === "function" ? changes() : changes);
      const token = await make(claims);
      const { user } = await gateway.calls(() => gateway.accepts(token, claims));
      assert.equal(user, 0, "checked without asking");
    }

    for (const alg of ALGORITHMS) test(`${alg}, with the key of the set`, () => acceptedLocally((claims) => userToken(KEYS[alg], claims)));
    test("HS256, with the secret", () => acceptedLocally((claims) => legacyToken(claims)));
    test("HS256, with the secret and the kid that newer projects give it", () => acceptedLocally((claims) => legacyToken(claims, { kid: "8AvGpXUEwTM3nzQb" })));
    test("HS256, with the secret and header members that mean nothing here", () => acceptedLocally((claims) => legacyToken(claims, { x5t: "1", cty: "JWT" })));
    test("HS256, with the secret and a far exp", () => acceptedLocally((claims) => legacyToken(claims), { exp: 2 ** 53 - 1 }));
    test("without typ", () => acceptedLocally((claims) => userToken(KEYS.ES256, claims, { typ: undefined })));

    const accepted = [
      ["aud in an array", { aud: ["authenticated"] }],
      ["aud among others", { aud: ["other", "authenticated"] }],
      ["another role", { role: "editor" }],
      ["no iat", { iat: undefined }],
      ["no session, no email", { session_id: undefined, email: undefined, amr: undefined, aal: undefined }],
      ["an OAuth session", { client_id: "6b8f6b1c-2e1f-4e0a-8d0e-9a4d8e6f3c21", scope: "openid email" }],
      ["anonymous", { is_anonymous: true }],
      ["is_anonymous left out", { is_anonymous: undefined }],
      ["a sub that is no UUID", { sub: "user|1" }],
      ["a sub that only begins with 1", { sub: "11" }],
      ["nbf in the past", { nbf: now() - 60 }],
      ["iat in the past", { iat: now() - 100_000 }],
      ["exp with a fraction", { exp: now() + 3600.5 }],
      ["exp just below 2^53", { exp: 2 ** 53 - 1 }],
      ["exp past by less than the leeway", () => ({ exp: now() - 15 })],
      ["nbf ahead by less than the leeway", () => ({ nbf: now() + 15 })],
      ["iat ahead by less than the leeway", () => ({ iat: now() + 15 })],
      ["roles of somebody else's making", { user_metadata: { role: "admin", sub: "1" }, app_metadata: { role: "admin" } }],
      ["four kilobytes of metadata", { app_metadata: { claims: "x".repeat(4096) } }],
    ];
    for (const [title, changes] of accepted) test(`accepted: ${title}`, () => acceptedLocally((claims) => userToken(KEYS.ES256, claims), changes));

    test("accepted: exp as 4.0e9", async () => {
      const claims = gateway.claims();
      await gateway.accepts(handmade(KEYS.ES256, headerOf(KEYS.ES256), withRaw(claims, "exp", "4.0e9")), claims);
    });

    test("what a client says of its identity does not count", async () => {
      const claims = gateway.claims();
      const headers = [["X-User-Id", "1"], ["x_user_id", "1"], ["X-Auth-Role", "admin"], ["X-Auth-Token-Type", "static"], ["Connection", "x-user-id, x-auth-role"]];
      await gateway.accepts(await userToken(KEYS.ES256, claims), claims, { headers });
    });

    test("nobody vouches for a public request, whatever token it brings", async () => {
      const { answer, received } = await gateway.send(await userToken(KEYS.ES256, gateway.claims()), { target: "/health", headers: [["X-User-Id", "1"]] });
      assert.equal(answer.status, 200);
      assert.deepEqual(received[0].headers.filter(([header]) => /^x[-_](user|auth)/.test(header)), []);
    });

    test("whoami tells who a token is", async () => {
      const claims = gateway.claims({ role: "editor" });
      const { answer, received } = await gateway.send(await userToken(KEYS.RS256, claims), { target: "/.auth/whoami" });
      assert.deepEqual(JSON.parse(answer.body), { user_id: claims.sub, token_type: "user", role: "editor" });
      assert.deepEqual([answer.header("content-type"), answer.header("cache-control")], ["application/json", "no-store"]);
      assert.deepEqual(received, []);
    });

    test("whoami refuses like everything else", async () => {
      await gateway.refuses(undefined, NO_CREDENTIAL, { target: "/.auth/whoami" });
      await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ exp: now() - 3600 })), EXPIRED, { target: "/.auth/whoami" });
    });

    test("by default any user may use /admin", async () => {
      const claims = gateway.claims();
      await gateway.accepts(await userToken(KEYS.ES256, claims), claims, { target: "/admin/collections" });
    });

    test("a WebSocket opens with a JWT, and with no bad one", async () => {
      const url = `ws://127.0.0.1:${gateway.host.port}/v1/realtime`;
      const open = (token) => new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });
      const claims = gateway.claims();
      const socket = open(await userToken(KEYS.ES256, claims));
      socket.on("open", () => socket.send("hello"));
      const [data] = await once(socket, "message");
      assert.equal(data.toString(), "hello");
      socket.terminate();
      const received = gateway.upstream.requests.find(({ target }) => target === "/v1/realtime");
      assert.deepEqual(received.headers.filter(([header]) => header === "x-user-id"), [["x-user-id", claims.sub]]);

      const refused = open(await userToken(KEYS.ES256, gateway.claims({ exp: now() - 3600 })));
      refused.on("error", () => {});
      const [, response] = await once(refused, "unexpected-response");
      assert.equal(response.statusCode, 401);
      assert.equal(response.headers["www-authenticate"], EXPIRED.challenge);
      response.destroy();
    });
  });

  test(`${name}: without an upstream the gateway tells who came`, async () => {
    await withGateway(name, { keys: [KEYS.ES256], settings: { UPSTREAM_URL: undefined } }, async (gateway) => {
      const claims = gateway.claims();
      const { answer } = await gateway.send(await userToken(KEYS.ES256, claims));
      assert.deepEqual(JSON.parse(answer.body), { user_id: claims.sub, token_type: "user", role: "authenticated", method: "GET", path: "/v1/r1" });
    });
  });

  test(`${name}: AUTH_ADMIN_ROLES`, async () => {
    await withGateway(name, { keys: [KEYS.ES256], settings: { AUTH_ADMIN_ROLES: "admin, owner" } }, async (gateway) => {
      const targets = ["/admin", "/admin/collections", "/ADMIN/collections", "/%61dmin/collections", "/admin;x/collections"];
      for (const role of ["admin", "owner"]) {
        const claims = gateway.claims({ role });
        await gateway.accepts(await userToken(KEYS.ES256, claims), claims, { target: "/admin/collections" });
      }
      const others = ["authenticated", "Admin", "admins", "adm", "admin,owner", "*", "guest"];
      for (const role of others) {
        await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ role })), NOT_ADMIN, { target: "/admin/collections" });
      }
      const claims = gateway.claims({ user_metadata: { role: "admin" }, app_metadata: { role: "admin", roles: ["admin"] }, roles: ["admin"] });
      const token = await userToken(KEYS.ES256, claims);
      for (const target of targets) await gateway.refuses(token, NOT_ADMIN, { target });
      await gateway.accepts(token, claims, { target: "/administrators" });
      await gateway.refuses(undefined, NO_CREDENTIAL, { target: "/admin/collections" });
      await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ role: "admin", exp: now() - 3600 })), EXPIRED, { target: "/admin/collections" });
      await gateway.acceptsStatic(TOKEN, { target: "/admin/collections" });
    });
  });

  test(`${name}: ADMIN_TOKEN comes on top of the role`, async () => {
    const settings = { AUTH_ADMIN_ROLES: "admin", ADMIN_TOKEN };
    await withGateway(name, { keys: [KEYS.ES256], settings }, async (gateway) => {
      const target = "/admin/collections";
      const headers = [["X-Admin-Token", ADMIN_TOKEN]];
      const claims = gateway.claims({ role: "admin" });
      const token = await userToken(KEYS.ES256, claims);
      const { received } = await gateway.accepts(token, claims, { target, headers });
      assert.deepEqual(received.headers.filter(([header]) => header === "x-admin-token").map(([, value]) => value), [ADMIN_TOKEN]);
      await gateway.refuses(token, NO_ADMIN_TOKEN, { target });
      await gateway.refuses(await userToken(KEYS.ES256, gateway.claims()), NOT_ADMIN, { target, headers });
      await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ role: "admin", exp: now() - 3600 })), EXPIRED, { target, headers });
    });
  });

  test(`${name}: SUPABASE_ALLOW_ANONYMOUS=0`, async () => {
    await withGateway(name, { keys: [KEYS.ES256], settings: { SUPABASE_ALLOW_ANONYMOUS: "0" } }, async (gateway) => {
      for (const is_anonymous of [false, undefined]) {
        const claims = gateway.claims({ is_anonymous });
        await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
      }
      // Whatever is not plainly `false` may be an anonymous user.
      for (const is_anonymous of [true, "true", 1, null, [], {}]) {
        await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ is_anonymous })), INVALID);
      }
    });
  });

  test(`${name}: SUPABASE_ALLOW_MISSING_ISSUER=1`, async () => {
    await withGateway(name, { keys: [KEYS.ES256], settings: { SUPABASE_ALLOW_MISSING_ISSUER: "1" } }, async (gateway) => {
      for (const changes of [{ iss: undefined }, {}]) {
        const claims = gateway.claims(changes);
        await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
      }
      for (const iss of ["", "https://elsewhere.test/auth/v1", null, 1]) await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ iss })), INVALID);
    });
  });

  test(`${name}: SUPABASE_ALLOW_ANONYMOUS=0 where Supabase is asked`, async () => {
    await withGateway(name, { settings: { SUPABASE_ALLOW_ANONYMOUS: "0" } }, async (gateway) => {
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims), claims);
      await gateway.refuses(legacyToken(gateway.claims({ is_anonymous: true })), INVALID);
    });
  });

  for (const [setting, claim, value] of [["SUPABASE_AUDIENCE", "aud", "my-app"], ["SUPABASE_ISSUER", "iss", "https://auth.example.com/auth/v1"]]) {
    test(`${name}: ${setting}`, async () => {
      await withGateway(name, { keys: [KEYS.ES256], settings: { [setting]: value } }, async (gateway) => {
        const claims = gateway.claims({ [claim]: value });
        await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
        await gateway.refuses(await userToken(KEYS.ES256, gateway.claims()), INVALID);
        await gateway.refuses(await userToken(KEYS.ES256, gateway.claims({ [claim]: undefined })), INVALID);
      });
    });
  }

  test(`${name}: a project URL with a slash at its end`, async () => {
    const slash = (supabase) => (supabase.url += "/");
    await withGateway(name, { keys: [KEYS.ES256], prepare: slash }, async (gateway) => {
      const claims = gateway.claims();
      await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
      const legacy = gateway.claims();
      await gateway.accepts(legacyToken(legacy), legacy);
    });
  });

  test(`${name}: without a kid, the one key that fits`, async () => {
    await withGateway(name, { keys: [KEYS.ES256, KEYS.RS256] }, async (gateway) => {
      for (const key of [KEYS.ES256, KEYS.RS256]) {
        const claims = gateway.claims();
        await gateway.accepts(await userToken(key, claims, { kid: undefined }), claims);
        await gateway.refuses(await userToken(makeKey(key.alg), gateway.claims(), { kid: undefined }), INVALID);
      }
    });
  });

  describe(`${name}: AUTH_LEEWAY`, () => {
    for (const [leeway, passes, fails] of [["0", [{ exp: 5 }, { nbf: -1 }, { iat: -1 }], [{ exp: -1 }, { nbf: 20 }, { iat: 20 }]],
      [undefined, [{ exp: -20 }, { nbf: 20 }, { iat: 20 }], [{ exp: -31 }, { nbf: 45 }, { iat: 45 }]],
      ["300", [{ exp: -285 }, { nbf: 285 }, { iat: 285 }], [{ exp: -301 }, { nbf: 330 }, { iat: 330 }]]]) {
      test(leeway ?? "by default", async () => {
        await withGateway(name, { keys: [KEYS.ES256], settings: { AUTH_LEEWAY: leeway } }, async (gateway) => {
          const at = (offsets) => Object.fromEntries(Object.entries(offsets).map(([claim, offset]) => [claim, now() + offset]));
          for (const offsets of passes) {
            const claims = gateway.claims(at(offsets));
            await gateway.accepts(await userToken(KEYS.ES256, claims), claims);
          }
          for (const offsets of fails) await gateway.refuses(await userToken(KEYS.ES256, gateway.claims(at(offsets))), "exp" in offsets ? EXPIRED : INVALID);
        });
      });
    }
  });

  test(`${name}: the scheme and its spaces as with any token`, async () => {
    await withGateway(name, { keys: [KEYS.ES256] }, async (gateway) => {
      const token = await userToken(KEYS.ES256, gateway.claims());
      for (const value of [`bearer ${token}`, `BEARER   ${token}  `]) {
        assert.equal((await ask(gateway.host.port, request({ headers: [["Host", "x"], ["Authorization", value]] }))).status, 200, value.slice(0, 10));
      }
      const other = await userToken(KEYS.ES256, gateway.claims());
      const twice = [["Host", "x"], ["Authorization", `Bearer ${token}`], ["Authorization", `Bearer ${other}`]];
      const answer = await ask(gateway.host.port, request({ headers: twice }));
      assert.deepEqual([answer.status, answer.header("www-authenticate")], [401, 'Bearer error="invalid_request"']);
    });
  });
}
