// A Supabase project as the gateway sees it: its key set and its user endpoint, over real HTTP, with every way to fail.
import { EventEmitter, once } from "node:events";
import http from "node:http";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from "jose";

import { stopper } from "./servers.mjs";

export const API_KEY = "sb_publishable_test-0123456789-abcdefgh";

const JWKS_PATH = "/auth/v1/.well-known/jwks.json";
const USER_PATH = "/auth/v1/user";

/** What the real servers say. A refused API key is answered by the gateway in front, everything else by the auth server. */
const WORDS = {
  bad_api_key: [401, { message: "Invalid API key", hint: "Double check your Supabase `anon` or `service_role` API key." }],
  no_api_key: [401, { message: "No API key found in request", hint: "No `apikey` request header or url param was found." }],
  no_authorization: [401, { code: 401, error_code: "no_authorization", msg: "This endpoint requires a valid Bearer token" }],
  bad_jwt_401: [401, { code: 401, error_code: "bad_jwt", msg: "invalid JWT: unable to parse or verify signature" }],
  bad_jwt: [403, { code: 403, error_code: "bad_jwt", msg: "invalid JWT: unable to parse or verify signature, signature is invalid" }],
  session_not_found: [403, { code: 403, error_code: "session_not_found", msg: "Session from session_id claim in JWT does not exist" }],
  user_banned: [403, { code: 403, error_code: "user_banned", msg: "User is banned" }],
  user_not_found: [404, { code: 404, error_code: "user_not_found", msg: "User from sub claim in JWT does not exist" }],
  bad_request: [400, { code: 400, error_code: "validation_failed", msg: "Could not parse request" }],
  429: [429, { code: 429, error_code: "over_request_rate_limit", msg: "Request rate limit reached" }, { "retry-after": "3600" }],
  404: [404, { code: 404, msg: "Not Found" }],
  500: [500, { code: 500, error_code: "unexpected_failure", msg: "Unexpected failure, please check server logs for more information" }],
  502: [502, { message: "An invalid response was received from the upstream server" }],
  503: [503, { message: "name resolution failed" }],
};

/**
 * Ways to answer, besides the words above, each for either endpoint:
 * `ok`; `slow`: right, after `delay` ms; `held`: right, once `release()` is called; `hang`: never; `stall`: the head and a part of the body;
 * `reset`: the connection breaks; `cut`: it breaks within the body; `empty`: 200 and nothing; `garbage`: 200 and a web page; `redirect`:
 * to another path, where everything is right; `oversized`: right, but for 64 MB of white space. A function is called with `(response, entry)`.
 * @typedef {{mode: string | ((response: http.ServerResponse, entry: object) => void), delay: number, calls: number, requests: object[], open: number, peak: number}} Endpoint
 */

/**
 * @param {{keys?: {jwk: object}[], secret?: string, apiKeys?: string[]}} options `keys` are published; without any it is a legacy
 * project, which publishes an empty set. `secret`: what its HS256 tokens are signed with.
 */
export async function startSupabase({ keys = [], secret, apiKeys = [API_KEY] } = {}) {
  const events = new EventEmitter();
  const endpoint = () => ({ mode: "ok", delay: 200, calls: 0, requests: [], open: 0, peak: 0 });
  const jwks = { ...endpoint(), cacheControl: "public, max-age=600", document: undefined };
  const user = { ...endpoint(), changes: {} };
  /** Requests to anywhere else: there must be none. */
  const others = [];
  const held = new Set();
  let published = keys.map(({ jwk }) => jwk);
  /** What the server itself verifies with; not all of it needs to be published. */
  let known = [...published];
  /** How much of an endless document was taken. */
  let poured = 0;

  const document = () => jwks.document ?? JSON.stringify({ keys: published });
  const send = (response, status, body, headers = {}) => {
    const bytes = Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
    response.writeHead(status, { "content-type": "application/json", "content-length": bytes.length, ...headers }).end(bytes);
  };

  async function judge(entry) {
    const { apikey, authorization } = entry.headers;
    if (!apikey) return WORDS.no_api_key;
    if (!apiKeys.includes(apikey)) return WORDS.bad_api_key;
    const token = /^Bearer (\S+)$/i.exec(authorization ?? "")?.[1];
    if (!token) return WORDS.no_authorization;
    try {
      const { payload } = await verify(token);
      return [200, { id: payload.sub, aud: "authenticated", role: payload.role ?? "", email: payload.email ?? "", is_anonymous: payload.is_anonymous ?? false, ...profile(), ...user.changes }];
    } catch {
      return WORDS.bad_jwt;
    }
  }

  async function verify(token) {
    const { alg, kid } = decodeProtectedHeader(token);
    if (alg === "HS256") {
      if (secret === undefined) throw new Error("no secret");
      return jwtVerify(token, Buffer.from(secret), { algorithms: ["HS256"], requiredClaims: ["sub", "exp"] });
    }
    const candidates = known.filter((jwk) => jwk.alg === alg && (kid === undefined || jwk.kid === kid));
    return jwtVerify(token, createLocalJWKSet({ keys: candidates }), { requiredClaims: ["sub", "exp"] });
  }

  const right = {
    jwks: async () => [200, document(), { "cache-control": jwks.cacheControl }],
    user: judge,
  };

  async function answer(which, place, entry, response) {
    const make = () => right[which](entry);
    if (typeof place.mode === "function") return place.mode(response, entry);
    switch (place.mode) {
      case "ok":
        return send(response, ...(await make()));
      case "slow":
        return setTimeout(async () => send(response, ...(await make())), place.delay);
      case "held":
        held.add(async () => send(response, ...(await make())));
        return;
      case "hang":
        return;
      case "stall": {
        const [status, body] = await make();
        response.writeHead(status, { "content-type": "application/json", "content-length": 10_000 });
        return response.write(typeof body === "string" ? body : JSON.stringify(body));
      }
      case "reset":
        return response.destroy();
      case "cut": {
        const [status, body, headers] = await make();
        const text = typeof body === "string" ? body : JSON.stringify(body);
        response.writeHead(status, { "content-type": "application/json", "content-length": text.length + 100, ...headers });
        return response.write(text, () => response.destroy());
      }
      case "empty":
        return send(response, 200, "");
      case "garbage":
        return send(response, 200, "<!doctype html><title>Project paused</title>", { "content-type": "text/html" });
      case "redirect":
        return response.writeHead(302, { location: `/elsewhere${entry.target}` }).end();
      case "oversized": {
        const [status, body, headers] = await make();
        const text = typeof body === "string" ? body : JSON.stringify(body);
        return pour(response, status, text, headers);
      }
      default: {
        const [status, body, headers] = WORDS[place.mode];
        return send(response, status, body, headers);
      }
    }
  }

  async function pour(response, status, text, headers) {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    const block = Buffer.alloc(1 << 18, " ");
    const closed = once(response, "close");
    poured = 0;
    while (poured < 64 << 20 && !response.destroyed) {
      poured += block.length;
      if (!response.write(block)) await Promise.race([once(response, "drain"), closed]);
    }
    response.end(text);
  }

  const server = http.createServer({ keepAliveTimeout: 60_000, maxHeaderSize: 1 << 18 }, (request, response) => {
    const entry = { method: request.method, target: request.url, headers: request.headers, rawHeaders: request.rawHeaders, at: Date.now() };
    request.resume();
    response.on("error", () => {});
    const which = { [JWKS_PATH]: "jwks", [USER_PATH]: "user" }[request.url];
    const place = { jwks, user }[which];
    if (!place || request.method !== "GET") {
      others.push(entry);
      // Whoever gets as far as this must be seen to have believed it.
      const wanted = request.url.endsWith("jwks.json") ? right.jwks() : Promise.resolve([200, { id: "follower" }]);
      return wanted.then((parts) => send(response, ...parts));
    }
    place.calls += 1;
    place.requests.push(entry);
    place.open += 1;
    place.peak = Math.max(place.peak, place.open);
    response.once("close", () => {
      place.open -= 1;
      events.emit("closed", which);
    });
    answer(which, place, entry, response).catch?.(() => response.destroy());
    events.emit(which, entry);
  });

  const down = stopper(server);
  const listen = async (port) => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  };
  await listen(0);
  const { port } = server.address();
  const url = `http://127.0.0.1:${port}`;

  return {
    url,
    port,
    issuer: `${url}/auth/v1`,
    jwks,
    user,
    others,
    events,
    poured: () => poured,
    /** Publishes exactly these keys, and verifies with no others. */
    publish(...keys) {
      published = keys.map(({ jwk }) => jwk);
      known = [...published];
    },
    add(key) {
      published = [...published, key.jwk];
      known = [...known, key.jwk];
    },
    remove(key) {
      published = published.filter((jwk) => jwk !== key.jwk);
      known = known.filter((jwk) => jwk !== key.jwk);
    },
    /** A key that the server signs with, and its key set does not show yet. */
    addUnpublished(key) {
      known = [...known, key.jwk];
    },
    /** Answers whatever is `held`. */
    release() {
      for (const go of held) go();
      held.clear();
    },
    /** Resolves when an endpoint is asked next. */
    asked: (which) => once(events, which),
    /** Nobody listens any more, until `up`. */
    down,
    up: () => listen(port),
    async stop() {
      if (!server.listening) return;
      await down();
    },
  };
}

/** What else the endpoint tells of a user. */
function profile() {
  const then = "2026-01-01T00:00:00.000000Z";
  return { phone: "", email_confirmed_at: then, confirmed_at: then, last_sign_in_at: then, app_metadata: { provider: "email" }, user_metadata: {}, identities: [], created_at: then, updated_at: then };
}
