import type { ParsedCronItem } from "graphile-worker";
import type { Pool } from "pg";
import { createMaintainTask } from "../../tasks/maintain.ts";
import { createRelayTask } from "../../tasks/relay.ts";
import { createReplayTask } from "../../tasks/replay.ts";
import type { Config } from "../config/config.ts";
import type { Alerts } from "../db/alerts.ts";
import type { Outbox } from "../db/outbox.ts";
import type { FurtherFindings } from "../ops/alerts/further-findings.ts";
import type { Logger } from "../ops/log.ts";
import type { Metrics } from "../ops/metrics.ts";
import { createWorker, type Worker } from "../ops/worker.ts";
import type { QueryStoreUpkeep } from "../query-store/upkeep.ts";
import type { Relay } from "../relay/relay.ts";
import { createAlertTasks } from "./alert-tasks.ts";

/** What the crontab may name. (The tasks replay and notify_… are none of it: they have to be told which replay, and what.) */
export const TASKS = ["relay", "maintain", "alert"] as const;

export interface JobsOptions {
  readonly config: Config;
  readonly crontab: readonly ParsedCronItem[];
  /** For Graphile Worker alone. */
  readonly pool: Pool;
  readonly outbox: Outbox;
  readonly alerts: Alerts;
  /** What this process can look for beside the database. */
  readonly further?: FurtherFindings | undefined;
  readonly relay: Relay;
  /** Of the query store, if there is one. */
  readonly upkeep: QueryStoreUpkeep | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly alertsLog: Logger;
}

/** Graphile Worker with the tasks of this project, not started. */
export function createJobs(options: JobsOptions): Worker {
  const { config, crontab, pool, outbox, alerts, relay, upkeep, metrics, log } = options;
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
      ...createAlertTasks({
        settings: config.alerts,
        alerts,
        further: options.further,
        log: options.alertsLog,
      }),
    } satisfies Record<(typeof TASKS)[number] | "replay", unknown>,
  });
}
