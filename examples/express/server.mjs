// Express 5. (Express 4 does not look at promises: there, catch what fails and hand it to `next`.)
import express from "express";
import { Gate } from "nodetool-edge-auth";
import { admit, answer, fromNode } from "nodetool-edge-auth/node";

const gate = new Gate(process.env);
const app = express();

// Before everything that rewrites URLs.
app.use(async (req, res, next) => {
  const decision = await gate.check(fromNode(req));
  if (decision.response) return answer(decision.response, res);
  admit(req, res, decision);
  next();
});

app.use(express.text({ type: "*/*" }));
app.get("/health", (_req, res) => res.send("ok"));
app.all("/{*path}", (req, res) => res.json({ user: req.identity.userId, header: req.headers["x-user-id"] ?? null, path: req.path, body: req.body ?? "" }));

const server = app.listen(process.env.PORT ?? 3000, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
