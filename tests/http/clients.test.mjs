// The clients that people use, unchanged, through both hosts.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { HOSTS, TOKEN, startHost, temporaryFolder, writeFile } from "./support/hosts.mjs";
import { startUpstream } from "./support/upstream.mjs";

const run = promisify(execFile);
const PYTHON = process.env.NODETOOL_TEST_PYTHON;
const OPENAI_CLIENT = fileURLToPath(new URL("../clients/openai_client.py", import.meta.url));
// A proxy for the outside world is none for this machine.
const env = { ...process.env, NO_PROXY: "127.0.0.1", no_proxy: "127.0.0.1" };
const PAYLOAD = randomBytes(3 * 1024 * 1024);
const PAYLOAD_DIGEST = createHash("sha256").update(PAYLOAD).digest("hex");
const CHAT = JSON.stringify({ model: "test-model", stream: true, messages: [{ role: "user", content: "Hello" }] });

const test = (title, options, body = options) => nodeTest(title, { timeout: 60_000, ...(body === options ? {} : options) }, body);

for (const name of HOSTS) {
  describe(name, () => {
    let host, upstream, token, folder;
    before(async () => {
      folder = temporaryFolder();
      upstream = await startUpstream();
      const settings = { AUTH_PROVIDER: "static", UPSTREAM_URL: upstream.url };
      // Natively the token is the one that was generated into the deployment file, at the edge the one in KV.
      host = await startHost(name, name === "native" ? { settings } : { settings, store: TOKEN });
      token = name === "native" ? /^worker_auth_token: (.+)$/m.exec(readFileSync(host.config, "utf8"))[1] : TOKEN;
    });
    after(async () => {
      await host?.stop();
      await upstream?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    test("the OpenAI client for Python", { skip: !PYTHON && "NODETOOL_TEST_PYTHON is not set" }, async () => {
      const { stdout } = await run(PYTHON, [OPENAI_CLIENT, `${host.url}/v1`, token], { env });
      assert.equal(stdout.trim(), "ok");
    });

    describe("curl", () => {
      /** Runs a line of shell in which `$TOKEN` comes from where a user finds it, and `$URL` is the gateway. */
      async function shell(line) {
        const cut = name === "native" ? `TOKEN=$(grep worker_auth_token "$FILE" | cut -d' ' -f2)` : `TOKEN=${TOKEN}`;
        const variables = { ...env, URL: host.url, FILE: host.config ?? "", PAYLOAD: writeFile(path.join(folder, "payload"), PAYLOAD) };
        return (await run("sh", ["-ec", `${cut}\n${line}`], { env: variables })).stdout;
      }
      const BEARER = `-H "Authorization: Bearer $TOKEN"`;

      test("lists models", async () => {
        assert.equal(JSON.parse(await shell(`curl -sSf ${BEARER} "$URL/v1/models"`)).data[0].id, "test-model");
      });

      test("streams a completion", async () => {
        const events = await shell(`curl -sSfN ${BEARER} -H 'Content-Type: application/json' -d '${CHAT}' "$URL/v1/chat/completions"`);
        assert.match(events, /"content":"Hello".*"content":"world".*data: \[DONE\]/s);
      });

      test("lists collections", async () => {
        assert.equal(JSON.parse(await shell(`curl -sSf ${BEARER} "$URL/admin/collections"`)).collections[0].name, "test");
      });

      test("stores a file, which it announces with Expect: 100-continue", async () => {
        const stored = await shell(`curl -sSf -T "$PAYLOAD" -H 'Expect: 100-continue' ${BEARER} "$URL/admin/storage/models/a.bin"`);
        assert.deepEqual(JSON.parse(stored), { size: PAYLOAD.length, sha256: PAYLOAD_DIGEST });
      });

      test("is refused without the token, and public without it", async () => {
        upstream.take();
        const status = `curl -sS -o /dev/null -w '%{http_code}'`;
        assert.equal(await shell(`${status} "$URL/v1/models"`), "401");
        assert.equal(await shell(`${status} -H "Authorization: Bearer x$TOKEN" "$URL/v1/models"`), "401");
        assert.equal(await shell(`${status} -u "user:$TOKEN" "$URL/v1/models"`), "401");
        assert.equal(await shell(`${status} -T "$PAYLOAD" "$URL/admin/storage/x"`), "401");
        assert.deepEqual(upstream.take(), []);
        assert.equal(await shell(`${status} "$URL/health"`), "200");
      });
    });

    describe("fetch", () => {
      const call = (target, options = {}) => fetch(host.url + target, { ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers } });

      test("lists models and collections", async () => {
        assert.equal((await (await call("/v1/models")).json()).data[0].id, "test-model");
        assert.equal((await (await call("/admin/collections")).json()).collections[0].name, "test");
      });

      test("streams a completion", async () => {
        const response = await call("/v1/chat/completions", { method: "POST", body: CHAT, headers: { "Content-Type": "application/json" } });
        assert.equal(response.headers.get("content-type"), "text/event-stream");
        const contents = [...(await response.text()).matchAll(/"content":"([^"]*)"/g)].map(([, content]) => content);
        assert.deepEqual(contents, ["Hello", ", ", "world"]);
      });

      test("stores a file", async () => {
        const response = await call("/admin/storage/models/a.bin", { method: "PUT", body: PAYLOAD });
        assert.deepEqual([response.status, await response.json()], [201, { size: PAYLOAD.length, sha256: PAYLOAD_DIGEST }]);
      });

      test("is refused without the token", async () => {
        for (const [method, target] of [["GET", "/v1/models"], ["POST", "/v1/chat/completions"], ["GET", "/admin/collections"], ["PUT", "/admin/storage/x"]]) {
          const response = await fetch(host.url + target, { method, body: method === "GET" ? undefined : "{}" });
          assert.deepEqual([response.status, response.headers.get("www-authenticate")], [401, "Bearer"], target);
          assert.deepEqual(await response.json(), { detail: "Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'" });
        }
      });
    });
  });
}
