// A real Chromium with the playground open in it. Without one the tests are skipped, and say so.
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { serve } from "../../../tools/playground.mjs";
import { findChromium, withoutChromium } from "./find.mjs";

const BUILT = fileURLToPath(new URL("../../../build/playground", import.meta.url));

const executablePath = findChromium();

export const skip = withoutChromium;

/** One server and one browser for all the tests of a file; each has a profile of its own. */
let shared;

async function launch() {
  const server = await serve(BUILT, 0);
  // Chromium's sandbox does not take root for its user.
  const browser = await chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
  return { browser, server, origin: `http://127.0.0.1:${server.address().port}` };
}

after(async () => {
  const { browser, server } = (await shared) ?? {};
  await browser?.close();
  server?.close();
});

/**
 * The page, served and open. All that it asks for is in `requests`, and all that goes wrong in it in `troubles`.
 * @param {import("node:test").TestContext} t which closes it again
 * @param {import("playwright-core").BrowserContextOptions & { scripts?: string[] }} [options]
 */
export async function open(t, { scripts = [], ...options } = {}) {
  shared ??= launch();
  const { browser, origin } = await shared;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  t.after(() => context.close());
  for (const content of scripts) await context.addInitScript({ content });
  const page = await context.newPage();
  const [requests, troubles] = [[], []];
  context.on("request", (request) => requests.push(request.url()));
  page.on("websocket", (socket) => requests.push(socket.url()));
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && troubles.push(message.text()));
  await page.goto(origin);
  await page.waitForSelector("html[data-ready]");
  return { page, context, origin, requests, troubles };
}

/** What stands there as soon as it does, or what does instead. */
export async function verdictIs(page, expected) {
  const matches = expected instanceof RegExp ? (text) => expected.test(text) : (text) => text === expected;
  const verdict = page.locator("#decision:not([aria-busy]) #verdict > span:last-child");
  for (let left = 100; ; left -= 1) {
    const text = await verdict.innerText();
    if (matches(text)) return;
    if (left === 0) throw new Error(`The verdict is “${text}”, not ${expected}.`);
    await page.waitForTimeout(20);
  }
}
