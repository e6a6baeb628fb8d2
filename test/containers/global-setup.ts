import { type ExecFileSyncOptions, execFileSync } from "node:child_process";
import type { TestProject } from "vitest/node";
import { RUN_LABEL } from "./docker.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Whether there is a Docker to test with. */
    docker: boolean;
    /** Names this run: the beginning of what it makes in Docker, and the value of its label. */
    run: string;
  }
}

const HOW_TO_GET_IT = "Install it (https://docs.docker.com/engine/install) and start it";
/** What Testcontainers 12 would pull to clean up after a run that was killed. */
const RYUK = process.env.RYUK_CONTAINER_IMAGE ?? "testcontainers/ryuk:0.14.0";

export function setup(project: TestProject): (() => void) | undefined {
  const run = `outbox-test-${process.pid}`;
  const fault = whatIsWrong();
  project.provide("run", run);
  project.provide("docker", fault === undefined);
  if (fault !== undefined) {
    const text = `these tests need Docker with Compose and buildx: ${fault}. ${HOW_TO_GET_IT}.`;
    if (process.env.CI) throw new Error(`On CI they may not be skipped, and ${text}`);
    console.warn(`\nSKIPPED: ${text}\n`);
    return undefined;
  }
  if (process.env.TESTCONTAINERS_RYUK_DISABLED === undefined && !canBeHad(RYUK)) {
    // No registry to be reached. Nothing depends on Ryuk: a run removes what it made, unless it is killed with -9.
    process.env.TESTCONTAINERS_RYUK_DISABLED = "true";
  }
  const cleanUp = () => removeAllOf(run);
  // Ctrl-C, SIGTERM or a failure ends the run without a teardown.
  process.once("exit", cleanUp);
  return () => {
    process.removeListener("exit", cleanUp);
    cleanUp();
  };
}

function whatIsWrong(): string | undefined {
  for (const args of [["version"], ["compose", "version"], ["buildx", "version"]]) {
    try {
      docker(args, { timeout: 20_000 });
    } catch (error) {
      const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: string };
      if (code === "ENOENT") return "there is no docker command on the PATH";
      return `\`docker ${args.join(" ")}\` failed (${stderr?.trim().split("\n").at(-1) || "no answer"})`;
    }
  }
  return undefined;
}

function canBeHad(image: string): boolean {
  return [
    ["image", "inspect", image],
    ["pull", "--quiet", image],
  ].some((args) => {
    try {
      docker(args, { timeout: 30_000 });
      return true;
    } catch {
      return false;
    }
  });
}

/** By label, so that it also finds what a test was stopped in the middle of. */
function removeAllOf(run: string): void {
  for (const label of [`${RUN_LABEL}=${run}`, `com.docker.compose.project=${run}`]) {
    const filter = ["--filter", `label=${label}`, "--quiet"];
    remove(["container", "ls", "--all", ...filter], ["container", "rm", "--force", "--volumes"]);
    remove(["network", "ls", ...filter], ["network", "rm"]);
    remove(["volume", "ls", ...filter], ["volume", "rm", "--force"]);
    remove(["image", "ls", ...filter], ["image", "rm", "--force"]);
  }
}

function remove(list: readonly string[], removal: readonly string[]): void {
  try {
    const ids = new Set(docker(list).split("\n").filter(Boolean));
    if (ids.size > 0) docker([...removal, ...ids]);
  } catch (error) {
    console.warn(`Could not remove what the container tests made: ${(error as Error).message}`);
  }
}

function docker(args: readonly string[], options: ExecFileSyncOptions = {}): string {
  return execFileSync("docker", args, { stdio: ["ignore", "pipe", "pipe"], ...options, encoding: "utf8" });
}
