// The few things that are cheaper said in JavaScript: what would be a dozen crossings from WebAssembly is one.

/**
 * Method, URL, and then name and value of each header, a line each. No header may hold a line feed (RFC 9110,
 * section 5.5), and no method or URL does.
 * @param {Request} request
 */
export function snapshot(request) {
  let text = `${request.method}\n${request.url}`;
  request.headers.forEach((value, name) => {
    text += `\n${name}\n${value}`;
  });
  return text;
}

/**
 * Sends a request on, its body streamed, and gives back the response as it came: a WebSocket would not survive a copy.
 * @param {Request} request
 * @param {string} url
 * @param {string} dropped names, a line each
 * @param {string} set names and values, a line each
 * @param {number} timeout milliseconds to the first byte of the answer; 0 for no limit
 * @returns {Promise<Response | undefined>} nothing after the time-out
 */
export async function forward(request, url, dropped, set, timeout) {
  const outgoing = new Request(url, request);
  const { headers } = outgoing;
  if (dropped !== "") for (const name of dropped.split("\n")) headers.delete(name);
  const lines = set.split("\n");
  for (let at = 0; at + 1 < lines.length; at += 2) headers.set(lines[at], lines[at + 1]);
  // The upstream's redirects are for the client to follow.
  const answer = fetch(outgoing, { redirect: "manual" });
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
