import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

export interface RelayerProcess {
  /** http://localhost:port/api/v1 */
  readonly api: string;
  /** Sends SIGTERM and returns the exit code. */
  stop(): Promise<number | null>;
}

/** Starts the relayer as its users do, with nothing in the environment but this; resolves when it is ready. */
export async function startRelayer(environment: Readonly<Record<string, string>>): Promise<RelayerProcess> {
  const child = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env.PATH, NODE_ENV: "production", HOST: "127.0.0.1", PORT: "0", ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  const exited = once(child, "exit").then(([code]: (number | null)[]) => {
    process.removeListener("exit", killWithUs);
    return code ?? null;
  });

  const said: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    const { msg, api } = JSON.parse(line) as { msg: string; api?: string };
    if (msg !== "ready" || api === undefined) continue;
    // Keep reading, or a chatty process blocks on a full pipe.
    child.stdout.resume();
    return {
      api,
      stop() {
        child.kill("SIGTERM");
        return exited;
      },
    };
  }
  throw new Error(`the relayer ended with ${await exited} before it was ready:\n${said.join("\n")}`);
}
