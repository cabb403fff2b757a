// Ends a server of the tests, whatever its clients are doing: nothing may keep a test from its end.
import { once } from "node:events";

/** @param {import("node:net").Server} server @returns a function that stops it, now and whenever it has been started again */
export function stopper(server) {
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return async () => {
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
}
