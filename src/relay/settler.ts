import { setTimeout as pause } from "node:timers/promises";
import type { Result, Settled } from "../db/outbox.ts";

export interface SettlerOptions {
  readonly settle: (relayer: number, results: readonly Result[]) => Promise<Settled>;
  readonly onSettled: (results: readonly Result[], settled: Settled, durationMs: number) => void;
  /** Is this error Postgres being away, and so worth waiting for? */
  readonly isOutage: (error: unknown) => boolean;
  /** Postgres is away; what could not be settled is kept and tried again. */
  readonly onError: (error: unknown) => void;
  /** A result that Postgres refuses for itself, not for its company. It is kept and tried again. */
  readonly onRefused: (result: Result, error: unknown) => void;
  /** Between tries of what could not be settled. */
  readonly retryMs?: number;
}

export interface Settler {
  add(result: Result): void;
  /** Resolves when everything added is settled, or `signal` aborts. Returns how many results are left. */
  drained(signal: AbortSignal): Promise<number>;
}

const LARGEST_GROUP = 1_000;
const RETRY_MS = 1_000;
/** The shortest time from one settle's start to the next's: each costs a commit, however few outcomes it records. */
const BEAT_MS = 10;

/**
 * Records outcomes, one settle at a time and at most 100 a second: meanwhile outcomes collect for the next. An
 * outcome is kept until it is recorded, however long Postgres is away: forgetting it would mean sending the message again.
 */
export function createSettler(options: SettlerOptions): Settler {
  const { retryMs = RETRY_MS } = options;
  let waiting: Result[] = [];
  let running = false;
  let unsettled = 0;
  let startedAt = Number.NEGATIVE_INFINITY;
  let whenIdle = Promise.withResolvers<void>();

  async function settleGroup(group: readonly Result[]): Promise<void> {
    const relayer = (group[0] as Result).claim.relayer;
    const start = performance.now();
    try {
      const settled = await options.settle(relayer, group);
      unsettled -= group.length;
      options.onSettled(group, settled, performance.now() - start);
    } catch (error) {
      if (options.isOutage(error)) {
        options.onError(error);
        waiting = [...group, ...waiting];
        await pause(retryMs);
      } else if (group.length > 1) {
        // One of them is at fault, and must not keep the others: halving finds it.
        const half = group.length >> 1;
        await settleGroup(group.slice(0, half));
        await settleGroup(group.slice(half));
      } else {
        const [result] = group as [Result];
        options.onRefused(result, error);
        setTimeout(enqueue, retryMs * 5, result).unref();
      }
    }
  }

  async function run(): Promise<void> {
    // What completes in the same turn of the event loop goes into the first group.
    await new Promise(setImmediate);
    while (waiting.length > 0) {
      const earlyMs = startedAt + BEAT_MS - performance.now();
      if (earlyMs > 0 && waiting.length < LARGEST_GROUP) await pause(earlyMs);
      startedAt = performance.now();
      const results = waiting.splice(0, LARGEST_GROUP).sort((a, b) => a.claim.id - b.claim.id);
      for (const group of Map.groupBy(results, ({ claim }) => claim.relayer).values())
        await settleGroup(group);
    }
    running = false;
    if (unsettled === 0) whenIdle.resolve();
  }

  function enqueue(result: Result): void {
    waiting.push(result);
    if (running) return;
    running = true;
    void run();
  }

  return {
    add(result) {
      unsettled++;
      enqueue(result);
    },
    async drained(signal) {
      if (unsettled > 0) {
        whenIdle = Promise.withResolvers();
        signal.addEventListener("abort", () => whenIdle.resolve(), { once: true });
        if (signal.aborted) whenIdle.resolve();
        await whenIdle.promise;
      }
      return unsettled;
    },
  };
}
