import type { ParsedCronItem } from "graphile-worker";
import type { Pool } from "pg";
import { createMaintainTask } from "../../tasks/maintain.ts";
import { createRelayTask } from "../../tasks/relay.ts";
import { createReplayTask } from "../../tasks/replay.ts";
import type { Config } from "../config/config.ts";
import type { Outbox } from "../db/outbox.ts";
import type { Logger } from "../ops/log.ts";
import type { Metrics } from "../ops/metrics.ts";
import { createWorker, type Worker } from "../ops/worker.ts";
import type { QueryStoreUpkeep } from "../query-store/upkeep.ts";
import type { Relay } from "../relay/relay.ts";

/** What the crontab may name. (The task replay is none of it: it has to be told which replay.) */
export const TASKS = ["relay", "maintain"] as const;

export interface JobsOptions {
  readonly config: Config;
  readonly crontab: readonly ParsedCronItem[];
  /** For Graphile Worker alone. */
  readonly pool: Pool;
  readonly outbox: Outbox;
  readonly relay: Relay;
  /** Of the query store, if there is one. */
  readonly upkeep: QueryStoreUpkeep | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Graphile Worker with the tasks of this project, not started. */
export function createJobs(options: JobsOptions): Worker {
  const { config, crontab, pool, outbox, relay, upkeep, metrics, log } = options;
  const tell = (fields: Record<string, unknown>, message: string) => log.info(fields, message);
  return createWorker({
    pool,
    crontab,
    log: (level, message) => log[level](message),
    tasks: {
      relay: createRelayTask({
        continuous: config.relay.mode === "continuous",
        async wake() {
          metrics.wakeup("cron");
          relay.wake();
          await outbox.notify("cron");
        },
        tick: (tick) => relay.tick(tick),
        log: tell,
      }),
      maintain: createMaintainTask({
        maintain: async () => [
          ...(await outbox.maintain(config.retention)),
          ...((await upkeep?.maintain()) ?? []),
        ],
        log: tell,
      }),
      replay: createReplayTask({
        slice: (replay) => outbox.replaySlice(replay),
        queue: (replay, waitMs) => outbox.queueReplays(replay, waitMs),
        log: tell,
      }),
    } satisfies Record<(typeof TASKS)[number] | "replay", unknown>,
  });
}
