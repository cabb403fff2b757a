// The page as people use it: by clicking, by typing, by keyboard alone.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { EXAMPLES } from "../../playground/examples.js";
import { open, skip, verdictIs } from "./support/chromium.mjs";
import { ENDS, button, seen, step } from "./support/ends.mjs";

test("every example ends as it says", { skip }, async (t) => {
  const { page, troubles } = await open(t);
  assert.deepEqual(EXAMPLES.map(({ name }) => name), Object.keys(ENDS));
  for (const [name, [verdict, kind, drawing]] of Object.entries(ENDS)) {
    await button(page, name).click();
    await verdictIs(page, verdict);
    assert.equal(await button(page, name).getAttribute("aria-pressed"), "true");
    assert.match(await seen(step(page, kind)), drawing, name);
  }
  assert.deepEqual(troubles, []);
});

test("a token is verified for real: with another key of the same name it is not", { skip }, async (t) => {
  const { page } = await open(t);
  await button(page, "Supabase user").click();
  await verdictIs(page, /^Passes/);
  assert.deepEqual(await page.locator(".step > h3").allInnerTexts().then((all) => all.map((text) => text.replace(/\s+/g, " ").trim())), ["· Noted: Path", "· Noted: Rule", "· Noted: Credential", "✓ Yes: Token header", "✓ Yes: Claims", "✓ Yes: Key", "✓ Yes: Signature", "✓ Yes: What the upstream sees"]);
  const jwks = page.getByLabel("SUPABASE_JWKS", { exact: true });
  const own = await jwks.inputValue();
  const other = await page.evaluate(async (kid) => {
    const { publicKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", publicKey);
    return JSON.stringify({ keys: [{ kty, crv, x, y, kid, alg: "ES256" }] });
  }, JSON.parse(own).keys[0].kid);
  await jwks.fill(other);
  await verdictIs(page, "Refused bad_signature");
  await jwks.fill(own.replace("made-in-this-page", "another"));
  await verdictIs(page, "Refused unknown_key");
  await jwks.fill(own);
  await verdictIs(page, /^Passes/);
});

test("what is typed is judged as it stands", { skip }, async (t) => {
  const { page } = await open(t);
  const target = page.getByLabel("Path and query, as sent");
  for (const [typed, verdict] of [
    ["/health", "Passes, as nobody to 127.0.0.1:9000"],
    ["/health/.", "Passes as 1 to 127.0.0.1:9000"],
    ["/%00", "Refused malformed_request"],
    ["/a\\b", "Refused malformed_request"],
    ["/x/../terminal", "Refused terminal_not_served"],
    ["/.auth/whoami", "Passes as 1 the gateway answers by itself"],
  ]) {
    await target.fill(typed);
    await verdictIs(page, verdict);
  }
  await target.fill("/a b?c=/../d");
  await verdictIs(page, /^Passes/);
  assert.match(await seen(step(page, "forward")), /GET \/a b\?c=\/\.\.\/d HTTP\/1\.1/);
  // Headers that no page may set by `fetch`.
  await page.getByLabel("Headers, one a line").fill("Host: a.test\nHost: b.test");
  await verdictIs(page, "Refused malformed_request");
  await page.getByLabel("Headers, one a line").fill("Host: a.test\nCookie: a=1\nSec-Fetch-Site: cross-site\nConnection: x-a\nX-A: 1");
  await target.fill("/ping");
  await verdictIs(page, /^Passes, as nobody/);
  assert.match(await seen(step(page, "forward")), /kept\s+Cookie\s+a=1[^]*dropped\s+X-A/);
});

test("the clock and the connection", { skip }, async (t) => {
  const { page } = await open(t);
  await button(page, "Supabase user").click();
  await verdictIs(page, /^Passes/);
  await page.getByText("Connection, body and clock").click();
  const clock = page.getByLabel("Time (UTC)");
  for (const [typed, verdict] of [
    ["2001-09-09 01:46:40", "Refused unacceptable_claims"],
    ["99999999999", "Refused expired_token"],
    ["soon", /^No request yet/],
    ["", /^Passes/],
  ]) {
    await clock.fill(typed);
    await verdictIs(page, verdict);
  }
  await page.getByLabel("Client’s address").fill("198.51.100.9");
  await page.getByLabel("Scheme").selectOption("http");
  await page.locator(`[data-step="forward"] tr`, { hasText: "198.51.100.9" }).waitFor();
  assert.match(await seen(step(page, "forward")), /x-forwarded-for\s+198\.51\.100\.9\s[^]*x-forwarded-proto\s+http\s/);
  await page.getByLabel("A body follows").check();
  await verdictIs(page, "Refused malformed_request");
});

test("what is wrong is told beside its field", { skip }, async (t) => {
  const { page } = await open(t);
  const helpOf = async (field) => seen(page.locator(`#${(await field.getAttribute("aria-describedby")).split(" ")[0]}`));
  const expectWrong = async (field, verdict, problem) => {
    await verdictIs(page, verdict);
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    assert.match(await helpOf(field), problem);
  };
  const headers = page.getByLabel("Headers, one a line");
  await headers.fill("Host: a.test\nnonsense");
  await expectWrong(headers, /^No request yet/, /Line 2/);
  await headers.fill("Host: a.test");
  await verdictIs(page, "Refused no_credential");
  assert.equal(await headers.getAttribute("aria-invalid"), null);
  const method = page.getByLabel("Method");
  await method.fill("G T");
  await expectWrong(method, /^No request yet/, /word/);
  await method.fill("GET");
  const upstream = page.getByLabel("UPSTREAM_URL", { exact: true });
  await upstream.fill("nowhere");
  await expectWrong(upstream, /^Misconfigured/, /http/);
  await upstream.fill("");
  await verdictIs(page, "Refused no_credential");
  assert.match(await helpOf(upstream), /^The API being fronted/);
});

test("a setting that is missing can be added from where that is told", { skip }, async (t) => {
  const { page } = await open(t);
  await page.getByLabel("AUTH_PROVIDER", { exact: true }).selectOption("supabase");
  await verdictIs(page, /^Misconfigured/);
  await button(page, "Add SUPABASE_URL").click();
  assert.equal(await page.evaluate(() => document.activeElement.id), "setting-SUPABASE_URL");
  await page.keyboard.type("https://abc.supabase.co");
  await button(page, "Add SUPABASE_KEY").click();
  await page.keyboard.type("sb_publishable_x");
  await verdictIs(page, /^Passes as 1/);
});

test("every setting is offered, with its help; those of the native host only there", { skip }, async (t) => {
  const { page } = await open(t);
  const table = await page.evaluate(async () => (await import("./gate/gate.js")).settings());
  assert.ok(table.length > 40);
  const offered = () => page.locator("#add option").allInnerTexts();
  const shown = await page.locator("#rows label").allInnerTexts();
  assert.deepEqual([...(await offered()), ...shown].sort(), table.map(({ name }) => name).sort());
  await page.getByLabel("Edge").check();
  assert.deepEqual([...(await offered()), ...shown].sort(), table.filter(({ isNative }) => !isNative).map(({ name }) => name).sort());
  for (const { name, help } of table.filter(({ isNative }) => !isNative).slice(0, 12)) {
    if (shown.includes(name)) continue;
    await page.getByLabel("Another setting").selectOption(name);
    assert.equal(await page.locator("#add-help").innerText(), help);
  }
});

test("the host decides the defaults", { skip }, async (t) => {
  const { page } = await open(t);
  for (const name of ["AUTH_PROVIDER", "WORKER_AUTH_TOKEN"]) await button(page, `Remove ${name}`).click();
  await page.getByLabel("Headers, one a line").fill("Host: 127.0.0.1:8000");
  await page.getByText("Connection, body and clock").click();
  await page.getByLabel("Client’s address").fill("127.0.0.1");
  await verdictIs(page, /^Passes as 1/);
  await page.getByLabel("Edge").check();
  await verdictIs(page, "Refused no_token_configured");
  await page.getByLabel("worker_auth_token in KV").fill("a-token-in-kv-0123456789");
  await verdictIs(page, "Refused no_credential");
  await page.getByLabel("Headers, one a line").fill("Host: a.test\nAuthorization: Bearer a-token-in-kv-0123456789");
  await verdictIs(page, /^Passes as 1/);
  await page.getByLabel("Embedded").check();
  await verdictIs(page, /^Misconfigured/);
});

test("a pasted curl command is the request, or what is not understood is named", { skip }, async (t) => {
  const { page } = await open(t);
  const curl = page.getByLabel("Paste a curl command");
  const help = page.locator("#curl-help");
  const token = await page.getByLabel("WORKER_AUTH_TOKEN", { exact: true }).inputValue();
  await curl.fill(`curl --path-as-is -X PUT 'https://api.test/health/../admin' \\\n  -H 'Authorization: Bearer ${token}' -d x`);
  await verdictIs(page, /^Passes as 1/);
  assert.match(await seen(step(page, "forward")), /PUT \/health\/\.\.\/admin HTTP/);
  assert.match(await seen(step(page, "path")), /restricts: \/admin/);
  assert.match(await help.innerText(), /^Understood/);
  await curl.fill("curl -H 'Authorization: Bearer wrong' https://api.test/x | jq .");
  await verdictIs(page, "Refused invalid_token");
  assert.match(await help.innerText(), /left out: \| jq \./);
  await curl.fill("curl --frobnicate https://api.test/y");
  await help.filter({ hasText: "Not understood: the option --frobnicate" }).waitFor();
  assert.equal(await curl.getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByLabel("Path and query, as sent").inputValue(), "/x", "what was understood before stays");
  await curl.fill("");
  assert.equal(await curl.getAttribute("aria-invalid"), null);
});

test("where keys would be fetched, it says how, and fetches nothing", { skip }, async (t) => {
  const { page, origin, requests } = await open(t, { permissions: ["clipboard-read", "clipboard-write"] });
  await button(page, "Supabase user").click();
  await button(page, "Remove SUPABASE_JWKS").click();
  await verdictIs(page, "Refused keys_unavailable, since nothing is fetched here");
  await button(page, "Copy").click();
  await page.getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "curl -s 'https://example.supabase.co/auth/v1/.well-known/jwks.json'");
  assert.deepEqual(requests.filter((url) => !url.startsWith(origin)), []);
});

test("nothing leaves the page, even if something in it tried to, and nothing is kept", { skip }, async (t) => {
  const { page, context, origin, requests } = await open(t);
  const policy = await page.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute("content");
  assert.equal(policy, "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'");
  await button(page, "Supabase user").click();
  await page.getByLabel("Path and query, as sent").fill("/typed-by-hand");
  await verdictIs(page, /^Passes/);
  // All of it came from here, and before anything was typed.
  assert.deepEqual(requests.filter((url) => !url.startsWith(`${origin}/`) && !url.startsWith("data:")), []);
  assert.ok(!requests.some((url) => url.includes("typed-by-hand") || url.includes("?")));

  let hits = 0;
  const outside = createServer((_, response) => {
    hits += 1;
    response.writeHead(200, { "access-control-allow-origin": "*" }).end();
  });
  await new Promise((resolve) => outside.listen(0, "127.0.0.1", resolve));
  t.after(() => outside.close());
  const tries = await page.evaluate(async ([own, other]) => {
    const outcome = (promise) => Promise.resolve(promise).then(() => "sent", () => "refused");
    const loaded = (node, url) => new Promise((resolve, reject) => {
      Object.assign(node, { onload: resolve, onerror: reject, src: url });
      document.body.append(node);
    });
    const told = [];
    for (const url of [own, other]) {
      told.push(await outcome(fetch(url)));
      told.push(await outcome(loaded(new Image(), `${url}/x.png`)));
      told.push(await outcome(new Promise((resolve, reject) => Object.assign(new WebSocket(url.replace("http", "ws")), { onopen: resolve, onerror: reject }))));
      told.push(await outcome(new Promise((resolve, reject) => Object.assign(new EventSource(url), { onopen: resolve, onerror: reject }))));
      navigator.sendBeacon(url, "x");
    }
    told.push(await outcome(import(`${other}/x.js`)));
    told.push(await outcome((async () => (document.body.innerHTML += "<b>x</b>"))()));
    return told;
  }, [origin, `http://127.0.0.1:${outside.address().port}`]);
  assert.deepEqual(new Set(tries), new Set(["refused"]));
  assert.equal(hits, 0);
  assert.equal(page.url(), `${origin}/`);
  const kept = await page.evaluate(async () => [localStorage.length, sessionStorage.length, document.cookie, (await indexedDB.databases()).length, (await caches.keys()).length]);
  assert.deepEqual(kept, [0, 0, "", 0, 0]);
  assert.deepEqual(await context.cookies(), []);
});

test("by keyboard alone", { skip }, async (t) => {
  const { page } = await open(t);
  const focused = () => page.evaluate(() => {
    const { activeElement: at } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(at);
    return { id: at.id, name: at.getAttribute("name"), text: at.textContent.trim(), label: at.getAttribute("aria-label"), isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, isBody: at === document.body };
  });
  /** Goes on until it is there, and sees at each stop where it is. */
  async function tabTo(isThere, key = "Tab") {
    for (let stops = 0; stops < 80; stops += 1) {
      await page.keyboard.press(key);
      const at = await focused();
      assert.ok(at.isSeen, `the focus is not seen: ${JSON.stringify(at)}`);
      if (isThere(at)) return at;
    }
    assert.fail("it is never reached");
  }
  await tabTo(({ text }) => text === "To the decision");
  await tabTo(({ text }) => text === "Path trick");
  await page.keyboard.press("Enter");
  await verdictIs(page, "Refused no_admin_token");
  await tabTo(({ id }) => id === "add");
  await page.keyboard.type("CORS");
  await tabTo(({ id }) => id === "add-button");
  await page.keyboard.press("Enter");
  assert.equal((await focused()).id, "setting-CORS_ORIGINS");
  await page.keyboard.type("https://a.test/");
  await verdictIs(page, /^Misconfigured/);
  await tabTo(({ label }) => label === "Remove CORS_ORIGINS", "Shift+Tab");
  await page.keyboard.press("Enter");
  await verdictIs(page, "Refused no_admin_token");
  assert.ok(!(await focused()).isBody, "the focus is lost");
  await tabTo(({ id }) => id === "headers");
  await page.keyboard.press("Control+End");
  await page.keyboard.press("Enter");
  await page.keyboard.type("X-Admin-Token: an-example-of-an-admin-token-7Zp2");
  await verdictIs(page, /^Passes as 1/);
  // The hosts, by the arrow keys.
  await tabTo(({ name }) => name === "host", "Shift+Tab");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("input[name=host]:checked").inputValue(), "edge");
  await verdictIs(page, /^Passes as 1/);
});
