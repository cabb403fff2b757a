// How the page looks: on a desk and on a phone, in light and in dark.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import test from "node:test";

import { open, skip, verdictIs } from "./support/chromium.mjs";
import { ENDS, button } from "./support/ends.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

for (const colorScheme of ["light", "dark"]) {
  for (const [device, viewport] of Object.entries({ phone: { width: 390, height: 844 }, desk: { width: 1280, height: 900 } })) {
    test(`${colorScheme}, on a ${device}: nothing overflows, and axe finds nothing`, { skip }, async (t) => {
      const { page } = await open(t, { viewport, colorScheme, scripts: [AXE] });
      const backgrounds = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
      assert.equal(backgrounds.every((part) => part < 128), colorScheme === "dark");
      await page.getByText("Connection, body and clock").click();
      for (const name of [...Object.keys(ENDS), "an error", "missing keys", "many readings", "no request"]) {
        if (name in ENDS) await button(page, name).click();
        else await SPECIAL[name](page);
        await verdictIs(page, ENDS[name]?.[0] ?? /./);
        const [wide, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.ok(wide <= shown, `${name}: ${wide} > ${shown}`);
        const found = await page.evaluate(async () => {
          // Colours in passing have no contrast.
          await Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => {})));
          return (await globalThis.axe.run({ resultTypes: ["violations"] })).violations;
        });
        assert.deepEqual(found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`), [], name);
      }
    });
  }
}

const SPECIAL = {
  "an error": async (page) => {
    await button(page, "Static token").click();
    await page.getByLabel("UPSTREAM_URL", { exact: true }).fill("nowhere");
    await verdictIs(page, /^Misconfigured/);
  },
  "missing keys": async (page) => {
    await button(page, "Supabase user").click();
    await button(page, "Remove SUPABASE_JWKS").click();
    await verdictIs(page, "Refused keys_unavailable, since nothing is fetched here");
  },
  "many readings": async (page) => {
    await button(page, "Static token").click();
    await page.getByLabel("Path and query, as sent").fill(`/%252e;x//a/..%2f%61dmin/${"x".repeat(200)}`);
    await page.getByText("further readings").click();
  },
  "no request": async (page) => {
    await page.getByLabel("Headers, one a line").fill("nonsense");
    await verdictIs(page, /^No request yet/);
  },
};

test("nothing moves while it loads", { skip }, async (t) => {
  for (const viewport of [{ width: 390, height: 844 }, { width: 1280, height: 900 }]) {
    const { page } = await open(t, { viewport });
    const shifted = await page.evaluate(() => new Promise((resolve) => {
      let sum = 0;
      new PerformanceObserver((list) => {
        for (const { value, hadRecentInput } of list.getEntries()) sum += hadRecentInput ? 0 : value;
      }).observe({ type: "layout-shift", buffered: true });
      requestAnimationFrame(() => setTimeout(() => resolve(sum), 0));
    }));
    // What Web Vitals call good.
    assert.ok(shifted < 0.1, `${viewport.width}: ${shifted}`);
    t.diagnostic(`${viewport.width} px: ${shifted.toFixed(4)}`);
  }
});
