import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { migrate } from "../../src/db/migrate.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { createCleanup } from "./cleanup.ts";
import { queryOnce } from "./persistent-query.ts";
import { startChaosPostgres } from "./private-postgres.ts";
import { type RelayerProcess, startRelayerProcess } from "./relayer-process.ts";
import { largest, median, quantile, smallest } from "./statistics.ts";

export interface RecoveryOptions {
  /** How many relayers are killed. */
  readonly times: number;
  /** So many are started together, to save time. */
  readonly atOnce?: number;
  readonly say: (line: string) => void;
}

/** POSTs in flight a relayer: what a victim has claimed when it dies. */
const CONCURRENCY = 4;
/** The rescuer looks once a second: kills are spread over that. */
const PHASE_MS = 1_000;
const LOOK_MS = 5;

/** Kills relayers that have claimed messages; returns for each how many milliseconds its claims stayed claimed. */
export async function measureRecovery({ times, atOnce = 5, say }: RecoveryOptions): Promise<number[]> {
  const cleanup = createCleanup();
  const folder = mkdtempSync(join(tmpdir(), "outbox-chaos-"));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  try {
    const { url } = await startChaosPostgres(folder, cleanup);
    await migrate({ connectionString: url, log: () => {} });
    const gateway = await startHttpGateway({ answer: () => ({ fault: "hang" }) });
    const env = {
      DATABASE_URL: url,
      WEBHOOK_URL: gateway.url,
      WEBHOOK_TIMEOUT: "10m",
      RELAY_CONCURRENCY: String(CONCURRENCY),
      RETRY_MAX_ATTEMPTS: "1000",
    };
    const start = async (name: string) => {
      const relayer = startRelayerProcess({ name, env, logFolder: folder, cleanup });
      if (!(await relayer.ready())) throw new Error(`${name} ended: ${relayer.gaveUp()}`);
      return relayer;
    };
    // Each can be full at the same time; nobody else then has room for what a victim leaves.
    await queryOnce(
      url,
      "insert into outbox.messages (recipient, content) select '+905551234567', 'n' || n from generate_series(1, $1::int) as n",
      [CONCURRENCY * (atOnce + 1)],
    );
    await start("rescuer");
    const recoveries: number[] = [];
    while (recoveries.length < times) {
      const count = Math.min(atOnce, times - recoveries.length);
      const names = Array.from({ length: count }, (_, i) => `victim ${recoveries.length + i + 1}`);
      const victims = await Promise.all(names.map(start));
      recoveries.push(...(await Promise.all(victims.map((victim) => kill(url, victim)))));
      say(
        recoveries
          .slice(-count)
          .map((tookMs) => `${tookMs.toFixed(0)} ms`)
          .join(", "),
      );
    }
    await gateway.close();
    return recoveries;
  } finally {
    cleanup.run();
  }
}

async function kill(url: string, victim: RelayerProcess): Promise<number> {
  const client = new Client({ connectionString: url, application_name: "chaos watch" });
  await client.connect();
  const claims = async () => {
    const { rows } = await client.query<{ claims: number }>({
      name: "claims",
      text: "select count(*)::int as claims from outbox.messages where claimed_by = any ($1::int[])",
      values: [[...victim.numbers.keys()]],
    });
    return rows[0]?.claims ?? 0;
  };
  try {
    while ((await claims()) < CONCURRENCY) await delay(LOOK_MS);
    await delay(Math.random() * PHASE_MS);
    const killed = performance.now();
    victim.kill("SIGKILL");
    while ((await claims()) > 0) await delay(LOOK_MS);
    return performance.now() - killed;
  } finally {
    await client.end();
  }
}

export function recoveryTable(recoveries: readonly number[]): string {
  const figures = {
    kills: String(recoveries.length),
    min: milliseconds(smallest(recoveries)),
    median: milliseconds(median(recoveries)),
    p95: milliseconds(quantile(recoveries, 0.95)),
    max: milliseconds(largest(recoveries)),
  };
  const lines = Object.entries(figures).map(([name, value]) => `  ${name.padEnd(6)}  ${value}`);
  return ["time from kill -9 until the claims are free again", ...lines].join("\n");
}

function milliseconds(value: number): string {
  return `${value.toFixed(0)} ms`;
}
