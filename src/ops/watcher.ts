import { setTimeout as pause } from "node:timers/promises";

export interface WatcherOptions {
  /** Says that this watcher is alive; returns how many workers that are gone had their jobs freed. */
  readonly beat: () => Promise<number>;
  readonly onFreed: (workers: number) => void;
  /** Told of the first failure in a row. */
  readonly onError: (error: unknown) => void;
  /** Not heard of for so long, it is taken for gone, and its jobs for anybody's. */
  readonly deadAfterMs: number;
}

export interface Watcher {
  /** Returns after the first beat, or its failure. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

const LONGEST_INTERVAL_MS = 10_000;

/** Keeps a watcher's jobs its own, and frees those of relayers and watchers that are gone. */
export function createWatcher({ beat, onFreed, onError, deadAfterMs }: WatcherOptions): Watcher {
  const intervalMs = Math.min(deadAfterMs / 3, LONGEST_INTERVAL_MS);
  const stopping = new AbortController();
  const { signal } = stopping;
  const first = Promise.withResolvers<void>();
  let failing = false;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        const freed = await beat();
        failing = false;
        if (freed > 0) onFreed(freed);
      } catch (error) {
        if (!failing) onError(error);
        failing = true;
      }
      first.resolve();
      await pause(intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  return {
    async start() {
      running ??= run();
      await first.promise;
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
