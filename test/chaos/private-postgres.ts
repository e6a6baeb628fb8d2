import { execFile } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { type LocalPostgres, startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { freePort } from "../support/redis.ts";
import type { Cleanup } from "./cleanup.ts";

const run = promisify(execFile);

/** A PostgreSQL that is there to be stopped, killed and frozen. */
export interface ChaosPostgres {
  readonly url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGSTOP to all its processes: connections stay open, and nothing answers. */
  freeze(): Promise<void>;
  thaw(): void;
}

/** What is committed survives the end of its processes; only a crash of the machine would lose it, without fsync. */
const SETTINGS = { fsync: "off", synchronous_commit: "on", full_page_writes: "off", max_connections: "200" };

export async function startChaosPostgres(folder: string, cleanup: Cleanup): Promise<ChaosPostgres> {
  // The server may run as another user than we do, and has to get to its folder.
  chmodSync(folder, 0o755);
  const port = await freePort();
  const options = {
    dataDir: join(folder, "postgres"),
    port,
    user: "outbox",
    password: "outbox",
    database: "outbox",
    settings: SETTINGS,
    initdbFlags: ["--no-sync"],
  };
  let server: LocalPostgres | undefined;
  let frozen: number[] = [];

  function thaw(): void {
    for (const pid of frozen) signal(pid, "SIGCONT");
    frozen = [];
  }

  async function start(): Promise<void> {
    server = await startLocalPostgres(options);
  }

  cleanup.add(() => {
    thaw();
    server?.stopNow();
  });
  await start();
  return {
    url: (server as unknown as LocalPostgres).url(),
    start,
    async stop() {
      await server?.stop("immediate");
    },
    async freeze() {
      const postmaster = server?.pid ?? Number.NaN;
      // The first, so that it starts no more of them.
      frozen = [postmaster];
      signal(postmaster, "SIGSTOP");
      const children = await childrenOf(postmaster);
      frozen.push(...children);
      for (const pid of children) signal(pid, "SIGSTOP");
    },
    thaw,
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // A session that has ended in the meantime.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function childrenOf(parent: number): Promise<number[]> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid="]);
  const pairs = stdout.split("\n").map((line) => line.trim().split(/\s+/).map(Number));
  return pairs.flatMap(([pid, ppid]) => (pid !== undefined && ppid === parent ? [pid] : []));
}
