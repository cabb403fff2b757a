// Hono in a Worker. Elsewhere there is no `executionCtx`, and the peer is not in a header: there, give `process.env` for `c.env`, and
// `{ peer: getConnInfo(c).remote.address }` for the context (`@hono/node-server/conninfo`, `hono/deno`, `hono/bun`).
import { Hono } from "hono";
import { Gate } from "nodetool-edge-auth";

const app = new Hono();
let gate;

app.use(async (c, next) => {
  gate ??= new Gate(c.env);
  const decision = await gate.check(c.req.raw, c.executionCtx);
  if (decision.response) return decision.response;
  c.set("user", decision.userId);
  // Whatever reads headers reads what the gate says of the user, and not the client.
  c.req.raw = new Request(c.req.raw, { headers: decision.headers });
  await next();
  c.res = decision.finish(c.res);
});

app.get("/health", (c) => c.text("ok"));
app.all("*", async (c) => c.json({ user: c.get("user"), header: c.req.header("x-user-id") ?? null, path: c.req.path, body: await c.req.text() }));

export default app;
