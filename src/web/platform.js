// The few things that are cheaper said in JavaScript: what would be a dozen crossings from WebAssembly is one.

/**
 * Method, URL, whether there is a body, and then name and value of each header, a line each. No header may hold a line feed (RFC 9110,
 * section 5.5), and no method or URL does.
 * @param {Request} request
 */
export function snapshot(request) {
  const { headers } = request;
  // Where a header frames the body, the core sees it there. (A body of no length is a stream here all the same.)
  const unframed = !headers.has("content-length") && !headers.has("transfer-encoding") && request.body !== null;
  let text = `${request.method}\n${request.url}\n${unframed ? "body" : ""}`;
  headers.forEach((value, name) => {
    text += `\n${name}\n${value}`;
  });
  return text;
}

/**
 * Sends a request on, its body streamed, and gives back the response as it came: a WebSocket would not survive a copy.
 * A request that reached a Worker leaves redirects to the client, and its copy does so too.
 * @param {Request} request
 * @param {string} url
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 * @param {number} timeout milliseconds to the first byte of the answer; 0 for no limit
 * @returns {Promise<Response | undefined>} nothing after the time-out
 */
export async function forward(request, url, dropped, set, timeout) {
  const outgoing = new Request(url, request);
  applyHeaders(outgoing.headers, dropped, set);
  const answer = fetch(outgoing);
  if (timeout === 0) return answer;
  let timer;
  const expiry = new Promise((resolve) => {
    timer = setTimeout(resolve, timeout);
  });
  try {
    return await Promise.race([answer, expiry]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {number} status
 * @param {string} headers names and values, a line each
 * @param {string | undefined} body
 */
export function respond(status, headers, body) {
  const lines = headers.split("\n");
  const pairs = [];
  for (let at = 0; at + 1 < lines.length; at += 2) pairs.push([lines[at], lines[at + 1]]);
  return new Response(body ?? null, { status, headers: pairs });
}

/**
 * What an embedder is told. `headers` are those for the upstream, made of the client's.
 * @param {Request} request
 * @param {boolean} allowed
 * @param {string | undefined} userId
 * @param {string | undefined} tokenType
 * @param {string | undefined} role
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 * @param {Response | undefined} response
 */
export function decision(request, allowed, userId, tokenType, role, dropped, set, response) {
  const headers = new Headers(allowed ? request.headers : undefined);
  applyHeaders(headers, dropped, set);
  return { allowed, userId: userId ?? null, tokenType: tokenType ?? null, role: role ?? null, headers, response: response ?? null };
}

/**
 * @param {Headers} headers
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 */
function applyHeaders(headers, dropped, set) {
  if (dropped !== "") for (const name of dropped.split("\n")) headers.delete(name);
  const lines = set.split("\n");
  for (let at = 0; at + 1 < lines.length; at += 2) headers.set(lines[at], lines[at + 1]);
}
