// The same vectors, and the same users' tokens, on every runtime. What a runtime cannot say in a `Request` is left out by the rules of
// `parity.mjs`; how much that may be is said here, so that nothing goes missing unnoticed.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import test, { after, before } from "node:test";

import { material } from "./material.mjs";
import { INSTALLED, ROOT, beside, browse, chromium, runtime, startWorker } from "./support.mjs";

const given = await material();
const cases = Object.values(given.vectors).flat();
const REQUESTS = cases.filter(({ errors }) => !errors).length;
const SETTINGS = cases.length - REQUESTS;

let server;
let received;
before(async () => {
  server = createServer(serve).listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const origin = () => `http://127.0.0.1:${server.address().port}`;

/** What a browser needs to find the package without a bundler. */
const PAGE = `<!doctype html><title>parity</title><script>
addEventListener("error", ({ message, target }) => fetch("/report", { method: "POST", body: JSON.stringify({ error: message ?? target.src + " cannot be loaded" }) }), true);
</script><script type="importmap">
{"imports": {"nodetool-edge-auth": "/package/on-web.js", "nodetool-edge-auth/inline": "/package/inline.js"}}
</script><script type="module" src="/harness.mjs"></script>`;
const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

async function serve(req, res) {
  const { pathname } = new URL(req.url, origin());
  const send = (type, body) => res.setHeader("content-type", type).end(body);
  if (pathname === "/report") {
    let body = "";
    for await (const part of req.setEncoding("utf8")) body += part;
    res.end();
    return received(JSON.parse(body));
  }
  if (pathname === "/material.json") return send("application/json", JSON.stringify(given));
  if (pathname === "/") return send("text/html", PAGE);
  const folder = pathname.startsWith("/package/") ? INSTALLED : path.join(ROOT, "tests", "package");
  try {
    send(TYPES[path.extname(pathname)] ?? "text/plain", readFileSync(path.join(folder, pathname.replace(/^\/package\//, ""))));
  } catch {
    res.writeHead(404).end();
  }
}

/** What a program reports that `start` runs, or how it ended without. */
function reported(start) {
  const report = new Promise((resolve) => (received = resolve));
  return Promise.race([report, start().then((error) => ({ error }))]);
}

/** @param {number} most how many requests may be left out that are nothing for a `Request` there */
function check({ error, failures, ran, left, exports, isOne }, most) {
  assert.equal(error, undefined, error);
  assert.ok(failures.length === 0, `${failures.length} failed:\n${failures.slice(0, 20).join("\n")}`);
  const sum = (way) => Object.entries(left).reduce((all, [reason, count]) => (reason.startsWith(`${way}: `) ? all + count : all), 0);
  assert.equal(ran.lines, REQUESTS, "every vector, as an adapter has it");
  assert.equal(ran.Request + sum("Request"), REQUESTS, "every vector ran as a Request, or a rule says why not");
  assert.ok(sum("Request") <= most, `too many are left out: ${JSON.stringify(left)}`);
  assert.equal(ran.settings + sum("settings"), SETTINGS);
  assert.ok(sum("settings") <= 5, JSON.stringify(left));
  assert.equal(ran.users, given.users.cases.length);
  assert.deepEqual(exports, ["Gate", "cacheStore", "generateToken", "maskToken"]);
  assert.ok(isOne, "however it was loaded, it is one library");
}

const HARNESS = path.join(ROOT, "tests", "package", "harness.mjs");

test("Node", async (context) => check(await reported(() => beside(context, process.execPath, [HARNESS, origin()])), 110));

test("workerd", async (context) => {
  const { miniflare } = await startWorker(context, "tests/package/wrangler.toml");
  const response = await miniflare.dispatchFetch("http://parity.test/", { method: "POST", body: JSON.stringify(given) });
  check(await response.json(), 110);
});

/** A line that nobody overlooks. */
const skip = (context, what) => context.skip(`${what}: NOT TESTED`);

test("Deno, which may read nothing and reach nobody but this test", async (context) => {
  const deno = runtime("deno");
  if (!deno) return skip(context, "there is no Deno for this machine");
  const args = ["run", "--no-prompt", `--allow-net=127.0.0.1:${server.address().port}`, HARNESS, origin()];
  check(await reported(() => beside(context, deno, args)), 110);
});

test("Bun", async (context) => {
  const bun = runtime("bun");
  if (!bun) return skip(context, "there is no Bun for this machine");
  check(await reported(() => beside(context, bun, [HARNESS, origin()])), 110);
});

test("Chromium", { timeout: 120_000 }, async (context) => {
  if (!chromium()) return skip(context, "there is no Chromium on the path, nor in NODETOOL_TEST_CHROMIUM");
  check(await reported(() => browse(context, origin())), 445);
});
