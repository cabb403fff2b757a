// Starts and ends the servers of the tests, whatever their clients are doing: nothing may keep a test from its end.
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

/**
 * Lets a server listen on a port of its own, to this machine alone.
 * @param {import("node:net").Server} server
 * @returns {Promise<{port: number, url: string, stop(): Promise<void>}>}
 */
export async function listen(server) {
  const stop = stopper(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return { port, url: `http://127.0.0.1:${port}`, stop };
}
