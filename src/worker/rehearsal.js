// Requests that nobody sent, judged before the first real one comes.

const URL = "https://rehearsal.invalid";
const TOKEN = "rehearsal-0123456789-0123456789-012345";

/** A JWT for which everything but its signature speaks. */
const CLAIMS = { iss: `${URL}/auth/v1`, aud: "authenticated", exp: 4102444800, sub: "0", role: "authenticated" };
const JWT = [...[{ alg: "HS256" }, CLAIMS].map((part) => btoa(JSON.stringify(part)).replace(/=+$/, "")), "A".repeat(43)].join(".");

/** Settings that nobody has. */
export const SETTINGS = {
  UPSTREAM_URL: URL,
  LOG_LEVEL: "error",
  WORKER_AUTH_TOKEN: TOKEN,
  SUPABASE_URL: URL,
  SUPABASE_KEY: "sb_publishable_rehearsal",
  SUPABASE_JWT_SECRET: "rehearsal".repeat(4),
  AUTH_ADMIN_ROLES: "none",
};

/** One that passes, and two that are refused: as `HEAD`, since no body can be made before there is a real request. */
const SCENES = [
  ["static", "GET", { authorization: `Bearer ${TOKEN}` }],
  ["static", "HEAD", {}],
  ["supabase", "HEAD", { authorization: `Bearer ${JWT}` }],
];

/**
 * V8 compiles a function of WebAssembly when it is first called. What most requests take is called here, so that this happens as the
 * isolate starts, which on Cloudflare is while its client still shakes hands for TLS, and not while an answer is waited for.
 * @param {typeof import("./gateway.js")} gateway
 */
export function rehearse(gateway) {
  for (const [AUTH_PROVIDER, method, headers] of SCENES) {
    try {
      gateway.judge(new Request(`${URL}/`, { method, headers }), { ...SETTINGS, AUTH_PROVIDER }, { waitUntil() {} });
    } catch {
      // Then the first request compiles what it needs.
    } finally {
      // Nothing is left but compiled code: nobody is ever judged by an instance that has read these settings. Should this fail, nobody
      // may catch it: the Worker must not start then.
      gateway.__wbg_reset_state();
    }
  }
}
