// Requests and responses of Node's own servers, for Express, Fastify and whatever else is built on them.

/** A host as it stands in a URL. What a client says may be anything. */
const AUTHORITY = /^[\w.-]+(:\d+)?$|^\[[\da-f:.]+\](:\d+)?$/i;

/** What frames a body or belongs to the connection: no header of these says who somebody is, and handlers need them. */
const FRAMING = new Set(["connection", "content-length", "host", "transfer-encoding", "expect", "te", "trailer", "keep-alive"]);

const SUBPROTOCOL = "sec-websocket-protocol";

/** Header lines as they came, one by one: two of the same name stay two. */
class HeaderLines {
  #lines;

  constructor(lines) {
    this.#lines = lines;
  }

  *[Symbol.iterator]() {
    yield* this.#lines;
  }

  forEach(body) {
    for (const [name, value] of this.#lines) body(value, name);
  }

  has(name) {
    return this.#lines.some(([other]) => other === name.toLowerCase());
  }
}

/**
 * What a gate checks of a request of Node's. Its URL is what the client sent, byte by byte: a `Request` would resolve `/admin/../health`
 * into something else than what a router sees.
 */
export function fromNode(req) {
  const { rawHeaders, socket } = req;
  const lines = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at].toLowerCase();
    // HTTP/2 says there what HTTP/1 says in its first line.
    if (!name.startsWith(":")) lines.push([name, rawHeaders[at + 1]]);
  }
  // An authority that contradicts `host` counts as a second one, and two are refused.
  const authority = req.headers[":authority"];
  if (authority !== undefined && !lines.some(([name, value]) => name === "host" && value.toLowerCase() === authority.toLowerCase())) lines.push(["host", authority]);
  const host = lines.find(([name]) => name === "host")?.[1] ?? "";
  // Connect, Express and Fastify cut off or rewrite `url`, and keep the original.
  const target = req.originalUrl ?? req.url;
  const origin = `${socket.encrypted ? "https" : "http"}://${AUTHORITY.test(host) ? host : "localhost"}`;
  return {
    method: req.method,
    // Without a slash it is a whole URL, or `*`: no path that a gate could judge, so it is given none.
    url: target.startsWith("/") ? origin + target : origin,
    headers: new HeaderLines(lines),
    // HTTP/1 frames a body by a header.
    body: req.httpVersionMajor >= 2 && !req.stream.endAfterHeaders ? req : null,
    // Of a socket in the file system, or one that is closed by now: not that of this machine.
    peer: socket.remoteAddress ?? "unknown",
    // Hardly a client speaks HTTP/1.0, but nginx does to its upstreams, with a `Host` that looks local.
    forwarded: req.httpVersionMajor === 1 && req.httpVersionMinor === 0,
  };
}

/** Answers a request of Node's, or an upgrade whose socket is all there is, by a response of the gate. */
export async function answer(response, to) {
  const body = Buffer.from(await response.arrayBuffer());
  if (typeof to.writeHead === "function") {
    to.writeHead(response.status, Object.fromEntries(response.headers));
    to.end(body);
    return;
  }
  // Nobody else listens any more, and an error that nobody hears of ends the process.
  to.on("error", () => to.destroy());
  const headers = [...response.headers, ["content-length", String(body.length)], ["connection", "close"]];
  const head = [`HTTP/1.1 ${response.status} ${response.statusText}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  to.end(Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`, "latin1"), body]));
}

/**
 * Lets an allowed request on: with its identity as `req.identity`, and with nothing in its headers and `req.url` that only the gate may
 * say or know.
 */
export function admit(req, res, decision) {
  const { userId, tokenType, role, headers, url } = decision;
  const came = fromNode(req);
  const sent = new Headers([...came.headers]);
  const dropped = [...sent.keys()].filter((name) => !headers.has(name) && !FRAMING.has(name));
  const set = new Map([...headers].filter(([name, value]) => sent.get(name) !== value));
  // A token was offered as one: what is agreed upon is the word before it.
  if (sent.get(SUBPROTOCOL) !== headers.get(SUBPROTOCOL)) set.set(SUBPROTOCOL, "bearer");
  rewrite(req, new Set(dropped), set);
  // And here it was in the query.
  if (url !== came.url) req.url = url.slice(url.indexOf("/", url.indexOf("://") + 3));
  req.identity = { userId, tokenType, role };
  for (const [name, value] of res ? decision.finish(new Response()).headers : []) res.appendHeader(name, value);
}

/**
 * Drops and sets headers in every form in which Node has them; handlers read any of these.
 * @param {Set<string>} dropped names in lower case, as in `set`
 * @param {Map<string, string>} set
 */
function rewrite({ headers, headersDistinct = {}, rawHeaders }, dropped, set) {
  for (const name of dropped) {
    delete headers[name];
    delete headersDistinct[name];
  }
  for (const [name, value] of set) {
    headers[name] = value;
    headersDistinct[name] = [value];
  }
  const lines = [...set];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at].toLowerCase();
    if (!dropped.has(name) && !set.has(name)) lines.push([rawHeaders[at], rawHeaders[at + 1]]);
  }
  rawHeaders.splice(0, rawHeaders.length, ...lines.flat());
}
