// Reads HTTP/1.1 as RFC 9112 writes it, and takes nothing that another reader could read in another way.
const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const REQUEST_LINE = new RegExp(`^(${TOKEN}) ([!-~]+) HTTP/1\\.1$`);
// Of a code beyond 599 clients think what they like.
const STATUS_LINE = /^HTTP\/1\.1 ([1-9]\d\d) [\t\x20-\x7e\x80-\xff]*$/;
const FIELD = new RegExp(`^(${TOKEN}):[ ]?((?:[!-~\\x80-\\xff](?:[\\t !-~\\x80-\\xff]*[!-~\\x80-\\xff])?)?)$`);

/** What the bytes are not. */
export class Unclean extends Error {}

/**
 * One message after the other, out of the bytes of one connection: `{line, headers, body, complete, length}`.
 * @param {"request" | "response"} kind
 * @param {(index: number) => string} methodOf what the response at this place answers
 */
export function* messages(kind, bytes, methodOf = () => "GET") {
  let at = 0;
  for (let index = 0; at < bytes.length; ) {
    const message = read(kind, bytes.subarray(at), methodOf(index));
    at += message.length;
    yield message;
    if (kind === "request" || message.status >= 200) index += 1;
    if (!message.complete) return;
  }
}

function read(kind, bytes, method) {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return { line: bytes.toString("latin1"), headers: [], body: Buffer.alloc(0), complete: false, length: bytes.length };
  const [line, ...fields] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const start = (kind === "request" ? REQUEST_LINE : STATUS_LINE).exec(line);
  if (!start) throw new Unclean(`the first line is ${JSON.stringify(line)}`);
  const headers = fields.map(field);
  const values = (name) => headers.filter(([other]) => other === name).map(([, value]) => value);
  const framing = { lengths: values("content-length"), codings: values("transfer-encoding") };
  const common = kind === "request" ? { method: start[1], target: start[2] } : { status: Number(start[1]) };
  const message = { line, headers, values, ...common };
  return { ...message, ...bodyOf(message, framing, bytes, end + 4, kind === "response" && hasNone(message.status, method)) };
}

/** RFC 9110, section 6.4.1. */
const hasNone = (status, method) => method === "HEAD" || status < 200 || status === 204 || status === 304;

function field(line) {
  const parts = FIELD.exec(line);
  if (!parts) throw new Unclean(`a header line is ${JSON.stringify(line)}`);
  return [parts[1].toLowerCase(), parts[2]];
}

function bodyOf(message, { lengths, codings }, bytes, start, isBodiless) {
  if (lengths.length + codings.length > 1) throw new Unclean(`more than one framing: ${JSON.stringify(message.headers)}`);
  if (lengths.some((length) => !/^(0|[1-9]\d*)$/.test(length))) throw new Unclean(`the length is ${lengths}`);
  if (codings.some((coding) => coding !== "chunked")) throw new Unclean(`the coding is ${codings}`);
  const empty = Buffer.alloc(0);
  if (isBodiless || (message.status === undefined && lengths.length + codings.length === 0)) return { body: empty, complete: true, length: start };
  if (codings.length === 1) return chunks(bytes, start);
  if (lengths.length === 0) return { body: bytes.subarray(start), complete: true, endsWithConnection: true, length: bytes.length };
  const length = Number(lengths[0]);
  const body = bytes.subarray(start, start + length);
  return { body, complete: body.length === length, length: start + body.length };
}

function chunks(bytes, start) {
  const body = [];
  for (let at = start; ; ) {
    const unfinished = () => ({ body: Buffer.concat(body), complete: false, length: bytes.length });
    const end = bytes.indexOf("\r\n", at);
    if (end < 0) return unfinished();
    const line = bytes.subarray(at, end).toString("latin1");
    if (!/^[0-9A-Fa-f]{1,8}$/.test(line)) throw new Unclean(`a chunk begins with ${JSON.stringify(line)}`);
    const size = Number.parseInt(line, 16);
    at = end + 2;
    if (size > 0) {
      body.push(bytes.subarray(at, at + size));
      if (bytes.length < at + size + 2) return unfinished();
      if (bytes.subarray(at + size, at + size + 2).toString("latin1") !== "\r\n") throw new Unclean("a chunk does not end where it says");
      at += size + 2;
      continue;
    }
    const trailers = [];
    for (;;) {
      const end = bytes.indexOf("\r\n", at);
      if (end < 0) return unfinished();
      if (end === at) return { body: Buffer.concat(body), complete: true, trailers, length: at + 2 };
      trailers.push(field(bytes.subarray(at, end).toString("latin1")));
      at = end + 2;
    }
  }
}
