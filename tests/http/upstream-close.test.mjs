// Upstreams that close their connections without saying so, and requests that may not be sent twice.
import assert from "node:assert/strict";
import http from "node:http";
import { describe, test } from "node:test";

import { answerTo } from "./support/clients.mjs";
import { AUTHORIZATION, STATIC, withHost } from "./support/hosts.mjs";
import { startRawUpstream } from "./support/raw-upstream.mjs";

const answer = (status, body = "ok") => `HTTP/1.1 ${status} Some Reason\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

/** An upstream that answers what `behaviour` says: a status, and after how many milliseconds it closes the connection, if it does. */
function startClosing(behaviour) {
  const served = new Map();
  return startRawUpstream((request) => {
    const { socket, target, method } = request;
    const count = (served.get(socket) ?? 0) + 1;
    served.set(socket, count);
    const { status = 200, closesAfter } = behaviour({ target, method, count });
    socket.write(answer(status));
    // The next request has its own time.
    if (closesAfter !== undefined) setTimeout(() => socket.destroy(), closesAfter);
  });
}

/** A gateway in front of it, and a client that asks over one connection. */
async function between(upstream, body) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await withHost("native", { settings: { ...STATIC, UPSTREAM_URL: upstream.url } }, (host) => {
      const ask = async (method, path, content = method === "POST" ? "{}" : undefined) => {
        const outgoing = http.request({ port: host.port, method, path, agent, headers: Object.fromEntries([AUTHORIZATION]) });
        outgoing.end(content);
        return (await answerTo(outgoing)).status;
      };
      return body(ask);
    });
  } finally {
    agent.destroy();
    await upstream.stop();
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const connectionsOf = (upstream) => new Set(upstream.requests.map(({ socket }) => socket)).size;

describe("an upstream that closes a connection unannounced", () => {
  for (const method of ["POST", "DELETE", "PUT", "PATCH"]) {
    for (const closesAfter of [0, 1, 3]) {
      test(`${closesAfter} ms after a 500 costs no ${method} of the next`, async () => {
        const upstream = await startClosing(({ target }) => (target === "/fails" ? { status: 500, closesAfter } : {}));
        await between(upstream, async (ask) => {
          for (let round = 0; round < 40; round += 1) {
            assert.equal(await ask(method, "/fails"), 500);
            assert.equal(await ask(method, "/works"), 200);
          }
        });
      });
    }
  }

  for (const status of [200, 404, 413]) {
    for (const closesAfter of [0, 1, 3]) {
      test(`${closesAfter} ms after every answer of ${status} costs no POST, whatever is asked in between`, async () => {
        const upstream = await startClosing(() => ({ status, closesAfter }));
        await between(upstream, async (ask) => {
          for (let round = 0; round < 50; round += 1) {
            assert.equal(await ask("POST", "/"), status, `round ${round}`);
            if (round % 3 === 0) assert.equal(await ask("GET", "/"), status);
          }
        });
      });
    }
  }

  test("after a refusal, on a connection that has served many requests before, costs no POST", async () => {
    const upstream = await startClosing(({ target }) => (target === "/refused" ? { status: 422, closesAfter: 2 } : {}));
    await between(upstream, async (ask) => {
      for (let round = 0; round < 10; round += 1) {
        for (let index = 0; index < 5; index += 1) {
          assert.equal(await ask("POST", "/works"), 200);
          await pause(25);
        }
        assert.equal(await ask("POST", "/refused"), 422);
        assert.equal(await ask("POST", "/works"), 200);
      }
    });
  });

  for (const limit of [30, 100, 400]) {
    test(`after ${limit} ms of idleness costs no POST at about that time`, async () => {
      const timers = new Map();
      const upstream = await startRawUpstream(({ socket }) => {
        clearTimeout(timers.get(socket));
        socket.write(answer(200));
        timers.set(socket, setTimeout(() => socket.destroy(), limit));
      });
      await between(upstream, async (ask) => {
        for (let round = 0; round < 30; round += 1) {
          assert.equal(await ask("POST", "/"), 200, `round ${round}`);
          await pause(limit - 3 + (round % 6));
        }
      });
    });
  }
});

describe("connections to a well-behaved upstream are kept", () => {
  for (const method of ["GET", "POST", "DELETE"]) {
    test(`for ${method}`, async () => {
      const upstream = await startClosing(() => ({}));
      await between(upstream, async (ask) => {
        const askOften = async () => {
          for (let index = 0; index < 200; index += 1) assert.equal(await ask(method, "/"), 200);
        };
        await askOften();
        // Each has to be left open for a moment before it serves a request that cannot be repeated.
        await pause(50);
        const before = connectionsOf(upstream);
        if (method === "GET") assert.ok(before <= 2, `${before} connections`);
        await askOften();
        assert.equal(connectionsOf(upstream), before, "no further ones");
      });
    });
  }
});
