import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

/**
 * Runs the docker command in the project's folder and returns what it printed, without the last line's end.
 * `environment` comes on top of ours. Rejects with `code`, `stdout` and `stderr` when the command fails.
 */
export async function docker(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { stdout } = await run("docker", args, {
    cwd: ROOT,
    env: { ...process.env, ...environment },
    maxBuffer: 16 * 1024 * 1024,
  });
  return stdout.trimEnd();
}

/** The label of all that a test run makes: its value is the run's name, `inject("run")`. */
export const RUN_LABEL = "outbox-relayer.test-run";
