// Node's own server, with WebSockets by `ws`.
import { createServer } from "node:http";
import { Gate } from "nodetool-edge-auth";
import { admit, answer, fromNode } from "nodetool-edge-auth/node";
import { WebSocketServer } from "ws";

const gate = new Gate(process.env);
const sockets = new WebSocketServer({ noServer: true });

/** Whether a request may pass. If not, it is answered. */
async function passes(req, res, to = res) {
  try {
    const decision = await gate.check(fromNode(req));
    if (!decision.response) admit(req, res, decision);
    else await answer(decision.response, to);
    return !decision.response;
  } catch (error) {
    console.error(error);
    to.destroy();
    return false;
  }
}

const server = createServer(async (req, res) => {
  if (!(await passes(req, res))) return;
  let body = "";
  for await (const part of req.setEncoding("utf8")) body += part;
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ user: req.identity.userId, header: req.headers["x-user-id"] ?? null, path: req.url, body }));
});

server.on("upgrade", async (req, socket, head) => {
  socket.on("error", () => socket.destroy());
  if (!(await passes(req, null, socket))) return;
  sockets.handleUpgrade(req, socket, head, (ws) => ws.send(JSON.stringify({ user: req.identity.userId, url: req.url })));
});

server.listen(process.env.PORT ?? 3000, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
