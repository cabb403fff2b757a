// Whatever runs containers on this machine, and the image of the native host in it.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";

import { built } from "../../../tools/paths.mjs";
import { ROOT, temporaryFolder, writeFile } from "./hosts.mjs";
import { transcript } from "./transcripts.mjs";

const ARCHITECTURE = { x64: "x86_64", arm64: "aarch64" }[process.arch];
/** As `tools/test.mjs` builds it where there is an engine. */
export const STATIC_BINARY = built(`${ARCHITECTURE}-unknown-linux-musl`, "release", "nodetool-auth");
export const IMAGE = "nodetool-auth-test";
const PROBE = "nodetool-auth-probe";

export const ENGINE = ["docker", "podman"].find((name) => spawnSync(name, ["info"], { stdio: "ignore", timeout: 60_000 }).status === 0);
export const COMPOSE = [["docker", "compose"], ["podman-compose"]].find((command) => spawnSync(command[0], [...command.slice(1), "version"], { stdio: "ignore" }).status === 0 && command[0].startsWith(ENGINE));

/** Runs the engine to its end. */
export function engine(...args) {
  const { status, stdout, stderr } = spawnSync(ENGINE, args, { encoding: "utf8", cwd: ROOT, timeout: 120_000 });
  return { status, stdout, stderr };
}

/** The same, where all but success is a failure. */
export function must(...args) {
  const { status, stdout, stderr } = engine(...args);
  if (status !== 0) throw new Error(`${ENGINE} ${args.join(" ")} ended with ${status}:\n${stderr}`);
  return stdout.trim();
}

/** Why no image can be built and run here, or false. */
export function whyNoContainers() {
  if (!ENGINE) return "neither docker nor podman runs here";
  if (spawnSync(STATIC_BINARY, ["--version"]).status !== 0) return `there is no static binary at ${path.relative(ROOT, STATIC_BINARY)}`;
  return withContext((context) => {
    writeFile(path.join(context, "Dockerfile"), 'FROM scratch\nCOPY image/bin/nodetool-auth /probe\nENTRYPOINT ["/probe"]\n');
    const built = engine("build", "--tag", PROBE, context);
    const ran = built.status === 0 ? engine("run", "--rm", PROBE, "--version") : built;
    // Of all that can go wrong here, nothing is the fault of what is to be tested.
    return ran.status !== 0 && `${ENGINE} cannot run a container here: ${ran.stderr.trim().split("\n").at(-1)}`;
  });
}

/** The image of the Dockerfile, with the binary that is there instead of one built in a container. */
export function buildImage() {
  // Podman's own format has no health check.
  const format = ENGINE === "podman" ? ["--format", "docker"] : [];
  withContext((context) => must("build", ...format, "--build-context", `build=${context}`, "--tag", IMAGE, ROOT));
}

/** What the first stage of the Dockerfile leaves. */
function withContext(body) {
  const context = temporaryFolder();
  try {
    mkdirSync(path.join(context, "image", "bin"), { recursive: true });
    copyFileSync(STATIC_BINARY, path.join(context, "image", "bin", "nodetool-auth"));
    mkdirSync(path.join(context, "image", "volumes"));
    mkdirSync(path.join(context, "image", "volumes", "config"), { mode: 0o700 });
    return body(context);
  } finally {
    rmSync(context, { recursive: true, force: true });
  }
}

/** All that a container has printed so far. */
export function logsOf(container) {
  const { stdout, stderr } = engine("logs", container);
  return { stdout, stderr };
}

/** Removes a container, and writes down what it has printed. */
export function remove(container) {
  const { stdout, stderr } = logsOf(container);
  transcript("container", "stdout")(stdout);
  transcript("container", "stderr")(stderr);
  engine("rm", "--force", "--volumes", container);
}
