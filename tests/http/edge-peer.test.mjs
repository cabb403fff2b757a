// Who connected to the Worker: a header says so that only Cloudflare's network makes trustworthy, and `wrangler dev` does not.
import assert from "node:assert/strict";
import { describe, test as nodeTest } from "node:test";

import { NO_CREDENTIAL, checkRefusal, until } from "./support/gateway.mjs";
import { AUTHORIZATION, TOKEN, withHost } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { secret } from "./support/transcripts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const LOCAL = ["Host", "localhost"];
const send = (host, headers, target = "/v1/models") => ask(host.port, request({ target, headers: [LOCAL, ...headers] }));
/** Without a provider: `local` by default. */
const DEVELOPMENT = { ENV: "development" };

describe("edge: no client is this machine", () => {
  const CLAIMS = [[], ...["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", " 127.0.0.1 ", "localhost", "127.0.0.1, 127.0.0.1"].map((peer) => [["CF-Connecting-IP", peer]]), [["CF-Connecting-IP", "127.0.0.1"], ["CF-Connecting-IP", "127.0.0.1"]]];

  test("`local` by default opens nothing", async () => {
    await withHost("edge", { settings: DEVELOPMENT, store: TOKEN }, async (host) => {
      for (const headers of CLAIMS) {
        checkRefusal(await send(host, headers), NO_CREDENTIAL);
        assert.equal((await send(host, [AUTHORIZATION, ...headers])).status, 200);
      }
    });
  });

  test("nor may one ask at /.auth/verify", async () => {
    await withHost("edge", { settings: DEVELOPMENT, store: TOKEN }, async (host) => {
      for (const headers of CLAIMS) {
        const answer = await send(host, [AUTHORIZATION, ["X-Original-Method", "GET"], ["X-Original-URI", "/v1"], ...headers], "/.auth/verify");
        assert.deepEqual([answer.status, answer.body.toString()], [403, '{"detail":"Not a trusted proxy"}'], JSON.stringify(headers));
      }
    });
  });

  test("a first run makes a token and shows it", async () => {
    await withHost("edge", { settings: DEVELOPMENT }, async (host) => {
      checkRefusal(await send(host, [["CF-Connecting-IP", "127.0.0.1"]]), NO_CREDENTIAL);
      const [, token] = await until("a token is shown", 5000, () => /Authorization: Bearer (\S+)/.exec(host.log()));
      secret("the token that the Worker showed", token);
      assert.equal((await send(host, [["Authorization", `Bearer ${token}`]])).status, 200);
    });
  });
});
