import { type Gateway, NEVER_BY_A_RUN } from "./rules/gateway.ts";
import { status, type World } from "./rules/world.ts";

/** How often each thing happened, over all runs. */
export type Coverage = Map<string, number>;

export function count(coverage: Coverage, what: string): void {
  coverage.set(what, (coverage.get(what) ?? 0) + 1);
}

/**
 * The states that things are in; taken before and after a step, they show what the step did. version: a circuit that turned
 * from half_open to half_open is another probe, a message that turned from rejected to rejected has a new revision.
 */
type States = ReadonlyMap<number | string, { readonly state: string; readonly version: number }>;

export const states = (world: World): States =>
  new Map<number | string, { state: string; version: number }>([
    ...[...world.messages].map(
      ([id, one]) => [id, { state: one.reason ?? status(one), version: one.revision }] as const,
    ),
    ...[...world.gateways].map(
      ([name, it]) => [name, { state: circuit(it), version: it.changedAt }] as const,
    ),
  ]);

function circuit({ circuit, hold, policy }: Gateway): string {
  if (circuit !== "open") return circuit;
  if (hold?.reason !== "circuit_open") return `open (${hold?.reason})`;
  return policy.circuit_failures === NEVER_BY_A_RUN ? "open (share of failures)" : "open (run of failures)";
}

/** Each thing that a step took from one state to another: "settle: sending → sent". */
export function countChanges(coverage: Coverage, step: string, before: States, after: States): void {
  for (const [name, then] of after) {
    const was = before.get(name);
    if (was !== undefined && (was.state !== then.state || was.version !== then.version))
      count(coverage, `${step}: ${was.state} → ${then.state}`);
  }
}

/** What happens too seldom in so many runs for them to prove anything. */
export const lacking = (coverage: Coverage, runs: number): string[] =>
  Object.entries(IN_A_THOUSAND_RUNS)
    .filter(([what, least]) => (coverage.get(what) ?? 0) < Math.floor((least * runs) / 1_000))
    .map(([what]) => what);

const IN_A_THOUSAND_RUNS: Readonly<Record<string, number>> = {
  "enqueue: a key seen before": 100,
  "insert: a key seen before": 50,
  "claim: paused": 200,
  "claim: held, circuit_open": 40,
  "claim: held, hold": 40,
  "claim: held, throttled": 40,
  "claim: no room for more, tokens": 150,
  "claim: no room for more, probes": 30,
  "claim: taken for dead": 40,
  "claim: pending → sending": 4_000,
  "claim: pending → expired": 150,
  "settle: accepted": 600,
  "settle: rejected": 150,
  "settle: retry": 600,
  "settle: throttled": 150,
  "settle: unknown": 300,
  "settle: hold": 150,
  "settle: hold, by its own fault": 10,
  "settle: retry, moot": 80,
  "settle: unknown, moot": 30,
  "settle: sending → exhausted": 120,
  "settle: sending → unknown_outcome": 100,
  "settle: stale": 600,
  "settle: stale, its relayer was taken for dead": 100,
  "settle: stale, given back and claimed again since": 8,
  "settle: two claims of one message": 4,
  "settle: closed → open (hold)": 120,
  "settle: closed → open (run of failures)": 25,
  "settle: closed → open (share of failures)": 1,
  "settle: closed → open (throttled)": 5,
  "claim: open (hold) → half_open": 80,
  "claim: open (run of failures) → half_open": 10,
  "settle: half_open → closed": 50,
  "settle: half_open → open (hold)": 25,
  "settle: half_open → open (run of failures)": 2,
  "release: sending → pending": 250,
  "rescue: a host that is gone": 8,
  "rescue: a process that is gone": 12,
  "rescue: sending → pending": 40,
  "rescue: sending → exhausted": 5,
  "rescue: sending → unknown_outcome": 25,
  pause: 80,
  toggle: 80,
  "resume: closed → closed": 8,
  "resume: open (hold) → closed": 5,
  "resume: open (run of failures) → closed": 1,
  "expire: pending → expired": 20,
  "maintain: pending → expired": 80,
  "cancel: pending → cancelled": 200,
  "cancel: OB005": 120,
  "cancel: OB006": 60,
  "edit: rejected → rejected": 2,
  "edit: OB005": 80,
  "edit: OB006": 80,
  "edit: 23514 expires_at_in_the_past": 20,
  "replay: sent → pending": 12,
  "replay: rejected → pending": 20,
  "replay: exhausted → pending": 20,
  "replay: expired → pending": 12,
  "replay: cancelled → pending": 150,
  "replay: unknown_outcome → pending": 6,
  "replay: OB005": 250,
  "replay: OB006": 120,
  "replay: OB007 replay_needs_force": 25,
  "replay: OB007 replay_needs_expires_at": 25,
  "replay: 23505 dedupe_key_seen_before": 8,
  "replay: 23514 expires_at_in_the_past": 25,
};
