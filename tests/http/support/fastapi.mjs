// The FastAPI application of `servers/fastapi_app.py`, by the Python that `NODETOOL_TEST_PYTHON` names.
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { fileURLToPath } from "node:url";

export const PYTHON = process.env.NODETOOL_TEST_PYTHON;
export const whyNoPython = !PYTHON && "NODETOOL_TEST_PYTHON is not set";

const APPLICATION = fileURLToPath(new URL("../../servers/fastapi_app.py", import.meta.url));

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** @param {"uvicorn" | "hypercorn"} server @param {number} keepAlive seconds after which it closes an idle connection */
export async function startFastApi(server = "uvicorn", keepAlive = 5) {
  const child = spawn(PYTHON, [APPLICATION, server, String(keepAlive)], { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const exited = once(child, "exit").then(([code]) => {
    children.delete(child);
    throw new Error(`${server} ended (${code}): ${errors}`);
  });
  exited.catch(() => {});
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  const [line] = await Promise.race([once(child.stdout.setEncoding("utf8"), "data"), exited]);
  const port = Number(line);
  // It listens before it serves: the system takes the connection, and the server the request as soon as it is there.
  await Promise.race([once(http.get({ port, path: "/health", agent: false }), "response"), exited]);
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    async stop() {
      child.kill("SIGKILL");
      await exited.catch(() => {});
    },
  };
}
