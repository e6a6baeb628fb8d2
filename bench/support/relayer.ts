import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { answers } from "./answers.ts";
import { cpuSecondsOf } from "./cpu.ts";
import { freePort } from "./free-port.ts";

/** The whole program in a process of its own, as `npm start` runs it. */
export interface Relayer {
  /** The REST API: http://127.0.0.1:port/api/v1 */
  readonly api: string;
  readonly pid: number;
  /** Its memory now, in MB (VmRSS; Linux only). */
  rssMb(): number;
  /** The most memory it ever had, in MB (VmHWM; Linux only). */
  peakRssMb(): number;
  /** CPU time it has used, in seconds (Linux only). */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

export interface RelayerOptions {
  readonly databaseUrl: string;
  readonly webhookUrl: string;
  readonly env?: Readonly<Record<string, string>>;
  /** For Node itself: `--cpu-prof`. */
  readonly nodeFlags?: readonly string[];
}

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** Resolves once it is ready to relay. */
export async function startRelayer(options: RelayerOptions): Promise<Relayer> {
  const port = await freePort();
  const child = spawn(process.execPath, [...(options.nodeFlags ?? []), MAIN], {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      DATABASE_URL: options.databaseUrl,
      WEBHOOK_URL: options.webhookUrl,
      PORT: String(port),
      LOG_LEVEL: "error",
      ...options.env,
    },
  });
  await answers(`http://127.0.0.1:${port}/readyz`, child);

  function memoryMb(line: "VmRSS" | "VmHWM"): number {
    const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
    return Number(new RegExp(`^${line}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1_024;
  }

  return {
    api: `http://127.0.0.1:${port}/api/v1`,
    pid: child.pid as number,
    rssMb: () => memoryMb("VmRSS"),
    peakRssMb: () => memoryMb("VmHWM"),
    cpuSeconds: () => cpuSecondsOf(child.pid as number),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill();
      await once(child, "exit");
    },
  };
}
