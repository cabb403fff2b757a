// The Durable Object that settles which generated token is the one, over more time than a test can wait for.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { GATEWAY } from "./support/hosts.mjs";
import { modulesOf, namespace, startWorkers, worker } from "./support/workers.mjs";

/** The arbiter of the build, and a hand that moves its memory through time. */
const ENTRY = `
import { TokenArbiter } from "./arbiter.js";

export class Arbiter extends TokenArbiter {
  async age(milliseconds) {
    const settled = await this.ctx.storage.get("settled");
    await this.ctx.storage.put("settled", { ...settled, at: settled.at - milliseconds });
  }
}

export default {
  async fetch(request, env) {
    const { name, method, argument } = await request.json();
    const arbiter = env.ARBITER.getByName(name);
    return Response.json((await (method === "age" ? arbiter.age(argument) : arbiter.settle(name, argument))) ?? null);
  },
};
`;

const MINUTE = 60_000;

describe("edge: the arbiter of generated tokens", () => {
  let miniflare, kv;
  before(async () => {
    ({ miniflare } = startWorkers([
      worker({
        name: "test",
        manifest: modulesOf({ "entry.js": ENTRY, "arbiter.js": GATEWAY.modules["arbiter.js"].contents }),
        env: { AUTH_KV: namespace(), ARBITER: { type: "durable-object", worker: "test", exportName: "Arbiter" } },
        exports: { Arbiter: { type: "durable-object", storage: "sqlite" } },
      }),
    ]));
    kv = await miniflare.getKVNamespace("AUTH_KV");
  });
  after(() => miniflare?.dispose());

  const call = async (name, method, argument) => {
    const response = await miniflare.dispatchFetch("http://test/", { method: "POST", body: JSON.stringify({ name, method, argument }) });
    return response.json();
  };
  const settle = (name, candidate) => call(name, "settle", candidate);
  const age = (name, milliseconds) => call(name, "age", milliseconds);

  test("of many at once the first is the one, and in KV", async () => {
    const candidates = Array.from({ length: 50 }, (_, index) => `candidate-${index}`);
    const settled = await Promise.all(candidates.map((candidate) => settle("many", candidate)));
    assert.equal(new Set(settled).size, 1);
    assert.ok(candidates.includes(settled[0]));
    assert.equal(await kv.get("many"), settled[0]);
  });

  test("for five minutes no other one is, whatever KV shows", async () => {
    assert.equal(await settle("kept", "first"), "first");
    await kv.delete("kept");
    await age("kept", 5 * MINUTE - 10_000);
    assert.equal(await settle("kept", "second"), "first");
    assert.equal(await kv.get("kept"), null, "which may still come, and is not written twice");
  });

  test("after that it has been deleted, and the next one is new", async () => {
    assert.equal(await settle("deleted", "first"), "first");
    await kv.delete("deleted");
    await age("deleted", 5 * MINUTE);
    assert.equal(await settle("deleted", "second"), "second");
    assert.equal(await kv.get("deleted"), "second");
    assert.equal(await settle("deleted", "third"), "second");
  });

  test("a clock that was set back does not keep it for longer", async () => {
    assert.equal(await settle("clock", "first"), "first");
    await age("clock", -60 * MINUTE);
    assert.equal(await settle("clock", "second"), "second");
  });
});
