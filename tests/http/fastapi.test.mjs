// A FastAPI application behind the gateway, as NodeTool's server is one: what its server does to connections, and what goes through.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { after, before, describe, test as nodeTest } from "node:test";
import { WebSocket } from "ws";

import { answerTo, echoes } from "./support/clients.mjs";
import { startFastApi, whyNoPython } from "./support/fastapi.mjs";
import { AUTHORIZATION, HOSTS, STATIC, startHost } from "./support/hosts.mjs";

const test = (title, run) => nodeTest(title, { timeout: 120_000 }, run);
const AUTHORIZED = Object.fromEntries([AUTHORIZATION]);

for (const name of HOSTS) {
  for (const server of ["uvicorn", "hypercorn"]) {
    describe(`${name} in front of FastAPI on ${server}`, { skip: whyNoPython }, () => {
      let api, host, agent;
      before(async () => {
        api = await startFastApi(server);
        host = await startHost(name, { settings: { ...STATIC, UPSTREAM_URL: api.url } });
        agent = new http.Agent({ keepAlive: true });
      });
      after(async () => {
        agent?.destroy();
        await host?.stop();
        await api?.stop();
      });

      async function ask(method, path, body, headers = {}, over = agent) {
        const outgoing = http.request({ port: host.port, method, path, agent: over, headers: { ...AUTHORIZED, ...headers } });
        outgoing.end(body);
        return answerTo(outgoing);
      }

      test("an unhandled exception is the application's 500, and later requests are served", async () => {
        assert.equal((await ask("POST", "/raise", "{}")).status, 500);
        assert.equal((await ask("GET", "/health")).status, 200);
      });

      const todo = name === "edge" && "workerd ends the answer as if it were whole";
      nodeTest("an answer that breaks off does so for its client too, and later requests are served", { todo, timeout: 60_000 }, async () => {
        await assert.rejects(ask("POST", "/break-off", "{}", {}, false));
        assert.equal((await ask("POST", "/upload", "{}")).status, 200);
      });

      test("an upload of 20 MB arrives whole, with the user's identity", async () => {
        const payload = randomBytes(20 * 1024 * 1024);
        const { status, body } = await ask("POST", "/upload", payload, { "content-length": payload.length });
        assert.equal(status, 200);
        assert.deepEqual(JSON.parse(body), { length: payload.length, sha256: createHash("sha256").update(payload).digest("hex"), user: "1" });
      });

      test("an upload without a length arrives whole", async () => {
        const outgoing = http.request({ port: host.port, method: "POST", path: "/upload", agent, headers: AUTHORIZED });
        for (let index = 0; index < 10; index += 1) outgoing.write("x".repeat(1000));
        outgoing.end();
        assert.equal(JSON.parse((await answerTo(outgoing)).body).length, 10_000);
      });

      test("events come one by one", async () => {
        const outgoing = http.get({ port: host.port, path: "/events?count=5", agent, headers: AUTHORIZED });
        const [response] = await new Promise((resolve) => outgoing.once("response", (...told) => resolve(told)));
        const parts = [];
        for await (const part of response.setEncoding("utf8")) parts.push(part);
        assert.ok(parts.length > 1, "nothing gathers them");
        assert.equal(parts.join(""), [0, 1, 2, 3, 4].map((number) => `data: ${number}\n\n`).join(""));
      });

      test("a WebSocket carries messages of 4 MB both ways", async () => {
        const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`, { headers: AUTHORIZED, maxPayload: 64 * 1024 * 1024 });
        const greeting = new Promise((resolve) => socket.once("message", (data) => resolve(data.toString())));
        assert.equal(await greeting, "1");
        await echoes(socket, [["text", false], [randomBytes(4 * 1024 * 1024), true]]);
        socket.close();
      });

      test("nothing of it is reached without a token", async () => {
        for (const [method, path] of [["POST", "/raise"], ["POST", "/upload"], ["GET", "/events"], ["GET", "/ws"]]) {
          assert.equal((await ask(method, path, method === "POST" ? "{}" : undefined, { authorization: "Bearer wrong" })).status, 401, path);
        }
        assert.equal((await ask("GET", "/health", undefined, { authorization: "Bearer wrong" })).status, 200);
      });
    });
  }
}

for (const server of ["uvicorn", "hypercorn"]) {
  describe(`native: connections that ${server} closes`, { skip: whyNoPython }, () => {
    /** Whatever the application does to its connections, every request has an answer of its own. */
    async function inALoop(rounds, keepAlive, requests) {
      const api = await startFastApi(server, keepAlive);
      const host = await startHost("native", { settings: { ...STATIC, UPSTREAM_URL: api.url } });
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      try {
        for (let round = 0; round < rounds; round += 1) {
          for (const [method, path, expected, pause = 0] of requests(round)) {
            const outgoing = http.request({ port: host.port, method, path, agent, headers: AUTHORIZED });
            outgoing.end(method === "POST" ? "{}" : undefined);
            assert.equal((await answerTo(outgoing)).status, expected, `round ${round}: ${method} ${path}`);
            if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
          }
        }
      } finally {
        agent.destroy();
        await host.stop();
        await api.stop();
      }
    }

    test("after unhandled exceptions cost no POST: 400 in a tight loop", () => inALoop(400, 5, () => [["POST", "/raise", 500]]));

    test("after unhandled exceptions cost no other request either", () =>
      inALoop(50, 5, (round) => [["POST", "/raise", 500], ["POST", "/upload", 200], ["DELETE", "/raise", 500], ["POST", "/status/422", 422, round % 5], ["POST", "/upload", 200]]));

    test("before they have read an upload cost no POST", () => inALoop(50, 5, () => [["POST", "/ignore-upload", 413], ["POST", "/upload", 200]]));

    test("after a second of idleness cost no POST at about that time", () =>
      inALoop(8, 1, (round) => [["POST", "/upload", 200, 985 + round * 4]]));
  });
}
