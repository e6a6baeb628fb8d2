import { version as node } from "node:process";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { OUTCOMES, type OutcomeKind } from "../gateway/outcome.ts";

const DEAD_LETTER_REASONS = ["rejected", "exhausted", "expired", "cancelled", "unknown_outcome"] as const;
const WAKE_SOURCES = ["notify", "timer", "cron", "poll"] as const;

export type DeadLetterReason = (typeof DEAD_LETTER_REASONS)[number];
/** What made the relayer look: a NOTIFY, the timer of the next `available_at`, the crontab, or the idle poll. */
export type WakeSource = (typeof WAKE_SOURCES)[number];

/** The series of one gateway, looked up once and then written to without building labels. */
export interface GatewayMetrics {
  attempt(outcome: OutcomeKind, seconds: number): void;
  deadLetters(reason: DeadLetterReason, count: number): void;
  /** How many POSTs are under way now. */
  inflight(count: number): void;
}

export interface Metrics {
  /** The same object for the same name, each time. */
  gateway(name: string): GatewayMetrics;
  claim(seconds: number): void;
  settle(seconds: number, batchSize: number): void;
  staleSettles(count: number): void;
  rescuedClaims(count: number): void;
  wakeup(source: WakeSource): void;
  redisError(): void;
  schedulerRunning(running: boolean): void;
  /** The Prometheus text format. */
  render(): Promise<{ contentType: string; body: string }>;
}

const ATTEMPT_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30];
const SQL_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const BATCH_SIZES = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

/** Builds a registry of its own; two relayers in one process (tests) never share a number. */
export function createMetrics({ version }: { version: string }): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const attempts = new Counter({
    name: "outbox_attempts_total",
    help: "Tries at a gateway, by what they showed.",
    labelNames: ["gateway", "outcome"],
    registers,
  });
  const deadLetters = new Counter({
    name: "outbox_dead_letters_total",
    help: "Messages that ended without being sent, by reason.",
    labelNames: ["gateway", "reason"],
    registers,
  });
  /** Changes twice with each message, so it is kept outside and read when somebody asks. */
  const underWay = new Map<string, number>();
  new Gauge({
    name: "outbox_inflight",
    help: "POSTs under way.",
    labelNames: ["gateway"],
    registers,
    collect() {
      for (const [gateway, count] of underWay) this.set({ gateway }, count);
    },
  });
  const attemptSeconds = new Histogram({
    name: "outbox_attempt_duration_seconds",
    help: "One try at a gateway, connecting included.",
    labelNames: ["gateway"],
    buckets: ATTEMPT_SECONDS,
    registers,
  });
  const claimSeconds = new Histogram({
    name: "outbox_claim_duration_seconds",
    help: "Claiming one batch from Postgres.",
    buckets: SQL_SECONDS,
    registers,
  });
  const settleSeconds = new Histogram({
    name: "outbox_settle_duration_seconds",
    help: "Recording one batch of outcomes in Postgres.",
    buckets: SQL_SECONDS,
    registers,
  });
  const settleSizes = new Histogram({
    name: "outbox_settle_batch_size",
    help: "Outcomes recorded by one settle.",
    buckets: BATCH_SIZES,
    registers,
  });
  const staleSettles = new Counter({
    name: "outbox_stale_settles_total",
    help: "Outcomes not recorded because the claim was no longer this relayer's.",
    registers,
  });
  const rescuedClaims = new Counter({
    name: "outbox_rescued_claims_total",
    help: "Claims of vanished relayers that this one gave back.",
    registers,
  });
  const wakeups = new Counter({
    name: "outbox_wakeups_total",
    help: "Times the relayer was told to look, by what told it.",
    labelNames: ["source"],
    registers,
  });
  const redisErrors = new Counter({
    name: "outbox_redis_errors_total",
    help: "Failed connections and writes to Redis, and receipts given up. Delivery does not depend on them.",
    registers,
  });
  const schedulerRunning = new Gauge({
    name: "outbox_scheduler_running",
    help: "1 while the scheduler runs, 0 while it is paused.",
    registers,
  });
  new Gauge({
    name: "outbox_build_info",
    help: "Always 1; the labels say what is running.",
    labelNames: ["version", "node"],
    registers,
  })
    .labels(version, node)
    .set(1);

  const wakeupsFrom = children(WAKE_SOURCES, (source) => wakeups.labels(source));

  const createGateway = (gateway: string): GatewayMetrics => {
    const attemptsBy = children(OUTCOMES, (outcome) => attempts.labels(gateway, outcome));
    const deadLettersBy = children(DEAD_LETTER_REASONS, (reason) => deadLetters.labels(gateway, reason));
    const seconds = attemptSeconds.labels(gateway);
    underWay.set(gateway, 0);
    return {
      attempt(outcome, duration) {
        attemptsBy[outcome].inc();
        seconds.observe(duration);
      },
      deadLetters: (reason, count) => deadLettersBy[reason].inc(count),
      inflight: (count) => void underWay.set(gateway, count),
    };
  };
  const gateways = new Map<string, GatewayMetrics>();

  return {
    gateway(name) {
      const known = gateways.get(name);
      if (known !== undefined) return known;
      const created = createGateway(name);
      gateways.set(name, created);
      return created;
    },
    claim: (seconds) => claimSeconds.observe(seconds),
    settle(seconds, batchSize) {
      settleSeconds.observe(seconds);
      settleSizes.observe(batchSize);
    },
    staleSettles: (count) => staleSettles.inc(count),
    rescuedClaims: (count) => rescuedClaims.inc(count),
    wakeup: (source) => wakeupsFrom[source].inc(),
    redisError: () => redisErrors.inc(),
    schedulerRunning: (running) => schedulerRunning.set(running ? 1 : 0),
    render: async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  };
}

/**
 * One child a label value, made up front. Each starts at 0, because Prometheus cannot see the first increase of a
 * series that is born at 1.
 */
function children<Value extends string>(
  values: readonly Value[],
  child: (value: Value) => Counter.Internal,
): Record<Value, Counter.Internal> {
  const made = values.map((value): [Value, Counter.Internal] => [value, child(value)]);
  for (const [, counter] of made) counter.inc(0);
  return Object.fromEntries(made) as Record<Value, Counter.Internal>;
}
