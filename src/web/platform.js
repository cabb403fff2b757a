// The few things that are cheaper said in JavaScript: what would be a dozen crossings from WebAssembly is one.

/**
 * Method, URL, what else is known ("body" follows, a proxy "forwarded" it), who connected, and then name and value of each header, a line
 * each. No header may hold a line feed (RFC 9110, section 5.5), and no method or URL does.
 * @param {Request} request or, from embedders, what looks like one; only such tells who connected, and how
 */
export function snapshot(request) {
  const { headers } = request;
  const isPlatforms = request instanceof Request;
  const peer = isPlatforms ? "" : peerOf(request);
  // Where a header frames the body, the core sees it there. (A body of no length is a stream here all the same.)
  const unframed = !headers.has("content-length") && !headers.has("transfer-encoding") && request.body !== null;
  const known = `${unframed ? "body " : ""}${!isPlatforms && request.forwarded ? "forwarded" : ""}`;
  let text = `${request.method}\n${request.url}\n${known}\n${peer}`;
  headers.forEach((value, name) => {
    text += `\n${name}\n${value}`;
  });
  return text;
}

/** What any `Request` consists of. */
const NAME = /^[\w!#$%&'*+.^`|~-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * Who connected, of what looks like a request and is as sound as one.
 * @param {{method: string, url: string, headers: Headers, peer?: string}} request
 */
function peerOf({ method, url, headers, peer = "" }) {
  const isText = (text) => typeof text === "string" && !text.includes("\n");
  let isSound = isText(method) && isText(url) && isText(peer);
  headers.forEach((value, name) => {
    isSound &&= NAME.test(name) && VALUE.test(value);
  });
  if (!isSound) throw new TypeError("not a request");
  return peer;
}

/**
 * What `cache: "no-store"` tells Cloudflare's network. That itself would also add `Cache-Control: no-cache` and `Pragma` to what the
 * client sent, for which some servers answer no request with a 304.
 */
const NO_STORE = { cacheTtl: -1, cacheLevel: "bypass" };

/** Methods that only read (RFC 9110, section 9.2.1): such a request may be sent twice. */
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * What sends a request on, its body streamed, and gives back the response, as it came where nothing is to be changed. A
 * request that reached a Worker leaves redirects to the client, and its copy does so too. A safe one whose connection is lost
 * before the response begins is sent once more, within the same time: a kept connection may end just as it is used.
 * @param {Request} request
 * @param {string} url
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 * @param {string} finish as for `finished`
 * @param {number} timeout milliseconds to the first byte of the answer; 0 for no limit
 * @returns {(unavailable: (error: string) => Response, timedOut: () => Response) => Promise<Response>}
 */
export function forward(request, url, dropped, set, finish, timeout) {
  return async (unavailable, timedOut) => {
    const cut = new AbortController();
    const send = async () => fetch(onward(request, url, dropped, set), { signal: cut.signal });
    // workerd has a body of no length for `Content-Length: 0`.
    const isRepeatable = SAFE.has(request.method) && (request.body === null || request.headers.get("content-length") === "0");
    let response;
    try {
      const answer = send().catch((error) => (isRepeatable && error.retryable ? send() : Promise.reject(error)));
      response = await (timeout === 0 ? answer : within(answer, timeout));
      if (response === undefined) {
        cut.abort();
        response = timedOut();
      }
    } catch (error) {
      response = unavailable(String(error));
    }
    return finished(response, finish);
  };
}

/**
 * A request as it goes on, its body streamed. Cloudflare's cache is not used: it would give the answer to one user to another.
 * @param {Request} request
 * @param {string} url
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 */
export function onward(request, url, dropped, set) {
  const outgoing = new Request(new Request(url, request), { cf: { ...request.cf, ...NO_STORE } });
  applyHeaders(outgoing.headers, dropped, set);
  return outgoing;
}

/**
 * A response as the client gets it. A WebSocket has to be handed over, or it would not survive the copy.
 * @param {Response} response
 * @param {string} finish the subprotocol of an upgrade, whether the gateway says who may read it, and who; a line each, or nothing
 */
export function finished(response, finish) {
  if (finish === "") return response;
  const [subprotocol, owner, origin] = finish.split("\n");
  const { headers, status, webSocket } = response;
  const copy = webSocket ? new Response(null, { status, headers, webSocket }) : new Response(response.body, response);
  if (webSocket && subprotocol !== "") copy.headers.set("sec-websocket-protocol", subprotocol);
  if (owner !== "") {
    if (origin === "") copy.headers.delete("access-control-allow-origin");
    else copy.headers.set("access-control-allow-origin", origin);
    copy.headers.append("vary", "Origin");
  }
  return copy;
}

/**
 * @param {number} status
 * @param {string} headers names and values, a line each
 * @param {string | undefined} body
 */
export function respond(status, headers, body) {
  return new Response(body ?? null, { status, headers: pairs(headers) });
}

/**
 * What an embedder is told of a token.
 * @param {boolean} allowed
 * @param {string} known user id, token type and role, a line each, or nothing
 * @param {Response | undefined} response
 */
export function identity(allowed, known, response) {
  const [userId, tokenType, role] = known.split("\n");
  return { allowed, userId: userId || null, tokenType: tokenType ?? null, role: role || null, response: response ?? null };
}

/**
 * What an embedder is told of a request. `headers` are those for the upstream, made of the client's; a refusal has none.
 * @param {ReturnType<typeof identity>} identity
 * @param {Request} request
 * @param {string} target path and query in place of its own, or nothing
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 * @param {string} finish as for `finished`
 */
export function withHeaders(identity, request, target, dropped, set, finish) {
  const headers = new Headers(identity.allowed ? request.headers : undefined);
  applyHeaders(headers, dropped, set);
  const url = target === "" ? request.url : new URL(request.url).origin + target;
  return { ...identity, headers, url, finish: (response) => finished(response, finish) };
}

/** Whether this is Cloudflare's runtime, where no client can set what its network says in headers. */
export function onCloudflare() {
  return globalThis.navigator?.userAgent === "Cloudflare-Workers";
}

/**
 * @param {string} text names and values, a line each
 * @returns {[string, string][]}
 */
function pairs(text) {
  const lines = text.split("\n");
  const found = [];
  for (let at = 0; at + 1 < lines.length; at += 2) found.push([lines[at], lines[at + 1]]);
  return found;
}

/**
 * @param {Headers} headers
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 */
function applyHeaders(headers, dropped, set) {
  if (dropped !== "") for (const name of dropped.split("\n")) headers.delete(name);
  for (const [name, value] of pairs(set)) headers.set(name, value);
}

/**
 * One exchange with the project. Redirects are not followed: they would carry the token along, or bring somebody else's keys.
 * @param {typeof fetch | undefined} send what does as `fetch` does, and need not heed the signal
 * @param {string} url
 * @param {string} headers names and values, a line each
 * @param {number} timeout milliseconds for all of it
 * @param {number} limit bytes of the body
 * @returns {Promise<[number, string | null, Uint8Array]>} status, `Cache-Control` and body
 */
export async function exchange(send, url, headers, timeout, limit) {
  const cut = new AbortController();
  try {
    const answer = await within(receive(send ?? fetch, url, headers, cut.signal, limit), timeout);
    if (answer === undefined) throw new Error("no answer in time");
    return answer;
  } finally {
    // What is still under way is of no use any more.
    cut.abort();
  }
}

async function receive(send, url, headers, signal, limit) {
  const response = await send(url, { headers: pairs(headers), redirect: "manual", signal });
  const chunks = [];
  let length = 0;
  // Not every browser iterates over streams.
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
    length += part.value.length;
    if (length > limit) throw new Error("the answer is too long");
    chunks.push(part.value);
  }
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return [response.status, response.headers.get("cache-control"), body];
}

/**
 * The promise, or nothing after that time.
 * @param {Promise<unknown>} promise
 * @param {number} milliseconds
 */
export async function within(promise, milliseconds) {
  let timer;
  const expiry = new Promise((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  try {
    return await Promise.race([promise, expiry]);
  } finally {
    clearTimeout(timer);
  }
}

const ALGORITHMS = {
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  RS384: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  RS512: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  PS256: { name: "RSA-PSS", hash: "SHA-256", saltLength: 32 },
  EdDSA: { name: "Ed25519" },
};

/**
 * A key, and what is done with it.
 * @param {string} jwk
 * @param {string} name
 * @returns {Promise<{key: CryptoKey, algorithm: object}>}
 */
export async function importKey(jwk, name) {
  const algorithm = ALGORITHMS[name];
  return { algorithm, key: await crypto.subtle.importKey("jwk", JSON.parse(jwk), algorithm, false, ["verify"]) };
}

/**
 * @param {Awaited<ReturnType<typeof importKey>>} imported
 * @param {Uint8Array} signature
 * @param {Uint8Array} message
 * @returns {Promise<boolean>}
 */
export function verify({ key, algorithm }, signature, message) {
  // Such a one is wrong (RFC 8032, section 5.1.7). workerd throws instead, which would pass for an outage.
  if (algorithm.name === "Ed25519" && signature.length !== 64) return Promise.resolve(false);
  return crypto.subtle.verify(algorithm, key, signature, message);
}
