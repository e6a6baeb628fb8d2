import { Gauge, type Registry } from "prom-client";
import { OUTCOMES, type OutcomeKind } from "../../gateway/outcome.ts";
import { createCounter } from "./counter.ts";
import { createHistogram } from "./histogram.ts";

const DEAD_LETTER_REASONS = ["rejected", "exhausted", "expired", "cancelled", "unknown_outcome"] as const;
export const PRIORITIES = [0, 1, 2] as const;

export type DeadLetterReason = (typeof DEAD_LETTER_REASONS)[number];
export type Priority = (typeof PRIORITIES)[number];

/** The series of one gateway, looked up once and then written to without building labels. */
export interface GatewayMetrics {
  attempt(outcome: OutcomeKind, seconds: number): void;
  /** The gateway took a message that had been due for so long. */
  delivered(priority: Priority, seconds: number): void;
  deadLetters(reason: DeadLetterReason, count: number): void;
  /** How many POSTs are under way now. */
  inflight(count: number): void;
}

export interface MetricsOfGateways {
  /** The same object for the same name, each time. */
  gateway(name: string): GatewayMetrics;
  /** These are all there are: each has its series, and those of others go away. */
  only(names: readonly string[]): void;
}

const ATTEMPT_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30];
/** Up to an hour, for a backlog that is worked off. */
const LATENCY_SECONDS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600,
];

/** What this relayer does at each gateway. */
export function createMetricsOfGateways(registry: Registry): MetricsOfGateways {
  const attempts = createCounter(registry, {
    name: "outbox_attempts_total",
    help: "Tries at a gateway, by what they showed.",
    labelNames: ["gateway", "outcome"],
  });
  const attemptSeconds = createHistogram(registry, {
    name: "outbox_attempt_duration_seconds",
    help: "One try at a gateway, connecting included.",
    labelNames: ["gateway"],
    buckets: ATTEMPT_SECONDS,
  });
  const latency = createHistogram(registry, {
    name: "outbox_delivery_latency_seconds",
    help: "From when a message was due (created_at, or available_at if that is later) until the gateway accepted it. After a failed attempt it counts from created_at. The commit's time is not known: what a transaction took after its INSERT counts.",
    labelNames: ["gateway", "priority"],
    buckets: LATENCY_SECONDS,
  });
  const deadLetters = createCounter(registry, {
    name: "outbox_dead_letters_total",
    help: "Messages that ended without being sent, by reason; each is counted by one relayer. What this relayer's attempts end is counted at once; what expires, is cancelled or ends with a relayer that died, up to 75 s later.",
    labelNames: ["gateway", "reason"],
  });
  /** Changes twice with each message, so it is kept outside and read when somebody asks. */
  const underWay = new Map<string, number>();
  new Gauge({
    name: "outbox_inflight",
    help: "POSTs under way.",
    labelNames: ["gateway"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [gateway, count] of underWay) this.set({ gateway }, count);
    },
  });

  function create(gateway: string) {
    const attemptsBy = byValue(OUTCOMES, (outcome) => attempts({ gateway, outcome }));
    const deadLettersBy = byValue(DEAD_LETTER_REASONS, (reason) => deadLetters({ gateway, reason }));
    const seconds = attemptSeconds({ gateway });
    const latencyBy = PRIORITIES.map((priority) => latency({ gateway, priority: String(priority) }));
    underWay.set(gateway, 0);
    return {
      metrics: {
        attempt(outcome, duration) {
          attemptsBy[outcome].inc();
          seconds.observe(duration);
        },
        delivered: (priority, waited) => latencyBy[priority]?.observe(waited),
        deadLetters: (reason, count) => deadLettersBy[reason].inc(count),
        inflight: (count) => void underWay.set(gateway, count),
      } satisfies GatewayMetrics,
      remove() {
        for (const one of [...Object.values(attemptsBy), ...Object.values(deadLettersBy)]) one.remove();
        for (const one of [seconds, ...latencyBy]) one.remove();
        underWay.delete(gateway);
      },
    };
  }
  const known = new Map<string, ReturnType<typeof create>>();

  function gateway(name: string): GatewayMetrics {
    let its = known.get(name);
    if (its === undefined) {
      its = create(name);
      known.set(name, its);
    }
    return its.metrics;
  }

  return {
    gateway,
    only(names) {
      for (const [name, { remove }] of known) {
        if (names.includes(name)) continue;
        remove();
        known.delete(name);
      }
      for (const name of names) gateway(name);
    },
  };
}

function byValue<Value extends string, Series>(
  values: readonly Value[],
  series: (value: Value) => Series,
): Record<Value, Series> {
  return Object.fromEntries(values.map((value) => [value, series(value)])) as Record<Value, Series>;
}
