// What the reference is built of: FastAPI, uvicorn and httpx, with PyJWT.
import path from "node:path";
import { fileURLToPath } from "node:url";

import { works } from "../machine.mjs";
import { AUDIENCE, ISSUER, KEYS, SECRET, STATIC } from "../tokens.mjs";
import { HOW_TO_VENV, VENV } from "./envoy.mjs";

const APP = fileURLToPath(new URL(".", import.meta.url));
const python = path.join(VENV, "python");

export const fastapi = {
  name: "FastAPI",
  missing: () => !works(path.join(VENV, "uvicorn"), "--version") && HOW_TO_VENV,
  command({ port, auth, cache, upstream }) {
    const env = {
      UPSTREAM: `http://127.0.0.1:${upstream}`,
      AUTH: auth,
      TOKEN: STATIC,
      ISSUER,
      AUDIENCE,
      KEY: auth === "HS256" ? SECRET : (KEYS[auth]?.publicKey.export({ type: "spki", format: "pem" }) ?? ""),
      CACHE: cache ? "1000" : "0",
      PYTHONDONTWRITEBYTECODE: "1",
    };
    return { command: [python, "-m", "uvicorn", "fastapi_app:app", "--app-dir", APP, "--host", "127.0.0.1", "--port", String(port), "--log-level", "error", "--no-access-log", "--no-proxy-headers", "--timeout-keep-alive", "600"], env };
  },
};
