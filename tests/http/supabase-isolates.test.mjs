// A cold isolate at the edge: it finds the keys where another one left them, and believes nothing that it should not.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import path from "node:path";
import { describe, test as nodeTest } from "node:test";

import { until } from "./support/gateway.mjs";
import { TOKEN, startHost, temporaryFolder } from "./support/hosts.mjs";
import { KEYS, SECRET, claimsOf, makeKey, userToken } from "./support/jwt.mjs";
import { API_KEY, startSupabase } from "./support/supabase.mjs";
import { service } from "./support/workers.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const { ES256 } = KEYS;
const EVIL = makeKey("ES256");

const jwksUrl = (supabase) => `${supabase.url}/auth/v1/.well-known/jwks.json`;
const kvName = (supabase) => `jwks:${jwksUrl(supabase)}`;
const cacheUrl = (supabase) => `https://nodetool-edge-auth.invalid/${encodeURIComponent(jwksUrl(supabase))}`;
const setOf = (...keys) => JSON.stringify({ keys: keys.map(({ jwk }) => jwk) });
/** What an isolate leaves for others: when it was fetched, its `max-age`, and the key set. */
const record = ({ age = 0, maxAge = 600, document = setOf(EVIL) } = {}) => `${Date.now() - age}\n${maxAge}\n${document}`;

/** Runs `body` with a Supabase that knows one key, and says no to whatever it is asked about. */
async function withSupabase(body) {
  const supabase = await startSupabase({ keys: [ES256], secret: SECRET });
  supabase.user.mode = "bad_jwt";
  try {
    await body(supabase);
  } finally {
    await supabase.stop();
  }
}

/** Runs `body` with a fresh isolate, after `seed` has put into KV and the cache what it likes. */
async function withIsolate(supabase, { seed, ...options }, body) {
  const settings = { AUTH_PROVIDER: "supabase", SUPABASE_URL: supabase.url, SUPABASE_KEY: API_KEY, WORKER_AUTH_TOKEN: TOKEN };
  const host = await startHost("edge", { settings, ...options });
  try {
    await seed?.(host);
    const status = async (key) => {
      const authorization = `Bearer ${await userToken(key, claimsOf(supabase))}`;
      const response = await fetch(`${host.url}/.auth/whoami`, { headers: { authorization } });
      await response.text();
      return response.status;
    };
    await body({ host, status });
  } finally {
    await host.stop();
  }
}

/** The keys go into the cache first, after the answer. */
const kept = (supabase, host) => until("the keys are kept", 10_000, async () => (await (await host.kv()).get(kvName(supabase))) !== null);

describe("edge: a second isolate", () => {
  for (const [title, forgotten, fetches] of [
    ["finds the keys in KV", ["cache"], 1],
    ["finds the keys in the cache", ["kv"], 1],
    ["that finds neither asks the project", ["cache", "kv"], 2],
  ]) {
    test(title, async () => {
      const folder = temporaryFolder();
      try {
        await withSupabase(async (supabase) => {
          await withIsolate(supabase, { persist: folder }, async ({ host, status }) => {
            assert.equal(await status(ES256), 200);
            await kept(supabase, host);
          });
          // Each has a folder of its own.
          for (const what of forgotten) rmSync(path.join(folder, what), { recursive: true });
          await withIsolate(supabase, { persist: folder }, async ({ status }) => {
            assert.equal(await status(ES256), 200);
            assert.equal(await status(ES256), 200);
            assert.equal(supabase.jwks.calls, fetches);
            // A key that is not among them is looked for at the project, and nowhere else.
            const next = makeKey("ES256");
            supabase.add(next);
            assert.equal(await status(next), 200);
            assert.equal(supabase.jwks.calls, fetches + 1);
          });
        });
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }

  test("finds keys that are new", async () => {
    await withSupabase(async (supabase) => {
      await withIsolate(supabase, {}, async ({ host, status }) => {
        assert.equal(await status(ES256), 200);
        await kept(supabase, host);
        const next = makeKey("ES256");
        supabase.add(next);
        assert.equal(await status(next), 200);
        await until("the new key is kept", 10_000, async () => (await (await host.kv()).get(kvName(supabase))).includes(next.jwk.kid));
      });
    });
  });

  test("is not left the same keys again for every kid that there is not", async () => {
    await withSupabase(async (supabase) => {
      await withIsolate(supabase, {}, async ({ host, status }) => {
        const kv = await host.kv();
        assert.equal(await status(ES256), 200);
        await kept(supabase, host);
        await kv.put(kvName(supabase), "as it was");
        assert.equal(await status(EVIL), 401);
        assert.equal(supabase.jwks.calls, 2);
        // It would be written after the answer, within milliseconds.
        for (const end = Date.now() + 300; Date.now() < end; ) assert.equal(await kv.get(kvName(supabase)), "as it was");
      });
    });
  });

  test("does without the project while it is down", async () => {
    const folder = temporaryFolder();
    try {
      await withSupabase(async (supabase) => {
        await withIsolate(supabase, { persist: folder }, async ({ host, status }) => {
          assert.equal(await status(ES256), 200);
          await kept(supabase, host);
        });
        rmSync(path.join(folder, "cache"), { recursive: true });
        await supabase.down();
        await withIsolate(supabase, { persist: folder }, async ({ status }) => {
          assert.equal(await status(ES256), 200);
          assert.equal(await status(EVIL), 503);
        });
      });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

const HOUR = 3_600_000;
const unbelievable = {
  "nothing in it": () => "",
  "no lines": () => "garbage",
  "lines of nothing": () => "\n\n\n",
  "a time that is none": () => `soon\n600\n${setOf(EVIL)}`,
  "a time before all times": () => `-1\n600\n${setOf(EVIL)}`,
  "the last of all times": () => `18446744073709551615\n600\n${setOf(EVIL)}`,
  "from a few seconds ahead": () => record({ age: -10_000 }),
  "from the future": () => record({ age: -HOUR }),
  "from the far future": () => record({ age: -10_000 * HOUR }),
  "older than ten minutes": () => record({ age: 600_001, maxAge: 86_400 }),
  "older than its max-age": () => record({ age: 60_001, maxAge: 60 }),
  "older than half a minute, and not to be kept": () => record({ age: 30_001, maxAge: 0 }),
  "no key set": () => record({ document: '{"keys":{}}' }),
  "half a key set": () => record({ document: setOf(EVIL).slice(0, -1) }),
  "more than there ever is": () => record({ document: setOf(EVIL) + " ".repeat(64 * 1024) }),
};

/** Where records are found, and how to put one there. */
const places = {
  KV: async (host, supabase, value) => (await host.kv()).put(kvName(supabase), value),
  "the cache": async (host, supabase, value) => {
    const { default: cache } = await host.caches();
    await cache.put(cacheUrl(supabase), new Response(value, { headers: { "cache-control": "max-age=600" } }));
  },
};

for (const [place, put] of Object.entries(places)) {
  describe(`edge: a record in ${place}`, () => {
    // So the others are not believed for what is wrong with them.
    test("that is in order is believed", async () => {
      await withSupabase(async (supabase) => {
        await withIsolate(supabase, { seed: (host) => put(host, supabase, record({ age: 20_000 })) }, async ({ status }) => {
          assert.equal(await status(EVIL), 200);
          assert.equal(supabase.jwks.calls, 0);
        });
      });
    });

    for (const [title, make] of Object.entries(unbelievable)) {
      test(`is not believed: ${title}`, async () => {
        await withSupabase(async (supabase) => {
          await withIsolate(supabase, { seed: (host) => put(host, supabase, make()) }, async ({ status }) => {
            assert.equal(await status(ES256), 200);
            assert.equal(supabase.jwks.calls, 1);
            assert.equal(await status(EVIL), 401);
          });
        });
      });
    }

    test("of another project is not found", async () => {
      await withSupabase(async (supabase) => {
        const others = ["https://other.supabase.co", `${supabase.url}.example`, supabase.url.slice(0, -1), supabase.url.replace("127.0.0.1", "localhost")];
        const seed = (host) => Promise.all(others.map((url) => put(host, { url }, record())));
        await withIsolate(supabase, { seed }, async ({ status }) => {
          assert.equal(await status(EVIL), 401);
          assert.equal(await status(ES256), 200);
          assert.ok(supabase.jwks.calls >= 1);
        });
      });
    });
  });
}

describe("edge: a cold isolate in an outage", () => {
  const known = (host, supabase, age) => places.KV(host, supabase, record({ age, document: setOf(ES256) }));
  test("goes on for an hour with what others knew, and says so", async () => {
    await withSupabase(async (supabase) => {
      supabase.jwks.mode = "500";
      await withIsolate(supabase, { seed: (host) => known(host, supabase, HOUR + 500_000) }, async ({ host, status }) => {
        for (let time = 1; time <= 3; time += 1) assert.equal(await status(ES256), 200);
        assert.equal(await status(EVIL), 503);
        assert.equal(supabase.jwks.calls, 1, "one try, and none within its cooldown");
        assert.match(host.log(), /keys past their age/);
      });
    });
  });

  test("and no longer", async () => {
    await withSupabase(async (supabase) => {
      supabase.jwks.mode = "500";
      await withIsolate(supabase, { seed: (host) => known(host, supabase, HOUR + 600_001) }, async ({ status }) => {
        assert.equal(await status(ES256), 503);
      });
    });
  });
});

describe("edge: KV", () => {
  for (const [title, AUTH_KV] of [
    // A service has methods of any name, and all of them fail.
    ["that fails at every call", service(() => new Response("no"))],
    ["that is not there", undefined],
  ]) {
    test(`${title} refuses nobody`, async () => {
      await withSupabase(async (supabase) => {
        await withIsolate(supabase, { env: { AUTH_KV } }, async ({ host, status }) => {
          assert.equal(await status(ES256), 200);
          assert.equal(await status(EVIL), 401);
          assert.equal(await status(ES256), 200);
          assert.ok(!/uncaught|panicked|failed and refused/i.test(host.log()), host.log());
        });
      });
    });
  }
});
