import type { Task } from "graphile-worker";

export interface RelayTaskOptions {
  /** relay.mode: continuous wakes every relayer; scheduled relays one tick for the whole cluster. */
  readonly continuous: boolean;
  readonly wake: () => Promise<void>;
  /** Returns how many messages the tick claimed. */
  readonly tick: (tick: string) => Promise<number>;
  readonly log: (fields: Record<string, unknown>, message: string) => void;
}

/** On the crontab: `* * * * * relay`. */
export function createRelayTask({ continuous, wake, tick, log }: RelayTaskOptions): Task {
  return async (payload) => {
    if (continuous) return wake();
    const time = tickTime(payload);
    const claimed = await tick(time);
    log({ tick: time, messages_claimed: claimed }, "tick relayed");
  };
}

/** The crontab's time, so that a job that is run again is the same tick; now, for a job that a person added. */
function tickTime(payload: unknown): string {
  const cron = (payload as { _cron?: { ts?: unknown } } | null)?._cron;
  return typeof cron?.ts === "string" ? cron.ts : new Date().toISOString();
}
