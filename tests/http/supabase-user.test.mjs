// What cannot be checked locally is asked at /auth/v1/user: what is sent there, and what each answer means.
import assert from "node:assert/strict";
import { after, before, describe, test as nodeTest } from "node:test";

import { EXPIRED, INVALID, INVALID_OR_EXPIRED, UNAVAILABLE, inParallel, startGateway, tally, withGateway } from "./support/gateway.mjs";
import { HOSTS } from "./support/hosts.mjs";
import { KEYS, SECRET, legacyToken, now, userToken } from "./support/jwt.mjs";
import { API_KEY } from "./support/supabase.mjs";
import { ask, request } from "./support/raw.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const { ES256 } = KEYS;
const PROMPT = { timeout: 6000 };
const respond = (status, body, headers = {}) => (response) => {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(status === 204 ? undefined : text);
};

/** Ours, whatever the host's own client adds. */
const OWN = /^(host|connection|accept|accept-encoding|apikey|authorization|user-agent|content-length|cf-.*|mf-.*)$/;

for (const name of HOSTS) {
  describe(name, () => {
    let gateway;
    before(async () => (gateway = await startGateway(name, { keys: [ES256], settings: { AUTH_FETCH_TIMEOUT: "1" } })));
    after(() => gateway?.stop());

    /** Runs `body` while the endpoint answers so. */
    async function while_(mode, body) {
      gateway.supabase.user.mode = mode;
      try {
        await body();
      } finally {
        gateway.supabase.user.mode = "ok";
        gateway.supabase.user.changes = {};
        gateway.supabase.release();
      }
    }

    test("only the API key and the token are sent, and nothing of the client's", async () => {
      const names = ["Cookie", "X-Client-Info", "User-Agent", "X-Forwarded-For", "Forwarded", "X-Real-IP", "Accept", "Accept-Language", "Origin", "Referer", "X-Supabase-Api-Version", "X-JWT-AUD", "Apikey", "Traceparent", "X-User-Id", "Accept-Encoding", "Cache-Control", "If-None-Match"];
      const claims = gateway.claims();
      const token = legacyToken(claims);
      await gateway.accepts(token, claims, { headers: names.map((header) => [header, "client-sentinel"]), target: "/v1/models?audience=client-sentinel", method: "POST" });
      const { method, target, headers } = gateway.supabase.user.requests.at(-1);
      assert.deepEqual([method, target, headers.apikey, headers.authorization], ["GET", "/auth/v1/user", API_KEY, `Bearer ${token}`]);
      assert.deepEqual(Object.keys(headers).filter((header) => !OWN.test(header)), []);
      assert.ok(!JSON.stringify(headers).includes("client-sentinel"), JSON.stringify(headers));
    });

    test("the token is sent as it should be written, however the client wrote it", async () => {
      const token = legacyToken(gateway.claims());
      const answer = await ask(gateway.host.port, request({ headers: [["Host", "x"], ["Authorization", `bEARER    ${token} `]] }));
      assert.equal(answer.status, 200);
      assert.equal(gateway.supabase.user.requests.at(-1).headers.authorization, `Bearer ${token}`);
    });

    test("with a kid that nobody knows, as newer projects sign with their legacy secret", async () => {
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims, { kid: "legacy-kid" }), claims);
    });

    for (const mode of ["bad_jwt", "bad_jwt_401", "session_not_found", "user_banned", "user_not_found", "bad_request", "404", "no_authorization"]) {
      test(`no: ${mode}`, () => while_(mode, async () => {
        const token = legacyToken(gateway.claims());
        const { user } = await gateway.calls(() => gateway.refuses(token, INVALID, PROMPT));
        assert.equal(user, 1, "it was asked");
      }));
    }

    for (const mode of ["bad_api_key", "no_api_key", "429", "500", "502", "503", "hang", "stall", "reset", "cut", "empty", "garbage", "redirect", "oversized"]) {
      test(`no answer: ${mode}`, () => while_(mode, () => gateway.unavailable(legacyToken(gateway.claims()), PROMPT)));
    }
    for (const [title, mode] of [
      ["504", respond(504, "gateway timeout")],
      ["520", respond(520, "error code: 520")],
      ["307 to itself", respond(307, "", { location: "/auth/v1/user" })],
      ["200 with an array", respond(200, [])],
      ["200 with broken JSON", respond(200, '{"id":"')],
      ["204", respond(204, "")],
    ]) {
      test(`no answer: ${title}`, () => while_(mode, () => gateway.unavailable(legacyToken(gateway.claims()), PROMPT)));
    }

    for (const [title, body] of [["another", { id: "11111111-1111-4111-8111-111111111111" }], ["missing", {}], ["null", { id: null }], ["a number", { id: 1 }], ["an array", { id: ["x"] }], ["in another place", { user: { id: "x" } }]]) {
      test(`200 whose id is ${title}`, () => while_("ok", async () => {
        gateway.supabase.user.mode = respond(200, body);
        const { answer, received } = await gateway.send(legacyToken(gateway.claims()), PROMPT);
        assert.deepEqual(received, []);
        // An answer without an id may be taken for none; one with another id is a no.
        assert.ok((title === "another" ? [401] : [401, 503]).includes(answer.status), `answered ${answer.status}`);
      }));
    }

    test("200 whose id is the sub in another case or with more to it", () => while_("ok", async () => {
      const claims = gateway.claims({ sub: "abcdef00-1111-4111-8111-111111111111" });
      for (const id of [claims.sub.toUpperCase(), `${claims.sub} `, `${claims.sub}\0`, claims.sub.slice(1)]) {
        gateway.supabase.user.changes = { id };
        await gateway.refuses(legacyToken(gateway.claims({ sub: claims.sub })), INVALID, PROMPT);
      }
    }));

    test("two ids in one answer are none", () => while_("ok", async () => {
      const claims = gateway.claims();
      gateway.supabase.user.mode = respond(200, `{"id":"${claims.sub}","id":"root"}`);
      assert.ok([401, 503].includes(await gateway.status(legacyToken(claims), PROMPT)));
    }));

    // Whatever Supabase says yes to, the claims must be those of a user's session.
    for (const [title, changes, refusal = INVALID] of [
      ["a past exp", { exp: now() - 3600 }, INVALID_OR_EXPIRED],
      ["no exp", { exp: undefined }],
      ["an exp that is text", { exp: "4000000000" }],
      ["iat ahead", { iat: now() + 3600 }],
      ["nbf ahead", { nbf: now() + 3600 }],
      ["another iss", { iss: "https://evil.example/auth/v1" }],
      ["no iss", { iss: undefined }],
      ["another aud", { aud: "other" }],
      ["no aud", { aud: undefined }],
      ["no role", { role: undefined }],
      ["a role that is no text", { role: 1 }],
      ["sub 1", { sub: "1" }],
      ["an empty sub", { sub: "" }],
      ["no sub", { sub: undefined }],
    ]) {
      test(`a yes does not make up for ${title}`, () => while_("ok", async () => {
        const claims = gateway.claims(changes);
        gateway.supabase.user.mode = respond(200, { id: claims.sub ?? "", aud: "authenticated", role: "authenticated" });
        await gateway.refuses(legacyToken(claims), refusal, PROMPT);
      }));
    }

    test("an expired token is said to be expired, and needs no question", async () => {
      const { user } = await gateway.calls(() => gateway.refuses(legacyToken(gateway.claims({ exp: now() - 3600 })), EXPIRED, PROMPT));
      assert.equal(user, 0);
    });

    test("other algorithms of the family are not asked about", () => while_("ok", async () => {
      const claims = gateway.claims();
      gateway.supabase.user.mode = respond(200, { id: claims.sub });
      for (const alg of ["HS384", "HS512", "none", "hs256"]) {
        const token = legacyToken(claims, { alg: alg.startsWith("HS") ? alg : "HS256" });
        const [, ...rest] = token.split(".");
        const header = Buffer.from(JSON.stringify({ alg, typ: "JWT" })).toString("base64url");
        assert.notEqual(await gateway.status([header, ...rest].join("."), PROMPT), 200, alg);
      }
    }));

    test("a request dropped in mid-question leaves the next one alone", () => while_("held", async () => {
      const claims = gateway.claims();
      const token = legacyToken(claims);
      const asked = gateway.supabase.asked("user");
      const dropped = gateway.send(token, { timeout: 400 });
      dropped.catch(() => {});
      await asked;
      await assert.rejects(dropped, /no complete answer/);
      gateway.supabase.user.mode = "ok";
      await gateway.accepts(token, claims, PROMPT);
    }));

    test("an outage there costs nothing that is checked locally", () => while_("hang", async () => {
      const claims = gateway.claims();
      await gateway.accepts(await userToken(ES256, claims), claims, { timeout: 900 });
    }));
  });

  test(`${name}: a wrong API key is our fault, not the token's`, async () => {
    await withGateway(name, { settings: { SUPABASE_KEY: "sb_publishable_wrong-0123456789" } }, async (gateway) => {
      await gateway.unavailable(legacyToken(gateway.claims()));
      await gateway.acceptsStatic();
    });
  });

  for (const key of ["sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", legacyToken({ iss: "supabase", ref: "abc", role: "anon", iat: 1, exp: 4e9 })]) {
    test(`${name}: asking with the API key ${key.slice(0, 9)}…`, async () => {
      await withGateway(name, { settings: { SUPABASE_KEY: key }, apiKeys: [key] }, async (gateway) => {
        const claims = gateway.claims();
        await gateway.accepts(legacyToken(claims), claims, { headers: [["User-Agent", "Mozilla/5.0"]] });
        const { headers } = gateway.supabase.user.requests[0];
        assert.equal(headers.apikey, key);
        assert.ok(!/Mozilla/.test(headers["user-agent"] ?? ""), "a secret key refuses browsers");
        // The key itself is nobody's session.
        await gateway.refuses(key, INVALID);
      });
    });
  }

  test(`${name}: 200 questions at once`, async () => {
    await withGateway(name, {}, async (gateway) => {
      Object.assign(gateway.supabase.user, { mode: "slow", delay: 100 });
      const tokens = Array.from({ length: 200 }, () => legacyToken(gateway.claims()));
      const statuses = await inParallel(tokens, 200, (token) => gateway.status(token, { timeout: 30_000 }));
      const counts = tally(statuses);
      assert.ok(statuses.every((status) => status === 200 || status === 503), JSON.stringify(counts));
      assert.ok(counts[200] > 0, JSON.stringify(counts));
      assert.ok(gateway.supabase.user.peak <= 100, `${gateway.supabase.user.peak} at once`);
    });
  });

  test(`${name}: with SUPABASE_JWT_SECRET nobody is asked`, async () => {
    await withGateway(name, { keys: [ES256], settings: { SUPABASE_JWT_SECRET: SECRET } }, async (gateway) => {
      const claims = gateway.claims();
      await gateway.accepts(legacyToken(claims), claims);
      for (const secret of ["wrong", `${SECRET} `, SECRET.toUpperCase()]) await gateway.refuses(legacyToken(gateway.claims(), { secret }), INVALID);
      await gateway.refuses(legacyToken(gateway.claims({ exp: now() - 3600 })), EXPIRED);
      assert.equal(gateway.supabase.user.calls, 0);
    });
  });

  test(`${name}: UNAVAILABLE says the same on every way in`, async () => {
    await withGateway(name, {}, async (gateway) => {
      gateway.supabase.user.mode = "500";
      for (const target of ["/v1/models", "/admin/collections", "/terminal", "/.auth/whoami"]) {
        await gateway.refuses(legacyToken(gateway.claims()), UNAVAILABLE, { target });
      }
    });
  });
}
