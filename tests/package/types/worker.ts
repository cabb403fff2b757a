// With the types of Workers, and no others.
import { Hono } from "hono";
import { Gate, cacheStore } from "nodetool-edge-auth";

interface Env {
  AUTH_PROVIDER: string;
  WORKER_AUTH_TOKEN?: string;
  AUTH_KV: KVNamespace;
}

let gate: Gate | undefined;

export default {
  async fetch(request, env, context) {
    gate ??= new Gate(env, { store: [cacheStore(caches.default), env.AUTH_KV], tokens: env.AUTH_KV });
    const decision = await gate.check(request, context);
    return decision.response ?? decision.finish(Response.json({ user: decision.userId }));
  },
} satisfies ExportedHandler<Env>;

export const app = new Hono<{ Bindings: Env; Variables: { user: string | null } }>();
app.use(async (c, next) => {
  const decision = await new Gate(c.env).check(c.req.raw, c.executionCtx);
  if (decision.response) return decision.response;
  c.set("user", decision.userId);
  c.req.raw = new Request(c.req.raw, { headers: decision.headers });
  await next();
  c.res = decision.finish(c.res);
  return undefined;
});
