import type { Task } from "graphile-worker";
import type { ReplaySlice } from "../src/db/outbox.ts";

export interface ReplayTaskOptions {
  readonly slice: (replay: number) => Promise<ReplaySlice>;
  /** Has this task run again, for this replay, in so many milliseconds; 0: the replay is not running any more. */
  readonly queue: (replay: number, waitMs: number) => Promise<number>;
  readonly log: (fields: Record<string, unknown>, message: string) => void;
}

/**
 * One slice of a replay of many, `{"replay": 7}`. The next one is a job of its own, so that whatever else is to do has its
 * turn, and a wait keeps no worker busy. Not for the crontab: outbox.replay_where() adds it.
 */
export function createReplayTask({ slice, queue, log }: ReplayTaskOptions): Task {
  return async (payload) => {
    const replay = replayIn(payload);
    let now = await slice(replay);
    if (now.wait_ms !== null) {
      if ((await queue(replay, now.wait_ms)) > 0) return;
      now = await slice(replay);
    }
    log({ replay, replayed: now.replayed, skipped: now.skipped }, `replay ${now.status}`);
  };
}

function replayIn(payload: unknown): number {
  const replay = (payload as { replay?: unknown } | null)?.replay;
  if (Number.isSafeInteger(replay)) return replay as number;
  throw new Error(
    `the task replay wants {"replay": <id of outbox.replays>}, and was given ${JSON.stringify(payload)}`,
  );
}
