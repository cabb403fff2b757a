// CORS where the gateway answers for it: what it says of the upstream's answers, and of its own in the upstream's place.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test as nodeTest } from "node:test";

import { AUTHORIZATION, HOSTS, STATIC, startHost } from "./support/hosts.mjs";
import { ask, request } from "./support/raw.mjs";
import { listen } from "./support/servers.mjs";
import { deadPort } from "./support/upstream.mjs";

const test = (title, run) => nodeTest(title, { timeout: 60_000 }, run);
const PAGE = "https://app.example";
const ALLOWED = "access-control-allow-origin";

/** An API that has an opinion of its own about who may read it. */
async function startOpinionated() {
  const server = http.createServer((request, response) => {
    const status = { "/created": 201, "/empty": 204, "/unchanged": 304, "/broken": 500 }[request.url] ?? 200;
    response.writeHead(status, {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Expose-Headers": "X-Total",
      "X-Total": "7",
      Vary: "Accept-Encoding",
      ...(status === 204 || status === 304 ? {} : { "Content-Type": "text/plain", "Content-Length": 4 }),
    });
    response.end(status === 204 || status === 304 ? undefined : "body");
  });
  return listen(server);
}

for (const name of HOSTS) {
  describe(`${name}: CORS`, () => {
    let upstream;
    const hosts = {};
    before(async () => {
      upstream = await startOpinionated();
      const dead = `http://127.0.0.1:${await deadPort()}`;
      const start = (settings) => startHost(name, { settings: { ...STATIC, UPSTREAM_URL: upstream.url, ...settings } });
      hosts.listed = await start({ CORS_ORIGINS: `${PAGE}, null` });
      hosts.any = await start({ CORS_ORIGINS: "*" });
      hosts.unset = await start({});
      hosts.dead = await start({ CORS_ORIGINS: PAGE, UPSTREAM_URL: dead });
    });
    after(async () => {
      for (const host of Object.values(hosts)) await host.stop();
      await upstream?.stop();
    });

    const send = (key, { method = "GET", target = "/", origin, headers = [AUTHORIZATION] } = {}) => {
      const all = [["Host", "x"], ...(origin === undefined ? [] : [["Origin", origin]]), ...headers];
      return ask(hosts[key].port, request({ method, target, headers: all }), { head: method === "HEAD" });
    };
    const values = (answer, wanted) => answer.headers.filter(([header]) => header.toLowerCase() === wanted).map(([, value]) => value);
    const varies = (answer) => values(answer, "vary").join(", ").split(/,\s*/).sort().join();

    for (const target of ["/", "/created", "/empty", "/unchanged", "/broken"]) {
      test(`an answer of the upstream is the allowed page's to read: ${target}`, async () => {
        for (const method of ["GET", "HEAD"]) {
          const answer = await send("listed", { method, target, origin: PAGE });
          assert.deepEqual(values(answer, ALLOWED), [PAGE]);
          assert.deepEqual([answer.header("x-total"), answer.header("access-control-expose-headers")], ["7", "X-Total"], "the rest is the upstream's affair");
          assert.equal(varies(answer), "Accept-Encoding,Origin");
        }
      });
    }

    test("the body comes along", async () => {
      const answer = await send("listed", { target: "/created", origin: PAGE });
      assert.deepEqual([answer.status, answer.body.toString(), answer.header("content-type")], [201, "body", "text/plain"]);
    });

    test("nobody else's, whatever the upstream says", async () => {
      for (const origin of [undefined, "https://evil.example", `${PAGE}:443`, "http://app.example"]) {
        const answer = await send("listed", { origin });
        assert.deepEqual([answer.status, values(answer, ALLOWED), varies(answer)], [200, [], "Accept-Encoding,Origin"]);
      }
      assert.deepEqual(values(await send("listed", { origin: "null" }), ALLOWED), ["null"], "null, since it is listed");
      assert.deepEqual(values(await send("any", { origin: "null" }), ALLOWED), [], "but not with all");
    });

    test("everybody's", async () => {
      for (const origin of [PAGE, "https://other.example"]) assert.deepEqual(values(await send("any", { origin }), ALLOWED), ["*"]);
    });

    test("the upstream's own word where nothing is set", async () => {
      const answer = await send("unset", { origin: "https://evil.example" });
      assert.deepEqual([values(answer, ALLOWED), varies(answer)], [["*"], "Accept-Encoding"]);
    });

    test("an upstream that cannot be reached is told of readably", async () => {
      const answer = await send("dead", { origin: PAGE });
      assert.deepEqual([answer.status, values(answer, ALLOWED), varies(answer)], [502, [PAGE], "Origin"]);
      assert.deepEqual(values(await send("dead", { origin: "https://evil.example" }), ALLOWED), []);
    });

    test("preflights never reach the upstream", async () => {
      const headers = [["Access-Control-Request-Method", "PUT"], ["Access-Control-Request-Headers", "authorization,x-a"]];
      const answer = await send("dead", { method: "OPTIONS", origin: PAGE, headers });
      assert.deepEqual([answer.status, answer.body.length, values(answer, ALLOWED)], [204, 0, [PAGE]]);
      const said = ["allow-methods", "allow-headers", "max-age"].map((header) => answer.header(`access-control-${header}`));
      assert.deepEqual(said, ["PUT", "authorization,x-a", "600"]);
      const foreign = await send("dead", { method: "OPTIONS", origin: "https://evil.example", headers });
      assert.deepEqual([foreign.status, foreign.body.toString(), values(foreign, ALLOWED)], [403, '{"detail":"Origin not allowed"}', []]);
    });
  });
}
