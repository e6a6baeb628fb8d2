import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Prometheus' own tool to check rules and configurations. Where there is none, undefined: skip the test. On CI that throws,
 * because nobody reads a skip there.
 */
export async function findPromtool(): Promise<Promtool | undefined> {
  try {
    await run("promtool", ["--version"]);
    return promtool;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  }
  const advice = "It comes with Prometheus (apt-get install prometheus, brew install prometheus).";
  if (process.env.CI)
    throw new Error(`There is no promtool on the PATH, and on CI its tests may not be skipped. ${advice}`);
  console.warn(
    `\nSKIPPED: there is no promtool on the PATH, so the rules for Prometheus are not tested. ${advice}\n`,
  );
  return undefined;
}

/** Resolves when it finds no fault; else throws with all that it says. */
export type Promtool = (...args: string[]) => Promise<void>;

const promtool: Promtool = async (...args) => {
  try {
    await run("promtool", args, { maxBuffer: 16 * 1024 * 1024 });
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`promtool ${args.join(" ")}\n${stdout}\n${stderr}`, { cause: error });
  }
};
