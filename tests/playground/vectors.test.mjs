// Every vector, judged by the page's WebAssembly in Chromium.
import assert from "node:assert/strict";
import test from "node:test";

import { open, skip } from "./support/chromium.mjs";
import { check, runs } from "./support/vectors.mjs";

test("every vector comes to the same end in Chromium", { skip }, async (t) => {
  const { page, troubles } = await open(t);
  const all = runs();
  const explained = await page.evaluate(async (asked) => {
    const { explain } = await import("./gate/gate.js");
    const told = [];
    for (const { settings, request } of asked) told.push(await explain(settings, request));
    return told;
  }, all.map(({ settings, request }) => ({ settings, request })));
  assert.equal(explained.length, all.length);
  assert.ok(all.length > 2000, `only ${all.length} runs: vectors are missing`);
  const failures = [];
  all.forEach((run, index) => {
    try {
      check(run, explained[index]);
    } catch (error) {
      failures.push(`${run.name}: ${error.message}`);
    }
  });
  assert.deepEqual(failures, []);
  assert.deepEqual(troubles, []);
  t.diagnostic(`${all.length} runs`);
});

test("a request that is not described as it should be is refused, and told why", { skip }, async (t) => {
  const { page } = await open(t);
  const problems = await page.evaluate(async () => {
    const { explain } = await import("./gate/gate.js");
    const told = [];
    const request = { method: "GET", target: "/" };
    for (const wrong of [{}, { ...request, target: 1 }, { ...request, host: "moon" }, { ...request, headers: [["a"]] }, { ...request, now: -1 }, { ...request, hedders: [] }, { ...request, target: "/\ud800" }]) {
      try {
        await explain({}, wrong);
        told.push("taken");
      } catch (error) {
        told.push(error.message);
      }
    }
    return told;
  });
  const expected = ["method", "string", "moon", "1", "-1", "hedders", "escape"];
  problems.forEach((problem, index) => assert.match(problem, new RegExp(`^the request: .*${expected[index]}`)));
});
