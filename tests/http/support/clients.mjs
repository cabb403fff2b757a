// What clients of Node's own, and those of `ws`, are told.
import assert from "node:assert/strict";
import { once } from "node:events";

/** Reads the answer to a request of `node:http` or `node:https` to its end. */
export async function answerTo(outgoing) {
  const [response] = await once(outgoing, "response");
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() };
}

/** Each event of the upstream is with the client, which asked for `/events`, before the next one exists. */
export async function hearsEachEvent(outgoing, upstream) {
  const [response] = await once(outgoing, "response");
  response.setEncoding("utf8");
  for (const event of ["one", "two", "three"]) {
    upstream.push(event);
    assert.deepEqual(await once(response, "data"), [`data: ${event}\n\n`]);
  }
  upstream.push(null);
  await once(response, "end");
}

const TEXT = ["héllo", false];
const BINARY = [Buffer.alloc(200_000, 7), true];

/** What is sent comes back as it is: text as text, and binary as binary. */
export async function echoes(socket, messages = [TEXT, BINARY]) {
  for (const [sent, binary] of messages) {
    const message = once(socket, "message");
    socket.send(sent, { binary });
    const [data, isBinary] = await message;
    assert.equal(isBinary, binary);
    assert.ok(Buffer.from(sent).equals(data));
  }
}

/** A WebSocket opens, carries messages both ways, and closes. */
export async function carriesMessages(socket) {
  await once(socket, "open");
  await echoes(socket);
  socket.close();
  await once(socket, "close");
}
