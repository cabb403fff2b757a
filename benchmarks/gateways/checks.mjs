// Before anything is measured: a gateway that refuses less, or hands on less, does less work, and would win for it.
import http from "node:http";

import { BAD_STATIC, STATIC, badTokens, goodTokens } from "./tokens.mjs";

const FORGED = { "x-user-id": "forged", "x-auth-token-type": "forged", "x-auth-role": "forged", "x-real-ip": "6.6.6.6", "x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https", "x-forwarded-host": "forged", forwarded: "for=6.6.6.6" };

export function ask(port, path, headers) {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port, path, headers, agent: false, timeout: 10_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
    request.on("error", reject).on("timeout", () => request.destroy(new Error(`${port} does not answer`)));
  });
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });

/** Throws if what is right is refused, or the API learns something else than it should. Returns the bad tokens that pass. */
export async function check({ port, path = "/echo", auth, asksAt, streams }) {
  const kind = asksAt ?? auth;
  const good = kind === "none" || kind === "static" ? STATIC : goodTokens(kind, 1)[0];
  const description = path === "/.auth/verify" ? { "x-forwarded-method": "GET", "x-forwarded-uri": "/v1/models" } : {};
  // What only streams has no echo; what only judges hands nothing on.
  if (!streams) {
    const answer = await ask(port, path, { ...(path === "/echo" && FORGED), ...description, ...bearer(good) });
    if (answer.status !== 200) throw new Error(`a good token is answered ${answer.status}`);
    const found = path === "/echo" ? answer.body : `${answer.headers["x-user-id"]}|${answer.headers["x-auth-token-type"]}|${answer.headers["x-auth-role"] ?? ""}`;
    const expected = identity(kind, good) + (path === "/echo" ? `|127.0.0.1|http|127.0.0.1:${port}||` : "");
    if (found !== expected) throw new Error(`the API learns ${found} instead of ${expected}`);
  }
  if (kind === "none") return [];

  const bad = { "no token": {}, "another scheme": { authorization: `Basic ${good}` } };
  for (const [name, token] of Object.entries(kind === "static" ? BAD_STATIC : badTokens(kind))) bad[name] = bearer(token);
  const passed = [];
  for (const [name, headers] of Object.entries(bad)) {
    const { status } = await ask(port, path, { ...description, ...headers });
    if (status !== 401 && status !== 403) passed.push(`${name} (${status})`);
  }
  return passed;
}

function identity(kind, token) {
  if (kind === "none" || kind === "static") return `1|${kind}|`;
  return `${JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub}|user|authenticated`;
}
