// The native host, in front of the API or asked by another proxy, with as many threads as it has cores: one.
import { built } from "../../../tools/paths.mjs";
import { KEYS, PROJECT, SECRET, STATIC } from "../tokens.mjs";

const provider = (auth) => (auth === "none" || auth === "static" ? auth : "supabase");

export const ours = {
  name: "nodetool-auth",
  missing: () => false,
  command({ port, auth, upstream }) {
    const { jwk } = KEYS[auth] ?? KEYS.ES256;
    const project = {
      SUPABASE_URL: PROJECT,
      SUPABASE_KEY: "sb_publishable_benchmark-0123456789",
      SUPABASE_JWKS: JSON.stringify({ keys: [jwk] }),
      ...(auth === "HS256" && { SUPABASE_JWT_SECRET: SECRET }),
      // Longer than a run: what is repeated is remembered, and what is fresh is more than fit.
      AUTH_CACHE_TTL: "3600",
    };
    const env = {
      ENV: "test",
      LOG_LEVEL: "warn",
      AUTH_PROVIDER: provider(auth),
      WORKER_AUTH_TOKEN: STATIC,
      AUTH_LISTEN: `127.0.0.1:${port}`,
      ...(upstream && { UPSTREAM_URL: `http://127.0.0.1:${upstream}` }),
      ...(provider(auth) === "supabase" && project),
    };
    return { command: [built("release", "nodetool-auth")], env };
  },
};

/** The least that hyper can do, to answer or to send on: what ours builds on. It asks for nothing, and sends on what it was sent. */
export const bare = {
  name: "hyper alone",
  missing: () => false,
  command: ({ port, upstream }) => ({ command: [built("release", "bare"), ...[port, upstream].filter(Boolean).map((port) => `127.0.0.1:${port}`)] }),
};
