import { setTimeout as pause } from "node:timers/promises";

export interface MinutesOptions {
  /** Closes one busy minute that is over; returns how many it closed, 0 when none is left. */
  readonly close: () => Promise<number>;
  readonly onError: (error: unknown) => void;
  readonly intervalMs?: number;
}

export interface Minutes {
  start(): void;
  stop(): Promise<void>;
}

const INTERVAL_MS = 10_000;

/** Has the minutes that are over counted, for statistics. Nothing waits for it, and what fails is tried again. */
export function createMinutes({ close, onError, intervalMs = INTERVAL_MS }: MinutesOptions): Minutes {
  const stopping = new AbortController();
  const { signal } = stopping;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    while (!signal.aborted) {
      const more = await closed();
      if (!more) await pause(intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  async function closed(): Promise<boolean> {
    try {
      return (await close()) > 0;
    } catch (error) {
      onError(error);
      return false;
    }
  }

  return {
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
