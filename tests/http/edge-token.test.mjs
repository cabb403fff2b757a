// Where the Worker's token comes from: the Secrets Store, KV with its outages, and the one token that isolates settle on.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { describe, test as nodeTest } from "node:test";

import { until } from "./support/gateway.mjs";
import { GATEWAY, TOKEN, withHost } from "./support/hosts.mjs";
import { listen } from "./support/servers.mjs";
import { secret } from "./support/transcripts.mjs";
import { behind, namespace, service, startWorkers, variables, worker } from "./support/workers.mjs";

const OTHER = "test-other-0123456789-ijklmnop";
secret("another token of the tests", OTHER);
const STATIC = { AUTH_PROVIDER: "static" };
const DEVELOPMENT = { ...STATIC, ENV: "development" };
const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);

const sha256 = (token) => createHash("sha256").update(token).digest("hex");
const ask = async (url, token, headers = {}) => {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`${url}/v1/models`, { headers: { ...authorization, ...headers } });
  return [response.status, (await response.json()).detail];
};
const REFUSED = [401, "Invalid authentication token"];
const SERVED = [200, undefined];
const UNAVAILABLE = [503, "Authentication service unavailable"];
const NOT_CONFIGURED = [503, "No authentication token is configured"];

const withEdge = (options, body) => withHost("edge", { settings: STATIC, ...options }, body);

describe("edge: a secret of the Secrets Store", () => {
  /** A store with these secrets, of which the binding is for one named `token`. */
  const withSecrets = (secrets, options, body) => {
    const env = { WORKER_AUTH_TOKEN: { type: "secrets-store-secret", storeId: "store", secretName: "token" } };
    return withEdge({ ...options, env }, async (host) => {
      const api = await host.secrets();
      for (const secret of secrets) await api.create(secret);
      await body(host, api);
    });
  };

  test("goes before KV, which is not read", () =>
    withSecrets([TOKEN], { store: OTHER }, async (host) => {
      assert.deepEqual([await ask(host.url, TOKEN), await ask(host.url, OTHER), (await ask(host.url))[0]], [SERVED, REFUSED, 401]);
      assert.ok(!host.log().includes(TOKEN));
    }));

  test("may hold a list of hashes as well", () =>
    withSecrets([JSON.stringify({ tokens: [{ sha256: sha256(TOKEN) }, { sha256: sha256(OTHER), not_after: 1 }] })], {}, async (host) => {
      assert.deepEqual([await ask(host.url, TOKEN), await ask(host.url, OTHER)], [SERVED, REFUSED]);
    }));

  test("that is blank is none: KV is read", () =>
    withSecrets([" \n"], { store: OTHER }, async (host) => {
      assert.deepEqual([await ask(host.url, OTHER), await ask(host.url, TOKEN)], [SERVED, REFUSED]);
    }));

  test("that does not exist is an outage, not an open door and not KV", () =>
    withSecrets([], { store: OTHER }, async (host, api) => {
      assert.deepEqual([await ask(host.url, OTHER), (await ask(host.url))[0]], [UNAVAILABLE, 401]);
      assert.match(host.log(), /token store cannot be used/);
      await api.create(TOKEN);
      assert.deepEqual(await ask(host.url, TOKEN), SERVED);
    }));
});

test("edge: a service in the place of a secret lets nobody in", () =>
  withEdge({ store: TOKEN, env: { WORKER_AUTH_TOKEN: service(() => new Response(TOKEN)) } }, async (host) => {
    for (const guess of [TOKEN, "undefined", "[object]"]) assert.deepEqual(await ask(host.url, guess), UNAVAILABLE);
  }));

test("edge: a namespace of KV in the place of a secret is a wrong setting", () =>
  withEdge({ env: { WORKER_AUTH_TOKEN: namespace("other") } }, async (host) => {
    assert.deepEqual(await ask(host.url, TOKEN), [500, "Authentication is misconfigured"]);
  }));

/**
 * Isolates of the same Worker with the same KV, as on Cloudflare's network.
 * @param {{count?: number, settings?: Record<string, string>, hasArbiter?: boolean, origin?: string}} options `origin`: of a
 * server that plays KV, instead of the real one
 */
async function withIsolates({ count = 1, settings = STATIC, hasArbiter = false, origin }, body) {
  const names = Array.from({ length: count }, (_, index) => `isolate-${index}`);
  const arbiter = { type: "durable-object", worker: names[0], exportName: "TokenArbiter" };
  const { miniflare, log } = startWorkers(
    names.map((name) =>
      worker({
        name,
        manifest: origin ? behind(fakeKv(origin), GATEWAY) : GATEWAY,
        env: { ...variables(settings), AUTH_KV: namespace(), ...(hasArbiter ? { AUTH_ARBITER: arbiter } : {}) },
        exports: name === names[0] ? { TokenArbiter: { type: "durable-object", storage: "sqlite" } } : undefined,
      }),
    ),
  );
  try {
    const urls = await Promise.all(names.map(async (name) => (await miniflare.unsafeGetDirectURL(name)).origin));
    const kv = () => miniflare.getKVNamespace("AUTH_KV", names[0]);
    const shown = () => [...log().matchAll(/Authorization: Bearer (\S+)/g)].map(([, token]) => token);
    await body({ urls, url: urls[0], kv, log, shown });
    for (const token of shown()) secret("a generated token", token);
  } finally {
    await miniflare.dispose();
  }
}

const fakeKv = (origin) => `
import { TokenArbiter as Arbiter } from "./arbiter.js";

const AUTH_KV = {
  async get(key) {
    const response = await fetch("${origin}/" + key);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error("KV GET failed: " + response.status);
    return response.text();
  },
  async put(key, value) {
    const response = await fetch("${origin}/" + key, { method: "PUT", body: value });
    if (!response.ok) throw new Error("KV PUT failed: " + response.status);
  },
};
export default { fetch: (request, env, context) => gateway.fetch(request, { ...env, AUTH_KV }, context) };
export class TokenArbiter extends Arbiter {
  constructor(context, env) {
    super(context, { ...env, AUTH_KV });
  }
}`;

/** A KV that is played by a server, so that it may fail, be late or never answer. */
async function withFakeKv(options, body) {
  const kv = { value: TOKEN, fails: undefined, reads: 0, written: [], isShown: () => true };
  const server = http.createServer(async (request, response) => {
    if (request.method === "PUT") {
      kv.written.push((await request.toArray()).join(""));
      return response.writeHead(kv.failsToWrite ? 429 : 200).end();
    }
    kv.reads += 1;
    await kv.isShown();
    if (kv.fails === "hangs") return;
    if (kv.fails) return response.writeHead(500).end();
    if (kv.value === undefined) return response.writeHead(404).end();
    response.end(kv.value);
  });
  const { url: origin, stop } = await listen(server);
  try {
    await withIsolates({ ...options, origin }, (isolates) => body({ ...isolates, kv }));
  } finally {
    await stop();
  }
}

/** Half a minute after the last look an isolate looks again; a token that nobody has makes it do so. */
const looksAgain = (kv, url, what) => {
  const { reads } = kv;
  return until(what, 45_000, async () => {
    await ask(url, "nobody's");
    return kv.reads > reads;
  });
};

describe("edge: an outage of KV", () => {
  for (const [title, break_, said] of [
    ["fails", (kv) => (kv.fails = "500"), /cannot be used: .*KV GET failed/],
    ["does not answer", (kv) => (kv.fails = "hangs"), /cannot be used: .*no answer in time/],
    ["holds half a list", (kv) => (kv.value = '{"tokens":[{'), /holds something unusable: not a list/],
  ]) {
    test(`when KV ${title}, the tokens from before go on, and a change is taken up when it is back`, () =>
      withFakeKv({}, async ({ kv, url, log }) => {
        assert.deepEqual(await ask(url, TOKEN), SERVED);
        break_(kv);
        await looksAgain(kv, url, "it is asked again");
        // Nobody waits for what has just failed.
        const [began, { reads }] = [Date.now(), kv];
        for (let time = 0; time < 20; time += 1) assert.deepEqual([await ask(url, TOKEN), await ask(url, OTHER)], [SERVED, REFUSED]);
        assert.ok(kv.reads <= reads + 1 + (Date.now() - began) / 5000, `${kv.reads - reads} reads in ${Date.now() - began} ms`);
        assert.match(log(), said);
        assert.ok(!log().includes(TOKEN));
        [kv.fails, kv.value] = [undefined, OTHER];
        await until("the new one is taken up", 20_000, async () => (await ask(url, OTHER))[0] === 200);
        assert.deepEqual(await ask(url, TOKEN), REFUSED);
      }));
  }

  test("an isolate that knows no token yet lets nobody in", () =>
    withFakeKv({}, async ({ kv, url }) => {
      kv.fails = "500";
      assert.deepEqual([await ask(url, TOKEN), await ask(url, OTHER), (await ask(url))[0]], [UNAVAILABLE, UNAVAILABLE, 401]);
      kv.fails = undefined;
      assert.deepEqual([await ask(url, TOKEN), await ask(url, OTHER)], [SERVED, REFUSED]);
    }));

  for (const [title, value] of [["a deleted key", undefined], ["an emptied list", '{"tokens":[]}'], ["a blank value", " "]]) {
    test(`${title} is no outage: it revokes every token, also for an isolate that starts`, () =>
      withFakeKv({ count: 2 }, async ({ kv, urls: [url, fresh], log }) => {
        assert.deepEqual(await ask(url, TOKEN), SERVED);
        kv.value = value;
        await looksAgain(kv, url, "it is asked again");
        for (const each of [url, fresh]) assert.deepEqual([await ask(each, TOKEN), await ask(each)], [NOT_CONFIGURED, NOT_CONFIGURED]);
        assert.match(log(), /No token is configured/);
        kv.fails = "500";
        await until("what was revoked does not come back with an outage", 45_000, async () => (await ask(url, TOKEN))[1] === UNAVAILABLE[1]);
        [kv.fails, kv.value] = [undefined, OTHER];
        assert.deepEqual([await ask(url, OTHER), await ask(url, TOKEN)], [SERVED, REFUSED]);
      }));
  }

  test("an entry that is deleted from the list is not accepted, and the others are", () =>
    withFakeKv({}, async ({ kv, url }) => {
      const list = (...tokens) => JSON.stringify({ tokens: tokens.map((token) => ({ sha256: sha256(token) })) });
      kv.value = list(TOKEN, OTHER);
      assert.deepEqual([await ask(url, TOKEN), await ask(url, OTHER)], [SERVED, SERVED]);
      kv.value = list(TOKEN);
      await looksAgain(kv, url, "the list is read again");
      await until("it is revoked", 5000, async () => (await ask(url, OTHER))[0] === 401);
      assert.deepEqual(await ask(url, TOKEN), SERVED);
    }));

  test("an unusable value is an error for an isolate that starts", () =>
    withFakeKv({}, async ({ kv, url, log }) => {
      kv.value = '{"tokens":[{';
      assert.deepEqual([await ask(url, TOKEN), (await ask(url))[0]], [[500, "Authentication is misconfigured"], 401]);
      assert.match(log(), /holds something unusable/);
    }));
});

describe("edge: generating a token", () => {
  const COUNT = 5;
  const isolates = { count: COUNT, settings: DEVELOPMENT, hasArbiter: true };

  test("isolates that race settle on one, which is shown once and kept", () =>
    withFakeKv(isolates, async ({ kv, urls, log, shown }) => {
      kv.value = undefined;
      // All of them have looked before the first one hears that there is none.
      let go;
      const all = new Promise((resolve) => (go = resolve));
      kv.isShown = () => (kv.reads === 50 && go(), all);
      const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => ask(urls[index % COUNT], "a-guess")));
      assert.deepEqual(answers, Array(50).fill(REFUSED), log());
      assert.equal(kv.written.length, 1);
      const [token] = kv.written;
      assert.match(token, /^[A-Za-z0-9_-]{43}$/);
      // What each of them has settled on, while KV still tells that there is none.
      for (const url of urls) assert.deepEqual(await ask(url, token), SERVED);
      await until("it is shown", 5000, async () => shown().length > 0);
      assert.deepEqual(shown(), [token]);
    }));

  test("a token that KV does not take is nobody's", () =>
    withFakeKv(isolates, async ({ kv, urls, shown }) => {
      kv.value = undefined;
      kv.failsToWrite = true;
      for (const url of urls) assert.deepEqual(await ask(url, "a-guess"), UNAVAILABLE);
      kv.failsToWrite = false;
      for (const url of urls) assert.deepEqual(await ask(url, "a-guess"), REFUSED);
      assert.equal(kv.written.length, COUNT + 1);
      const token = kv.written.at(-1);
      for (const url of urls) assert.deepEqual(await ask(url, token), SERVED);
      await until("it is shown", 5000, async () => shown().length > 0);
      assert.deepEqual(shown(), [token]);
    }));

  test("the arbiter is not asked where KV has one", () =>
    withIsolates(isolates, async ({ urls, kv, shown }) => {
      await (await kv()).put("worker_auth_token", TOKEN);
      for (const url of urls) assert.deepEqual([await ask(url, TOKEN), await ask(url, OTHER)], [SERVED, REFUSED]);
      assert.deepEqual([await (await kv()).get("worker_auth_token"), shown()], [TOKEN, []]);
    }));

  test("a token that was just deleted is the same again: KV may not have told of it yet", () =>
    withIsolates(isolates, async ({ urls, kv }) => {
      await ask(urls[0], "a-guess");
      const token = await (await kv()).get("worker_auth_token");
      await (await kv()).delete("worker_auth_token");
      assert.deepEqual(await ask(urls[1], token), SERVED);
    }));

  test("without an arbiter nothing is generated on Cloudflare's network, where isolates would not agree", () =>
    withIsolates({ settings: DEVELOPMENT }, async ({ url, kv, log, shown }) => {
      assert.deepEqual(await ask(url, "a-guess", { "CF-Ray": "230b030023ae2822-SJC" }), NOT_CONFIGURED);
      assert.equal(await (await kv()).get("worker_auth_token"), null);
      await until("the log says why", 5000, async () => /without the Durable Object AUTH_ARBITER/.test(log()));
      assert.deepEqual(shown(), []);
    }));

  test("nor is it beside an emptied list, in development neither", () =>
    withIsolates({ settings: DEVELOPMENT, hasArbiter: true }, async ({ url, kv, shown }) => {
      await (await kv()).put("worker_auth_token", '{"tokens":[]}');
      assert.deepEqual(await ask(url, "a-guess"), NOT_CONFIGURED);
      assert.deepEqual([await (await kv()).get("worker_auth_token"), shown()], ['{"tokens":[]}', []]);
    }));

  test("nor is it in production, with an arbiter or without", async () => {
    for (const hasArbiter of [true, false]) {
      await withIsolates({ hasArbiter, settings: { ...STATIC, ENV: "production" } }, async ({ url, kv }) => {
        assert.deepEqual(await ask(url, "a-guess"), NOT_CONFIGURED);
        assert.equal(await (await kv()).get("worker_auth_token"), null);
      });
    }
  });
});
