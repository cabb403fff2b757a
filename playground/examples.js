// What the page can be tried with: each a gateway and a request, and what they show.
import { makeProject, signWithSecret, userClaims } from "./tokens.js";

const TOKEN = "dT6mQ0x-an-example-of-a-static-token-Yk3w";
const ADMIN_TOKEN = "an-example-of-an-admin-token-7Zp2";
const LEGACY_SECRET = "an-example-of-a-legacy-secret-for-HS256-tokens";
const UPSTREAM = { UPSTREAM_URL: "http://127.0.0.1:9000" };
const STATIC = { AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: TOKEN, ...UPSTREAM };
const HOST = ["Host", "api.example.com"];
const PROJECT_URL = "https://example.supabase.co";

const bearer = (token) => ["Authorization", `Bearer ${token}`];
const get = (target, ...headers) => ({ method: "GET", target, headers: [HOST, ...headers], peer: "203.0.113.7" });

/** One project for as long as the page is open. */
let project;

async function user(changes, { signer, settings = {}, target = "/v1/models" } = {}) {
  project ??= makeProject(PROJECT_URL);
  const { url, jwks, sign } = await project;
  const token = await (signer ? (await signer).sign : sign)(userClaims(url, changes));
  const known = { AUTH_PROVIDER: "supabase", SUPABASE_URL: url, SUPABASE_KEY: "sb_publishable_example", SUPABASE_JWKS: jwks };
  return { host: "native", settings: { ...known, ...UPSTREAM, ...settings }, request: get(target, bearer(token)) };
}

/** @type {{ name: string, about: string, make: () => Promise<object> }[]} */
export const EXAMPLES = [
  {
    name: "Static token",
    about: "The right token passes. What the client says of who it is, is replaced.",
    make: async () => ({ host: "native", settings: STATIC, request: get("/v1/models", bearer(TOKEN), ["X-User-Id", "root"]) }),
  },
  {
    name: "No credential",
    about: "Without a token the answer is 401, and says what is missing.",
    make: async () => ({ host: "native", settings: STATIC, request: get("/v1/models") }),
  },
  {
    name: "Supabase user",
    about: "A token signed in this page, with a key that was made when you opened it: the signature is checked for real.",
    make: () => user({}),
  },
  {
    name: "Expired",
    about: "The same token, ten minutes after its end. That much the client is told.",
    make: () => user({ iat: Math.floor(Date.now() / 1000) - 4200, exp: Math.floor(Date.now() / 1000) - 600 }),
  },
  {
    name: "Wrong audience",
    about: "A token for another audience. The client learns only that it is not valid; the log has the code.",
    make: () => user({ aud: "another-service" }),
  },
  {
    name: "Forged",
    about: "All claims are right, but it was signed with a key that is not the project’s.",
    make: () => user({}, { signer: makeProject(PROJECT_URL) }),
  },
  {
    name: "Legacy secret",
    about: "An HS256 token, checked with SUPABASE_JWT_SECRET.",
    make: async () => {
      const example = await user({}, { settings: { SUPABASE_JWT_SECRET: LEGACY_SECRET } });
      delete example.settings.SUPABASE_JWKS;
      return { ...example, request: get("/v1/models", bearer(await signWithSecret(LEGACY_SECRET, userClaims(PROJECT_URL)))) };
    },
  },
  {
    name: "Not an admin",
    about: "A user whose role is not in AUTH_ADMIN_ROLES, at /admin: known, but not allowed.",
    make: () => user({}, { settings: { AUTH_ADMIN_ROLES: "service_admin" }, target: "/admin/users" }),
  },
  {
    name: "Path trick",
    about: "It begins like the public /health, and a server behind may decode it to /admin. So it needs what /admin needs.",
    make: async () => ({ host: "native", settings: { ...STATIC, ADMIN_TOKEN }, request: get("/health/..%2fadmin", bearer(TOKEN)) }),
  },
  {
    name: "WebSocket",
    about: "A browser cannot set headers of a WebSocket, so the token comes as a subprotocol. The upstream does not see it.",
    make: async () => ({
      host: "native",
      settings: { ...STATIC, AUTH_WS_TOKEN_SOURCES: "header,protocol" },
      request: get("/v1/realtime", ["Connection", "Upgrade"], ["Upgrade", "websocket"], ["Sec-WebSocket-Version", "13"], ["Sec-WebSocket-Protocol", `bearer, ${TOKEN}, chat`]),
    }),
  },
  {
    name: "Preflight",
    about: "A page of an allowed origin asks whether it may send a request. The gateway answers by itself.",
    make: async () => ({
      host: "edge",
      settings: { ...STATIC, CORS_ORIGINS: "https://app.example.com" },
      request: { ...get("/v1/models", ["Origin", "https://app.example.com"], ["Access-Control-Request-Method", "POST"], ["Access-Control-Request-Headers", "authorization, content-type"]), method: "OPTIONS" },
    }),
  },
  {
    name: "Forward-auth",
    about: "Another proxy asks about a request that it describes in headers, and serves it itself if the answer is yes.",
    make: async () => ({
      host: "native",
      settings: STATIC,
      request: { ...get("/.auth/verify", bearer(TOKEN), ["X-Forwarded-Method", "DELETE"], ["X-Forwarded-Uri", "/v1/files/7"]), scheme: "http", peer: "127.0.0.1" },
    }),
  },
];
