import type { UntoldEnding } from "../db/minutes.ts";
import type { Gateway, Result, Settled, State } from "../db/outbox.ts";
import { createAnswers } from "./log/answers.ts";
import { withoutContent } from "./log/without-content.ts";
import type { Logger } from "./log.ts";
import type { Metrics } from "./metrics.ts";

export interface ReporterOptions {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly isOutage: (error: unknown) => boolean;
  /** Told of what was sent, for receipts. */
  readonly onSent: (gatewayMessageIds: readonly string[], sentAt: string) => void;
}

const SAMPLE = 10;
/** What claim() raises for a number that was rescued. */
const TAKEN_FOR_DEAD = "OB002";

/**
 * What happens in the relay, as log lines and metrics: a line for each group of messages that share a fate, none for each
 * message, and never a number or a content.
 */
export function createReporter({ log, metrics, isOutage, onSent }: ReporterOptions) {
  const answers = createAnswers();
  let away = false;
  let lastError = "";

  function reportFailures(gateway: string, results: readonly Result[], settled: Settled): void {
    const dead = new Set(settled.dead);
    const stale = new Set(settled.stale);
    const retried = results.filter(
      ({ claim, outcome }) => outcome.kind !== "accepted" && !dead.has(claim.id) && !stale.has(claim.id),
    );
    if (retried.length > 0) {
      const fields = {
        gateway,
        count: retried.length,
        message_ids: sample(retried),
        error: errorOf(retried[0]),
      };
      log.info(fields, "attempts failed; their messages wait for the next");
    }
    if (settled.dead.length > 0) {
      for (const [reason, count] of tally(settled.dead_reasons))
        metrics.gateway(gateway).deadLetters(reason, count);
      const buried = results.filter(({ claim }) => dead.has(claim.id));
      const reasons = Object.fromEntries(tally(settled.dead_reasons));
      const fields = {
        gateway,
        count: dead.size,
        reasons,
        message_ids: sample(buried),
        error: errorOf(buried[0]),
      };
      log.warn(fields, "messages ended as dead letters");
    }
    if (settled.stale.length > 0) {
      metrics.staleSettles(settled.stale.length);
      const late = results.filter(({ claim }) => stale.has(claim.id));
      const outcomes = Object.fromEntries(tally(late.map(({ outcome }) => outcome.kind)));
      log.warn(
        { gateway, outcomes, message_ids: settled.stale },
        "results came too late: the claims were rescued",
      );
    }
  }

  return {
    claimed(_gateway: string, _count: number, durationMs: number): void {
      metrics.claim(durationMs / 1_000);
    },
    outcome(gateway: string, result: Result): void {
      const { claim, outcome } = result;
      const its = metrics.gateway(gateway);
      its.attempt(outcome.kind, outcome.durationMs / 1_000);
      if (outcome.kind === "accepted")
        its.delivered(claim.priority, Math.max(0, performance.now() - claim.dueSinceMs) / 1_000);
      else answers.heard(result);
    },
    woken(source: "timer" | "poll"): void {
      metrics.wakeup(source);
    },
    foundUntold(): void {
      metrics.notifySkipped();
    },
    inFlight(gateway: string, count: number): void {
      metrics.gateway(gateway).inflight(count);
    },
    settled(gateway: string, results: readonly Result[], settled: Settled, durationMs: number): void {
      metrics.settle(durationMs / 1_000, results.length);
      if (settled.sent < results.length) reportFailures(gateway, results, settled);
      if (settled.sent === 0) return;
      const stale = new Set(settled.stale);
      const ids: string[] = [];
      for (const { claim, outcome } of results) {
        if (outcome.gatewayMessageId !== null && !stale.has(claim.id)) ids.push(outcome.gatewayMessageId);
      }
      onSent(ids, settled.settled_at);
    },
    refused(gateway: string, { claim, outcome }: Result, error: unknown): void {
      log.error(
        { gateway, message_id: claim.id, outcome: outcome.kind, err: error },
        "Postgres refuses a result; trying again",
      );
    },
    unsettled(gateway: string, count: number): void {
      log.error(
        { gateway, count },
        "stopped with results that could not be recorded; their messages will be sent again",
      );
    },
    disowned(gateway: string, count: number): void {
      log.warn({ gateway, count }, "gave back claims whose answer was lost with a connection");
    },
    state(state: State, before: State | undefined): void {
      metrics.schedulerRunning(state.running);
      metrics.gateways(state.gateways.map(({ name }) => name));
      if (away) {
        away = false;
        log.info("Postgres answers again");
      }
      if (before?.running !== undefined && before.running !== state.running) {
        log.info(state.running ? "the scheduler was resumed" : "the scheduler was paused");
      }
      const was = new Map(before?.gateways.map((gateway) => [gateway.name, gateway]));
      for (const gateway of state.gateways) {
        const { name, paused, circuit, held_until, hold_reason, hold_detail } = gateway;
        const old = was.get(name);
        if (paused !== (old?.paused ?? false))
          log.info({ gateway: name }, paused ? "gateway paused" : "gateway resumed");
        const fields = {
          gateway: name,
          held_until,
          reason: hold_reason,
          error: hold_detail && answers.shown(hold_detail),
        };
        if (!isHeld(old)) {
          if (isHeld(gateway)) log.warn(fields, "gateway held");
        } else if (!isHeld(gateway)) {
          log.info({ gateway: name }, "gateway no longer held");
        } else if (circuit !== "half_open" && held_until !== null && held_until !== old?.held_until) {
          log.info(fields, "gateway still held");
        }
      }
    },
    /** What no settle of any relayer has told of. */
    endedUntold({ gateway, reason, count }: UntoldEnding): void {
      metrics.gateway(gateway).deadLetters(reason, count);
    },
    error(what: string, error: unknown): void {
      if ((error as { code?: unknown } | null)?.code === TAKEN_FOR_DEAD) {
        log.warn(
          { during: what },
          "this relayer was taken for dead: it claims nothing until it has a new number",
        );
        return;
      }
      if (isOutage(error)) {
        if (!away) log.warn({ during: what, err: error }, "Postgres is away; waiting for it");
        away = true;
        return;
      }
      const message = `${what}: ${error instanceof Error ? error.message : String(error)}`;
      if (message !== lastError) log.error({ during: what, err: error }, "a statement failed; trying again");
      lastError = message;
    },
  };
}

/** Until its time has come, and then until a probe has passed. */
function isHeld(gateway: Gateway | undefined): boolean {
  return gateway !== undefined && (gateway.held_until !== null || gateway.circuit !== "closed");
}

function errorOf(result: Result | undefined): string | null {
  const error = result?.outcome.error ?? null;
  return result === undefined || error === null ? null : withoutContent(error, result.claim.content);
}

function sample(results: readonly Result[]): number[] {
  return results.slice(0, SAMPLE).map(({ claim }) => claim.id);
}

function tally<Key extends string>(keys: readonly Key[]): Map<Key, number> {
  const counts = new Map<Key, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}
