// The package as something to publish: what is in it, what checkers of packages say of it, its types, and what bundlers make of it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import test from "node:test";
import { build as esbuild } from "esbuild";
import { build as vite, createServer as serveByVite } from "vite";
import webpack from "webpack";

import { INSTALLED, PACKAGE, ROOT, TOKEN, browse, chromium, scratch, tool } from "./support.mjs";

const manifest = JSON.parse(readFileSync(path.join(INSTALLED, "package.json"), "utf8"));

test("it is what it says: the version of the crate, nothing to install beside it, and no file too many", () => {
  const [, version] = /^\[workspace\.package\]\nversion = "(.*)"$/m.exec(readFileSync(path.join(ROOT, "Cargo.toml"), "utf8"));
  assert.deepEqual([manifest.name, manifest.version, manifest.license], ["nodetool-edge-auth", version, "Apache-2.0"]);
  assert.deepEqual([manifest.dependencies, manifest.peerDependencies, manifest.scripts, manifest.sideEffects], [undefined, undefined, undefined, false]);
  const files = readdirSync(INSTALLED, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => name);
  for (const name of ["LICENSE", "README.md", "gate.wasm"]) assert.ok(files.includes(name), name);
  assert.deepEqual(files.filter((name) => !/\.(js|d\.ts|wasm)$|^(LICENSE|README\.md|package\.json)$/.test(name)), []);
});

test("publint and Are The Types Wrong find nothing", () => {
  tool("publint", ["run", PACKAGE, "--strict"]);
  tool("attw", ["--pack", PACKAGE, "--profile", "esm-only"]);
});

test("every setting that the types know is one, and none for gates is missing", () => {
  const table = readFileSync(path.join(ROOT, "src", "settings", "table.rs"), "utf8");
  const known = [...table.matchAll(/^ *(setting|secret|native)\(\s*"([A-Z_]+)"/gm)];
  const types = readFileSync(path.join(INSTALLED, "index.d.ts"), "utf8");
  const typed = [...types.matchAll(/^ {2}([A-Z_]+)\?:/gm)].map(([, name]) => name);
  // Of a listener, a connection to an upstream and a log, which a gate has not.
  const isForGates = ([, kind, name]) => kind !== "native" && !/^(UPSTREAM_(?!AUTHORIZATION)|LOG_)/.test(name);
  assert.deepEqual(typed.sort(), known.filter(isForGates).map(([, , name]) => name).sort());
});

test("its types hold with those of browsers, of Node with Express and Fastify, and of Workers with Hono", async (context) => {
  for (const [name, options] of Object.entries({
    browser: { lib: ["esnext", "dom", "dom.iterable"], types: [] },
    node: { lib: ["esnext"], types: ["node"] },
    worker: { lib: ["esnext"], types: ["@cloudflare/workers-types"] },
  })) {
    await context.test(name, (context) => {
      const project = path.join(scratch(context), "tsconfig.json");
      const strict = { strict: true, exactOptionalPropertyTypes: true, noEmit: true, module: "nodenext", target: "esnext", typeRoots: [path.join(ROOT, "node_modules", "@types"), path.join(ROOT, "node_modules")] };
      writeFileSync(project, JSON.stringify({ compilerOptions: { ...strict, ...options }, files: [path.join(ROOT, "tests", "package", "types", `${name}.ts`)] }));
      tool("tsc", ["--project", project]);
    });
  }
});

/** A program that judges two requests, and tells of it. */
const program = (from, report) => `import { Gate } from "${from}";
const gate = new Gate({ AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: "${TOKEN}" });
const ask = (headers) => gate.check(new Request("http://gateway.test/v1", { headers }));
Promise.all([ask({}), ask({ authorization: "Bearer ${TOKEN}" })])
  .then(([no, yes]) => ${report}(JSON.stringify([no.response.status, yes.userId])));
`;
const SAID = JSON.stringify([401, "1"]);

/** A folder in which the package is installed, with a program that uses it. */
function project(context, from, report) {
  const folder = scratch(context);
  writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
  mkdirSync(path.join(folder, "node_modules"));
  symlinkSync(INSTALLED, path.join(folder, "node_modules", "nodetool-edge-auth"), "junction");
  writeFileSync(path.join(folder, "main.js"), program(from, report));
  return folder;
}

const bundle = (folder, options) =>
  esbuild({ entryPoints: [path.join(folder, "main.js")], absWorkingDir: folder, bundle: true, format: "esm", logLevel: "silent", outfile: path.join(folder, "out.mjs"), ...options });

test("esbuild: for Node, with the module beside the bundle", async (context) => {
  const folder = project(context, "nodetool-edge-auth", "console.log");
  await bundle(folder, { platform: "node" });
  copyFileSync(path.join(INSTALLED, "gate.wasm"), path.join(folder, "gate.wasm"));
  assert.equal((await ran(folder, "out.mjs")).trim(), SAID);
});

test("esbuild: in one classic script, with the module within", async (context) => {
  const folder = project(context, "nodetool-edge-auth/inline", "console.log");
  await bundle(folder, { platform: "browser", format: "iife", outfile: path.join(folder, "out.cjs") });
  assert.equal((await ran(folder, "out.cjs")).trim(), SAID);
});

test("esbuild: what is imported and not used leaves nothing in a bundle", async (context) => {
  for (const from of ["nodetool-edge-auth", "nodetool-edge-auth/inline", "nodetool-edge-auth/node"]) {
    const folder = project(context, from, "console.log");
    writeFileSync(path.join(folder, "main.js"), `import * as unused from "${from}";\nconsole.log("used");\n`);
    await bundle(folder, { platform: "browser", external: ["node:*"] });
    assert.match(readFileSync(path.join(folder, "out.mjs"), "utf8"), /^(\/\/.*\n)*console\.log\("used"\);\n$/);
  }
});

async function ran(folder, script) {
  const child = spawn(process.execPath, [path.join(folder, script)], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (said += text));
  assert.deepEqual(await once(child, "close"), [0, null]);
  return said;
}

/** The page of a bundle. What is amiss with it, it says too. */
const html = (url) => `<!doctype html><title>bundle</title>
<script>addEventListener("error", ({ message, target }) => ${sayAt(url)}(message ?? target.src + " cannot be loaded"), true)</script>
<script type="module" src="/main.js"></script>`;

/** What the page at a URL reports, in a browser. */
const shown = (context, url, said) => Promise.race([said, browse(context, url)]);

/** Serves a folder, and hears what its page says. */
async function served(context, folder) {
  let hear;
  const said = new Promise((resolve) => (hear = resolve));
  const server = createServer(async (req, res) => {
    const { pathname } = new URL(req.url, "http://localhost");
    res.setHeader("access-control-allow-origin", "*");
    if (pathname === "/said") {
      let body = "";
      for await (const part of req.setEncoding("utf8")) body += part;
      res.end();
      return hear(body);
    }
    const name = pathname === "/" ? "/index.html" : pathname;
    const type = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" }[path.extname(name)] ?? "application/octet-stream";
    try {
      res.setHeader("content-type", type).end(readFileSync(path.join(folder, name)));
    } catch {
      res.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, said };
}

const sayAt = (url) => `((text) => fetch("${url}/said", { method: "POST", mode: "no-cors", body: text }))`;

for (const [name, build] of Object.entries({
  vite: async (folder, out, url) => {
    writeFileSync(path.join(folder, "index.html"), html(url));
    await vite({ root: folder, configFile: false, logLevel: "silent", build: { outDir: out } });
  },
  webpack: async (folder, out, url) => {
    const compiler = webpack({ mode: "production", context: folder, entry: "./main.js", output: { path: out, filename: "main.js", publicPath: "/" } });
    const stats = await new Promise((resolve, reject) => compiler.run((error, stats) => (error ? reject(error) : resolve(stats))));
    assert.deepEqual(stats.toJson({ errors: true, warnings: true }).errors, []);
    writeFileSync(path.join(out, "index.html"), html(url));
  },
})) {
  test(`${name}: a page of what it makes`, { timeout: 120_000 }, async (context) => {
    if (!chromium()) return context.skip("there is no Chromium on the path, nor in NODETOOL_TEST_CHROMIUM: NOT TESTED");
    const folder = project(context, "nodetool-edge-auth", "console.log");
    const out = path.join(folder, "dist");
    const { url, said } = await served(context, out);
    writeFileSync(path.join(folder, "main.js"), program("nodetool-edge-auth", sayAt(url)));
    await build(folder, out, url);
    assert.equal(readdirSync(out, { recursive: true }).filter((name) => name.endsWith(".wasm")).length, 1, "the module is a file of its own, once");
    assert.equal(await shown(context, url, said), SAID);
  });
}

test("vite: a page while it is developed, with the package left as it is", { timeout: 120_000 }, async (context) => {
  if (!chromium()) return context.skip("there is no Chromium on the path, nor in NODETOOL_TEST_CHROMIUM: NOT TESTED");
  const folder = project(context, "nodetool-edge-auth", "console.log");
  const { url, said } = await served(context, folder);
  writeFileSync(path.join(folder, "main.js"), program("nodetool-edge-auth", sayAt(url)));
  writeFileSync(path.join(folder, "index.html"), html(url));
  const server = await serveByVite({
    root: folder, configFile: false, logLevel: "silent", cacheDir: path.join(folder, ".vite"),
    optimizeDeps: { exclude: ["nodetool-edge-auth"] },
    server: { host: "127.0.0.1", port: 0, hmr: false, watch: null, fs: { strict: false } },
  });
  context.after(() => server.close());
  await server.listen();
  assert.equal(await shown(context, `http://127.0.0.1:${server.httpServer.address().port}`, said), SAID);
});
