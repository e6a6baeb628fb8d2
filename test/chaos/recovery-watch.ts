import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { RelayerProcess } from "./relayer-process.ts";

/** How long the claims of a relayer that was killed or stopped stayed claimed. */
export interface Recovery {
  readonly fault: "kill -9" | "SIGSTOP";
  readonly relayer: RelayerProcess;
  /** Milliseconds since 1970. */
  readonly from: number;
  readonly claims: number;
  /** Infinity: not within the time that it was watched. */
  readonly tookMs: number;
}

export interface RecoveryWatch {
  readonly recoveries: readonly Recovery[];
  /** Does the fault, and looks on from then until nothing is claimed by the relayer. Returns when the fault is done. */
  watch(fault: Recovery["fault"], relayer: RelayerProcess, act: () => void): Promise<void>;
  /** Resolves when nothing is watched any more. */
  done(): Promise<void>;
}

const LONGEST_MS = 15_000;
const LOOK_MS = 20;
/** For what a relayer has logged to be read here. */
const READ_MS = 300;

export function createRecoveryWatch(url: string): RecoveryWatch {
  const recoveries: Recovery[] = [];
  const watching = new Set<Promise<void>>();

  async function lookOn(client: Client, fault: Recovery["fault"], relayer: RelayerProcess): Promise<void> {
    const from = Date.now();
    const began = performance.now();
    let claims = 0;
    for (;;) {
      const { rows } = await client.query<{ claims: number }>({
        name: "claims",
        text: "select count(*)::int as claims from outbox.messages where claimed_by = any ($1::int[])",
        values: [numbersAt(relayer, from)],
      });
      const now = rows[0]?.claims ?? 0;
      claims = Math.max(claims, now);
      const tookMs = performance.now() - began;
      if (now === 0 || tookMs > LONGEST_MS) {
        // Without claims there was nothing to recover.
        if (claims > 0)
          recoveries.push({
            fault,
            relayer,
            from,
            claims,
            tookMs: now === 0 ? tookMs : Number.POSITIVE_INFINITY,
          });
        return;
      }
      await delay(LOOK_MS);
    }
  }

  return {
    recoveries,
    async watch(fault, relayer, act) {
      const client = new Client({ connectionString: url, application_name: "chaos watch" });
      client.on("error", () => {});
      // While Postgres is away there is nothing to see, but the fault is done all the same.
      const connected = await Promise.race([
        client.connect().then(
          () => true,
          () => false,
        ),
        delay(500, false),
      ]);
      act();
      const watched = (connected ? lookOn(client, fault, relayer).catch(() => {}) : Promise.resolve())
        .finally(() => void client.end().catch(() => {}))
        .finally(() => watching.delete(watched));
      watching.add(watched);
    },
    async done() {
      await Promise.all(watching);
    },
  };
}

/** Not those that it takes when it wakes up. */
function numbersAt({ numbers }: RelayerProcess, at: number): number[] {
  return [...numbers].flatMap(([number, registeredAt]) => (registeredAt < at + READ_MS ? [number] : []));
}
