// An upstream of bare sockets: it says exactly the bytes that a test wants said, and may be careless about bodies.
import net from "node:net";

import { listen } from "./servers.mjs";

/** The bytes of an answer that says which request it is for. */
export const echo = ({ method, target }) => `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n${method === "HEAD" ? "" : target}`;

/** What a server does that expects no body of these methods: it takes the body for the next request. */
export const ONLY_OF_POST = ({ method }) => !["GET", "HEAD", "OPTIONS", "DELETE"].includes(method);

/**
 * @param {(request: RawRequest) => Promise<void> | void} answer writes to `request.socket`
 * @param {{readsBody?: (request: RawRequest) => boolean}} options
 * @typedef {{method: string, target: string, headers: [string, string][], body: Buffer, socket: net.Socket, input: Input}} RawRequest
 */
export async function startRawUpstream(answer, { readsBody = () => true } = {}) {
  const requests = [];
  const open = new Set();
  let connections = 0;
  const server = net.createServer({ noDelay: true }, async (socket) => {
    open.add(socket);
    connections += 1;
    socket.on("error", () => {}).on("close", () => open.delete(socket));
    const input = new Input(socket);
    for (;;) {
      const head = await input.until("\r\n\r\n");
      if (head === null) return socket.end();
      const request = { ...parseHead(head), socket, input };
      requests.push(request);
      if (request.target === undefined) return socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
      request.body = readsBody(request) ? await input.body(request.headers) : Buffer.alloc(0);
      await answer(request);
    }
  });
  return {
    ...(await listen(server)),
    requests,
    /** The connections that the gateway has to it at the moment. */
    open,
    /** How many there were so far. */
    connections: () => connections,
  };
}

function parseHead(head) {
  const [requestLine, ...lines] = head.toString("latin1").split("\r\n");
  const [method, target] = requestLine.split(" ");
  const headers = lines.filter(Boolean).map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  return { method, target, headers };
}

/** What came in on a socket and has not been read yet. */
class Input {
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};

  constructor(socket) {
    socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    for (const event of ["end", "close"]) {
      socket.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
  }

  /** As many bytes as `measure` finds there, or null if the connection ended before. */
  async #take(measure) {
    for (;;) {
      const length = measure(this.#bytes);
      if (length >= 0 && length <= this.#bytes.length) {
        const taken = this.#bytes.subarray(0, length);
        this.#bytes = this.#bytes.subarray(length);
        return taken;
      }
      if (this.#ended) return null;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  until(marker) {
    return this.#take((bytes) => {
      const at = bytes.indexOf(marker);
      return at < 0 ? -1 : at + marker.length;
    });
  }

  /** Waits for anything more to come, and leaves it there. */
  more() {
    return this.#take((bytes) => (bytes.length > 0 ? 0 : -1));
  }

  async body(headers) {
    const { "content-length": length, "transfer-encoding": coding } = Object.fromEntries(headers);
    if (coding === undefined) return this.#take(() => Number(length ?? 0));
    const chunks = [];
    for (;;) {
      const size = Number.parseInt(await this.until("\r\n"), 16);
      const chunk = await this.#take(() => size + 2);
      if (chunk === null) return null;
      if (size === 0) return Buffer.concat(chunks);
      chunks.push(chunk.subarray(0, size));
    }
  }
}
