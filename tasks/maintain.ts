import type { Task } from "graphile-worker";

export interface MaintainTaskOptions {
  /** Returns what was done, a sentence each. */
  readonly maintain: () => Promise<readonly string[]>;
  readonly log: (fields: Record<string, unknown>, message: string) => void;
}

/** On the crontab: partitions ahead, retention, expiry. */
export function createMaintainTask({ maintain, log }: MaintainTaskOptions): Task {
  return async () => {
    for (const done of await maintain()) log({}, `maintenance: ${done}`);
  };
}
