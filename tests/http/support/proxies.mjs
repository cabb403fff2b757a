// Real proxies that serve an API and ask the gateway, each with its file in `examples`.
import assert from "node:assert/strict";
import { accessSync, constants, readFileSync, rmSync } from "node:fs";
import path from "node:path";

import { ROOT, temporaryFolder, writeFile } from "./hosts.mjs";
import { runNginx, runProgram, started } from "./nginx.mjs";
import { deadPort } from "./upstream.mjs";

const example = (name) => readFileSync(path.join(ROOT, "examples", name), "utf8");

/** Each stands in the text exactly once, or as often as said, and nothing else is changed. */
export function changed(text, changes) {
  return changes.reduce((text, [from, to, times = 1]) => {
    assert.equal(text.split(from).length - 1, times, from);
    return text.replaceAll(from, to);
  }, text);
}

const addresses = ({ gateway, api }) => [["server 127.0.0.1:8000;", `server 127.0.0.1:${gateway};`], ["server 127.0.0.1:9000;", `server 127.0.0.1:${api};`]];

/**
 * How each is run: `ports` are those of the gateway, of the API and of the proxy itself; `edit` changes the texts of the
 * example, for tests that break one on purpose.
 */
const RUN = {
  nginx: (ports, { edit, body }) => runNginx(edit(changed(example("nginx/forward-auth.conf"), [["listen 80;", `listen 127.0.0.1:${ports.listen};`], ...addresses(ports)])), ports.listen, body),

  async haproxy({ gateway, api, listen }, { program, folder, edit, body }) {
    const lua = writeFile(path.join(folder, "auth.lua"), edit(example("haproxy/auth.lua")));
    const config = changed(example("haproxy/haproxy.cfg"), [
      ["lua-load /etc/haproxy/auth.lua", `lua-load ${lua}`],
      ["setenv NODETOOL_AUTH http://127.0.0.1:8000", `setenv NODETOOL_AUTH http://127.0.0.1:${gateway}`],
      ["bind :80", `bind 127.0.0.1:${listen}`],
      ["server api 127.0.0.1:9000", `server api 127.0.0.1:${api}`],
    ]);
    const file = writeFile(path.join(folder, "haproxy.cfg"), edit(config));
    return runProgram([program, "-db", "-f", file], listen, body);
  },

  async caddy({ gateway, api, listen }, { program, folder, edit, body }) {
    const config = changed(example("caddy/Caddyfile"), [
      ["\n:80 {\n", `\nhttp://:${listen} {\n\tbind 127.0.0.1\n`],
      ["forward_auth 127.0.0.1:8000", `forward_auth 127.0.0.1:${gateway}`],
      ["reverse_proxy 127.0.0.1:9000", `reverse_proxy 127.0.0.1:${api}`],
    ]);
    // Its administration listens on a port of its own, which another Caddy may have.
    const file = writeFile(path.join(folder, "Caddyfile"), `{\n\tadmin off\n}\n${edit(config)}`);
    return runProgram([program, "run", "--adapter", "caddyfile", "--config", file], listen, body, { HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder });
  },

  async envoy({ gateway, api, listen }, { program, folder, edit, body }) {
    const config = changed(example("envoy/envoy.yaml"), [
      ["address: 0.0.0.0, port_value: 80 }", `address: 127.0.0.1, port_value: ${listen} }`],
      ["address: 127.0.0.1, port_value: 8000 }", `address: 127.0.0.1, port_value: ${gateway} }`],
      ["address: 127.0.0.1, port_value: 9000 }", `address: 127.0.0.1, port_value: ${api} }`],
    ]);
    const file = writeFile(path.join(folder, "envoy.yaml"), edit(config));
    return runProgram([program, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"], listen, body);
  },
};

export const PROXIES = Object.keys(RUN);

/** The program, as `NODETOOL_TEST_CADDY` and its like name it, on the path, or where Python's packages are. */
function find(name) {
  const named = process.env[`NODETOOL_TEST_${name.toUpperCase()}`];
  if (named) return named;
  const folders = [...process.env.PATH.split(path.delimiter), "/usr/sbin", "/usr/local/sbin", ...(process.env.NODETOOL_TEST_PYTHON ? [path.dirname(process.env.NODETOOL_TEST_PYTHON)] : [])];
  return folders.map((folder) => path.join(folder, name)).find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Why not, or false. */
export function whyNoProxy(name) {
  return !find(name) && `${name} is not installed (looked for on the path, and for NODETOOL_TEST_${name.toUpperCase()})`;
}

/** @returns {Promise<{port: number, stop(): Promise<void>}>} */
export async function startProxy(name, { gateway, api }, edit = (text) => text) {
  const folder = temporaryFolder();
  const listen = await deadPort();
  const end = await started((body) => RUN[name]({ gateway, api, listen }, { program: find(name), folder, edit, body }));
  return {
    port: listen,
    async stop() {
      await end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
