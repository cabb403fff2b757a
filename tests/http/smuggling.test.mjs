// Chance looks for requests and responses on whose ends the gateway and somebody else would not agree. Whatever comes in,
// what goes out must be such that no reader can take it for anything else: `support/strict.mjs` reads both sides.
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test as nodeTest } from "node:test";

import { inParallel, until } from "./support/gateway.mjs";
import { AUTHORIZATION } from "./support/hosts.mjs";
import { chance, mutated, seed } from "./support/random.mjs";
import { exchange } from "./support/raw.mjs";
import { listen } from "./support/servers.mjs";
import { startServing } from "./support/serving.mjs";
import { messages } from "./support/strict.mjs";

const SEED = seed();
const CASES = 6000;
const AT_ONCE = 8;
const test = (title, run) => nodeTest(`${title} (NODETOOL_TEST_SEED=${SEED})`, { timeout: 180_000 }, run);
const INNER = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
const IDENTITY = ["x-user-id", "x-auth-token-type", "x-auth-role"];

/** A server that writes down every byte of each connection, and answers by `answer(target, index)`. */
async function startRecorder(answer) {
  const connections = [];
  const server = net.createServer({ noDelay: true }, (socket) => {
    const connection = { bytes: Buffer.alloc(0), answered: 0 };
    connections.push(connection);
    socket.on("error", () => {}).on("data", (chunk) => {
      connection.bytes = Buffer.concat([connection.bytes, chunk]);
      let complete;
      try {
        complete = [...messages("request", connection.bytes)].filter((message) => message.complete);
      } catch {
        // Whoever looks at the bytes later hears of it.
        return socket.destroy();
      }
      for (const message of complete.slice(connection.answered)) {
        connection.answered += 1;
        const { bytes, closes } = answer(message);
        socket.write(bytes);
        if (closes) socket.end();
      }
    });
  });
  return { ...(await listen(server)), connections };
}

const plain = ({ method, target }) => ({ bytes: `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n${method === "HEAD" ? "" : target}` });

describe("native: requests", () => {
  let host, upstream, stop;
  before(async () => ({ host, upstream, stop } = await startServing("native", { start: () => startRecorder(plain) })));
  after(() => stop?.());

  const size = (bytes) => bytes.length.toString(16);

  /** One way or another to say how long this body is, right or wrong. */
  function framed(dice, body) {
    const { below, one } = dice;
    const chunk = (line, data = body) => `${line}\r\n${data}\r\n0\r\n\r\n`;
    const length = (value, payload = body) => [[`Content-Length: ${value}`], payload];
    const coded = (value, payload = chunk(size(body))) => [[value.includes(":") ? value : `Transfer-Encoding: ${value}`], payload];
    const off = body.length + one([-7, -1, 1, 9]);
    const ways = [
      () => length(body.length),
      () => coded("chunked"),
      () => length(off),
      () => length(0),
      () => length(`+${body.length}`),
      () => length(`0x${size(body)}`),
      () => length(`${body.length}, ${body.length}`),
      () => length(`${body.length},${off}`),
      () => length(` ${body.length} `),
      () => length(`${body.length} 5`),
      () => length(`-${body.length}`),
      () => length("99999999999999999999999"),
      () => [[`Content-Length: ${body.length}`, `Content-Length: ${one([body.length, off, 0])}`], body],
      () => [[`Content-Length: ${body.length}`, "Transfer-Encoding: chunked"], one([body, chunk(size(body)), `0\r\n\r\n${INNER}`])],
      () => [["Transfer-Encoding: chunked", "Content-Length: 5"], `0\r\n\r\n${INNER}`],
      () => [["Transfer-Encoding: chunked", `Transfer-Encoding: ${one(["identity", "chunked", "x"])}`], chunk(size(body))],
      () => coded(one(["Chunked", "chunked, chunked", "gzip, chunked", "identity", "xchunked", "chunked;q=1", '"chunked"', "\x0bchunked", "chunked\x0b", ",chunked", "chun\tked", ""])),
      () => coded(one(["Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "Transfer_Encoding: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: \r\n\tchunked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked"])),
      () => [[one(["Content-Length : 5", "Content_Length: 5", "Content-Length:\r\n 5", "X: y\nContent-Length: 36", `Content-Length: ${body.length}\r`])], body],
      () => coded("chunked", chunk(one([`${size(body)};a=b`, `${size(body)};a="\r\n`, `0${size(body)}`, `${size(body)} `, `0x${size(body)}`, `-${size(body)}`, `+${size(body)}`, `${size(body)}\n`, "fffffffffffffffff", "100000000", `${size(body)};\n0`, `${size(body)}\x00`]))),
      () => coded("chunked", `${size(body)}\n${body}\n0\n\n`),
      () => coded("chunked", `${size(body)}\r\n${body}${INNER}0\r\n\r\n`),
      () => coded("chunked", `${size(body)}\r\n${body}\r\n0\r\n${one(["X: y", "Content-Length: 40", "Transfer-Encoding: chunked", "x-user-id: root", "Host: y", " X: y", "X : y", "no-colon"])}\r\n\r\n`),
      () => coded("chunked", `0\r\n${INNER}\r\n`),
      () => [["Connection: close, Content-Length", `Content-Length: ${body.length}`], body],
      () => [["Connection: Transfer-Encoding", "Transfer-Encoding: chunked"], chunk(size(body))],
      () => [["Expect: 100-continue", `Content-Length: ${body.length}`], body],
      () => [["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", `Content-Length: ${body.length}`], body],
      () => [[], body],
    ];
    return ways[below(ways.length)]();
  }

  function stream(dice, number) {
    const { one, below, happens } = dice;
    const body = one([INNER, `x=${"y".repeat(below(50))}`, "", `${INNER}${INNER}`, "0\r\n\r\n"]);
    const [fields, payload] = framed(dice, body);
    const method = one(["POST", "POST", "PUT", "GET", "HEAD", "DELETE", "OPTIONS", "get", "PO ST"]);
    const target = one([`/r${number}`, `/r${number}?a=b`, `http://x/r${number}`, `/r${number} HTTP/1.1\r\nX: y`, `/r${number}\tx`, `//r${number}`]);
    const version = one(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1", "HTTP/2.0", " HTTP/1.1", "HTTP/1.1 "]);
    const headers = ["Host: x", AUTHORIZATION.join(": "), ...fields];
    if (happens(0.2)) headers.push(one(["X-User-Id: root", "X_User_Id: root", "Connection: x-user-id", "Connection: authorization", "\tX: folded", "X-A: \x80\xff", "X-B: a\0b", ": nameless", "Host: y"]));
    const bytes = Buffer.from(`${[`${method} ${target} ${version}`, ...headers].join("\r\n")}\r\n\r\n${payload}`, "latin1");
    const next = Buffer.from(one(["", INNER, `POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc`]), "latin1");
    return Buffer.concat([happens(0.5) ? mutated(dice, bytes, 1 + below(3)) : bytes, next]);
  }

  test("what the upstream gets is a request that was judged, and no other", async () => {
    const dice = chance(SEED);
    const streams = Array.from({ length: CASES }, (_, number) => stream(dice, number));
    const statuses = {};
    await inParallel(streams, AT_ONCE, async (bytes, number) => {
      const { answers } = await exchange(host.port, bytes, { count: Number.POSITIVE_INFINITY, end: true, spoiled: true, timeout: 30_000 }).catch((error) => {
        throw new Error(`case ${number}: ${error.message}\n${JSON.stringify(bytes.toString("latin1"))}`);
      });
      for (const { status } of answers) statuses[status] = (statuses[status] ?? 0) + 1;
    });
    let passed = 0;
    for (const { bytes } of upstream.connections) {
      for (const request of messages("request", bytes)) {
        passed += 1;
        if (request.values === undefined) assert.fail(`no whole head: ${JSON.stringify(request.line)}`);
        const shown = JSON.stringify(bytes.toString("latin1"));
        assert.ok(!request.target.includes("smuggled"), shown);
        const identity = request.headers.filter(([name]) => IDENTITY.includes(name.replaceAll("_", "-")));
        // An `OPTIONS` that chance made a preflight of has none.
        if (identity.length > 0) assert.deepEqual(identity.sort(), [["x-auth-token-type", "static"], ["x-user-id", "1"]], shown);
        else assert.fail(`nobody's request: ${shown}`);
        assert.deepEqual([request.values("host").length, request.trailers ?? []], [1, []], shown);
      }
    }
    assert.ok(passed > CASES / 20, `${passed} requests of ${CASES} passed: nothing was tried`);
    assert.ok((statuses[400] ?? 0) > 0 && (statuses[401] ?? 0) > 0, JSON.stringify(statuses));
    await until("it still serves", 5000, async () => (await exchange(host.port, `GET /r HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\n\r\n`)).answers[0]?.status === 200);
  });
});

describe("native: responses", () => {
  const dice = chance(SEED + 1);
  /** Whose answers are as they were written: only of those it is known what they name. */
  const unspoiled = new Set();
  let host, upstream, stop;
  before(async () => {
    const start = () => startRecorder((message) => (message.target.startsWith("/odd") ? odd(message) : plain(message)));
    ({ host, upstream, stop } = await startServing("native", { start }));
  });
  after(() => stop?.());

  /** One way or another to answer, right or wrong. */
  function odd({ method, target }) {
    const { one, below, happens } = dice;
    const body = one(["", "body", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", "x".repeat(below(300))]);
    const chunked = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    const head = one([
      `Content-Length: ${body.length}`,
      `Content-Length: ${body.length + one([-1, 1, 40])}`,
      `Content-Length: ${body.length}\r\nContent-Length: ${one([body.length, 0, 4])}`,
      `Content-Length: ${body.length}, ${body.length}`,
      "Content-Length: -1",
      "Content-Length: +4",
      "Transfer-Encoding: chunked",
      `Transfer-Encoding: chunked\r\nContent-Length: ${one([0, 4, body.length])}`,
      "Transfer-Encoding: identity",
      "Transfer-Encoding: xchunked",
      "Transfer-Encoding: chunked, chunked",
      "Transfer-Encoding:\r\n chunked",
      "Transfer-Encoding : chunked",
      "X: folded\r\n again",
      "X: a\0b",
      "Connection: content-length, x-a\r\nX-A: b\r\nContent-Length: 4",
      "Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nTrailer: X\r\nTransfer-Encoding: chunked",
      "",
    ]);
    const status = one(["200 OK", "200 OK", "204 No Content", "304 Not Modified", "101 Switching Protocols", "100 Continue", "103 Early Hints", "999 x", "20 x", "500 Broken"]);
    const first = one(["", "", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n".repeat(3)]);
    const version = one(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1"]);
    const payload = method === "HEAD" ? one(["", body]) : one([body, chunked, chunked.replaceAll("\r\n", "\n"), `${body.length.toString(16)};x="\r\n${body}\r\n0\r\nX-Trailer: y\r\n\r\n`]);
    const bytes = Buffer.from(`${first}${version} ${status}\r\n${head === "" ? "" : `${head}\r\n`}\r\n${payload}`, "latin1");
    // Something always ends it, or the client would wait for ever: and with good reason.
    if (happens(0.4)) return { bytes: mutated(dice, bytes, 1 + below(2)), closes: true };
    unspoiled.add(target);
    return { bytes, closes: true };
  }

  test("what the client gets is clean, and the answer to its own request", async () => {
    const { one } = chance(SEED + 2);
    const cases = Array.from({ length: CASES }, (_, number) => ({ number, method: one(["GET", "GET", "HEAD", "POST"]) }));
    const line = (method, target) => `${method} ${target} HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION.join(": ")}\r\n${method === "POST" ? "Content-Length: 0\r\n" : ""}\r\n`;
    const seen = {};
    await inParallel(cases, AT_ONCE, async ({ number, method }) => {
      const sent = line(method, `/odd${number}`) + line("GET", `/even${number}`);
      const bytes = await raw(host.port, sent);
      const shown = `case ${number}: ${JSON.stringify(bytes.toString("latin1").slice(0, 2000))}`;
      let answers;
      try {
        answers = [...messages("response", bytes, (index) => (index === 0 ? method : "GET"))].filter(({ status }) => status === undefined || status >= 200);
      } catch (error) {
        throw new Error(`${error.message}; ${shown}`);
      }
      assert.ok(answers.length <= 2, shown);
      const [first, second] = answers;
      if (first) seen[first.status] = (seen[first.status] ?? 0) + 1;
      if (second?.complete) assert.deepEqual([second.status, second.body.toString()], [200, `/even${number}`], shown);
      for (const { headers } of unspoiled.has(`/odd${number}`) ? answers : []) {
        for (const name of ["keep-alive", "proxy-connection", "x-a", "upgrade"]) assert.ok(!headers.some(([other]) => other === name), `${name}; ${shown}`);
      }
    });
    assert.ok(seen[200] > 0 && seen[502] > 0, JSON.stringify(seen));
  });

  /** All that comes until the host closes. */
  async function raw(port, bytes) {
    const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.setTimeout(30_000, () => socket.destroy(new Error(`nothing for 30 s after ${JSON.stringify(bytes)}`)));
    socket.end(bytes);
    const received = [];
    for await (const chunk of socket) received.push(chunk);
    return Buffer.concat(received);
  }
});
