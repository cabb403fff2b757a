// A Worker of your own that lets in whom the gateway would let in. Settings are its variables and secrets.
import { Gate, cacheStore } from "nodetool-edge-auth";

let gate;

export default {
  async fetch(request, env, context) {
    gate ??= new Gate(env, { store: [cacheStore(caches.default), env.AUTH_KV], tokens: env.AUTH_KV });
    const decision = await gate.check(request, context);
    if (decision.response) return decision.response;
    return decision.finish(Response.json({ user: decision.userId, path: new URL(request.url).pathname }));
  },
};
