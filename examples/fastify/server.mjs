// Fastify 5.
import Fastify from "fastify";
import { Gate } from "nodetool-edge-auth";
import { admit, fromNode } from "nodetool-edge-auth/node";

const gate = new Gate(process.env);
const app = Fastify();

app.addHook("onRequest", async (request, reply) => {
  const decision = await gate.check(fromNode(request.raw));
  if (decision.response) return reply.send(decision.response);
  admit(request.raw, reply.raw, decision);
});

app.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => done(null, body));
app.get("/health", () => "ok");
app.all("/*", (request) => ({
  user: request.raw.identity.userId,
  header: request.headers["x-user-id"] ?? null,
  path: request.url,
  body: request.body ?? "",
}));

await app.listen({ port: Number(process.env.PORT ?? 3000), host: "127.0.0.1" });
console.log(`listening on ${app.server.address().port}`);
