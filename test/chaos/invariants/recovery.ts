import type { Facts } from "../facts.ts";
import type { Recovery } from "../recovery-watch.ts";
import { DEAD_AFTER_MS } from "../relayer-settings.ts";
import { type Violation, violation } from "./violation.ts";

/** From when on it can be known that a relayer is gone. */
const DEAD_AFTER = { "kill -9": 0, SIGSTOP: DEAD_AFTER_MS } as const;
const LIMIT_MS = 2_000;
/** For a relayer to have its session again. */
const RECONNECT_MS = 1_500;

/** Those that had Postgres and a healthy relayer beside them while its claims were to be freed. */
export function fairRecoveries({ recoveries, faults, processes }: Facts): Recovery[] {
  return recoveries.filter(({ fault, relayer, from }) => {
    const deadAt = from + DEAD_AFTER[fault];
    const inTime = deadAt + LIMIT_MS;
    const disturbed = faults.during(deadAt, inTime, RECONNECT_MS);
    if (disturbed.some(({ blame }) => blame === "everyone")) return false;
    // The run was over, and woke it up early.
    if (fault === "SIGSTOP" && !faults.spans.some((span) => span.relayer === relayer && span.to >= inTime))
      return false;
    return processes.some(
      (other) =>
        other !== relayer &&
        Math.min(...other.numbers.values()) < deadAt &&
        !disturbed.some((span) => span.relayer === other) &&
        (other.endedAt() ?? Number.POSITIVE_INFINITY) > inTime,
    );
  });
}

/** What a relayer had claimed can be claimed again soon after it was killed, or after it was taken for dead. */
export function checkRecovery(facts: Facts): Violation[] {
  const slow = fairRecoveries(facts).filter(({ fault, tookMs }) => tookMs > DEAD_AFTER[fault] + LIMIT_MS);
  return violation(
    "5: claims were not free again in time",
    slow.map(({ fault, relayer, claims, tookMs, from }) => ({
      seen: `${fault} of ${relayer.name} (number ${[...relayer.numbers.keys()].join(", ")}) at ${new Date(from).toISOString()}: ${claims} claims, ${tookMs.toFixed(0)} ms; at most ${DEAD_AFTER[fault] + LIMIT_MS}`,
    })),
  );
}
