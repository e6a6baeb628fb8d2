import { version as node } from "node:process";
import { Gauge, type Registry } from "prom-client";
import { createCounter } from "./counter.ts";
import { createHistogram } from "./histogram.ts";

const WAKE_SOURCES = ["notify", "timer", "cron", "poll"] as const;

/** What made the relayer look: a NOTIFY, the timer of what is due next, the crontab, or the idle poll. */
export type WakeSource = (typeof WAKE_SOURCES)[number];

export interface MetricsOfRelayer {
  claim(seconds: number): void;
  settle(seconds: number, batchSize: number): void;
  staleSettles(count: number): void;
  rescuedClaims(count: number): void;
  wakeup(source: WakeSource): void;
  notifySkipped(): void;
  redisError(): void;
  schedulerRunning(running: boolean): void;
  /** undefined: not known, or there is no query store. */
  queryStoreLag(seconds: number | undefined): void;
}

const SQL_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const BATCH_SIZES = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

/** What this relayer does beside its attempts. */
export function createMetricsOfRelayer(registry: Registry, version: string): MetricsOfRelayer {
  const counter = (name: string, help: string) => createCounter(registry, { name, help })();
  const claimSeconds = createHistogram(registry, {
    name: "outbox_claim_duration_seconds",
    help: "Claiming one batch from Postgres.",
    buckets: SQL_SECONDS,
  })();
  const settleSeconds = createHistogram(registry, {
    name: "outbox_settle_duration_seconds",
    help: "Recording one batch of outcomes in Postgres.",
    buckets: SQL_SECONDS,
  })();
  const settleSizes = createHistogram(registry, {
    name: "outbox_settle_batch_size",
    help: "Outcomes recorded by one settle.",
    buckets: BATCH_SIZES,
  })();
  const staleSettles = counter(
    "outbox_stale_settles_total",
    "Outcomes not recorded because the claim was no longer this relayer's.",
  );
  const rescuedClaims = counter(
    "outbox_rescued_claims_total",
    "Claims of vanished relayers that this one gave back.",
  );
  const wakeups = createCounter(registry, {
    name: "outbox_wakeups_total",
    help: "Times the relayer was told to look, by what told it: notify and cron tell it as a whole, timer (something becomes due) and poll each gateway's loop.",
    labelNames: ["source"],
  });
  const wakeupsFrom = new Map(WAKE_SOURCES.map((source) => [source, wakeups({ source })]));
  const notifySkipped = counter(
    "outbox_notify_skipped_total",
    "Looks of a relayer that was awake, and that nobody told, which found messages: each stands for one or more INSERTs that had no need to NOTIFY.",
  );
  const redisErrors = counter(
    "outbox_redis_errors_total",
    "Failed connections and writes to Redis, and receipts given up. Delivery does not depend on them.",
  );
  const schedulerRunning = absentAtFirst(registry, {
    name: "outbox_scheduler_running",
    help: "1 while the scheduler runs, 0 while it is paused; as last read.",
  });
  const queryStoreLag = absentAtFirst(registry, {
    name: "outbox_query_store_lag_seconds",
    help: "How far the query store is behind the primary. Absent without one, and while it is not known.",
  });
  new Gauge({
    name: "outbox_build_info",
    help: "Always 1; the labels say what is running.",
    labelNames: ["version", "node"],
    registers: [registry],
  })
    .labels(version, node)
    .set(1);

  return {
    claim: (seconds) => claimSeconds.observe(seconds),
    settle(seconds, batchSize) {
      settleSeconds.observe(seconds);
      settleSizes.observe(batchSize);
    },
    staleSettles: (count) => staleSettles.inc(count),
    rescuedClaims: (count) => rescuedClaims.inc(count),
    wakeup: (source) => wakeupsFrom.get(source)?.inc(),
    notifySkipped: () => notifySkipped.inc(),
    redisError: () => redisErrors.inc(),
    schedulerRunning: (running) => schedulerRunning(running ? 1 : 0),
    queryStoreLag,
  };
}

/** A gauge without labels that shows nothing, rather than a 0 that nobody has measured, while its value is not known. */
export function absentAtFirst(
  registry: Registry,
  { name, help }: { readonly name: string; readonly help: string },
): (value: number | undefined) => void {
  const gauge = new Gauge({ name, help, registers: [registry] });
  gauge.remove();
  return (value) => (value === undefined ? gauge.remove() : gauge.set(value));
}
