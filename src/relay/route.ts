import type { Claim, Gateway, Outbox } from "../db/outbox.ts";
import type { Outcome } from "../gateway/outcome.ts";
import type { Webhook } from "../gateway/webhook.ts";
import type { Awake } from "./awake.ts";
import { createBookmark } from "./bookmark.ts";
import type { RelayEvents } from "./events.ts";
import { createLane } from "./lane.ts";
import { createSettler } from "./settler.ts";
import type { Tracer } from "./tracer.ts";

export interface RouteOptions {
  readonly outbox: Outbox;
  readonly gateway: Gateway;
  readonly webhook: Webhook;
  readonly awake: Awake;
  /** This relayer's number; undefined while it has none. */
  readonly relayer: () => number | undefined;
  /** Until when nobody takes this relayer for dead, on the clock of `performance.now()`. */
  readonly aliveUntilMs: () => number;
  readonly continuous: boolean;
  readonly batchSize: number;
  readonly pollIntervalMs: number;
  readonly isOutage: (error: unknown) => boolean;
  readonly events: RelayEvents;
  readonly tracer?: Tracer | undefined;
}

/** One gateway's way from the outbox to sent: its lane, its settler, its connections. */
export interface Route {
  readonly gateway: Gateway;
  wake(): void;
  take(size: number): Promise<number>;
  drop(): Promise<void>;
  /** Is there a claim not yet ended that was made under another number? */
  holdsClaimsBefore(relayer: number): boolean;
  /** Lets sends finish until `graceMs` have passed, then ends them; settles what they showed. */
  stop(graceMs: number): Promise<void>;
}

/** For settling what ended at the last moment. */
const SETTLE_GRACE_MS = 5_000;
/** After an answer of Postgres was lost, for how long what it may have claimed for us is looked for. */
const DOUBT_MS = 60_000;

export function createRoute(options: RouteOptions): Route {
  const { outbox, gateway, webhook, events } = options;
  const { name } = gateway;
  const tracer = options.tracer?.route(name, webhook.origin);
  /**
   * Every claim between its claiming and its end. Not by id: a message that was rescued may be claimed here again while the
   * result of the earlier claim still waits to be recorded.
   */
  const known = new Set<Claim>();
  const bookmark = createBookmark();
  let doubtUntil = Number.NEGATIVE_INFINITY;
  let stopping = false;
  /** Answers that fault the gateway, until Postgres knows of the hold they lead to. */
  let faults = 0;

  function doubt(what: string, error: unknown): void {
    doubtUntil = performance.now() + DOUBT_MS;
    events.error(what, error);
  }

  async function claim(size: number): Promise<readonly Claim[]> {
    const relayer = options.relayer();
    if (relayer === undefined || faults > 0 || options.aliveUntilMs() <= performance.now()) return [];
    if (performance.now() < doubtUntil) {
      const mine = [...known].filter((one) => one.relayer === relayer);
      const count = await outbox.disown(
        relayer,
        name,
        mine.map(({ id }) => id),
      );
      if (count > 0) events.disowned(name, count);
    }
    const start = performance.now();
    try {
      const claimed = await outbox.claim(relayer, name, size, bookmark.begin());
      const { claims } = claimed;
      const tookMs = performance.now() - start;
      for (const one of claims) known.add(one);
      bookmark.turn(claimed, tookMs);
      events.claimed(name, claims.length, tookMs);
      if (claims.length > 0) tracer?.claimed(claims, tookMs);
      if (faults === 0) return claims;
      await release(claims);
      return [];
    } catch (error) {
      doubt("claim", error);
      throw error;
    }
  }

  async function release(claims: readonly Claim[]): Promise<void> {
    for (const [relayer, group] of Map.groupBy(claims, (unsent) => unsent.relayer)) {
      const ids = group.map(({ id }) => id).sort((a, b) => a - b);
      await outbox.release(relayer, ids).catch((error: unknown) => doubt("release", error));
      for (const one of group) known.delete(one);
    }
    bookmark.reset();
  }

  const settler = createSettler({
    settle: (relayer, results) =>
      tracer === undefined
        ? outbox.settle(relayer, results)
        : tracer.settle(results, () => outbox.settle(relayer, results)),
    onSettled(results, settled, durationMs) {
      for (const { claim, outcome } of results) {
        known.delete(claim);
        if (faultsGateway(outcome)) faults--;
      }
      if (settled.held.includes(name)) void lane.drop();
      events.settled(name, results, settled, durationMs);
    },
    onRefused: (result, error) => events.refused(name, result, error),
    onError: (error) => events.error("settle", error),
    isOutage: options.isOutage,
  });

  const lane = createLane({
    claim,
    release,
    async nextDue() {
      try {
        const dueMs = (await outbox.nextDue(name, bookmark.last())) ?? Number.POSITIVE_INFINITY;
        return Math.min(dueMs, bookmark.sweepInMs());
      } catch (error) {
        events.error("next_due", error);
        return options.pollIntervalMs;
      }
    },
    isLost: ({ relayer }) => relayer !== options.relayer() || options.aliveUntilMs() <= performance.now(),
    send(message, done) {
      // What waits for a connection for longer may be another relayer's by then.
      const sendByMs = Math.min(message.expiresAtMs, options.aliveUntilMs());
      const attempt = tracer?.attempt(message);
      if (attempt === undefined) return webhook.send(message, done, sendByMs);
      const { traceparent } = attempt;
      webhook.send(
        { ...message, traceparent },
        (outcome) => {
          attempt.ended(outcome);
          done(outcome);
        },
        sendByMs,
      );
    },
    onOutcome(claimed, outcome) {
      const result = { claim: claimed, outcome, moot: stopping };
      settler.add(result);
      events.outcome(name, result);
      if (!faultsGateway(outcome)) return;
      // The gateway is about to be held: what has not been sent need not find out the same.
      faults++;
      void lane.drop();
    },
    onInFlight: (count) => events.inFlight(name, count),
    onWoken: (source) => events.woken(source),
    onClaimed(count, untold) {
      if (untold && count > 0) events.foundUntold();
      return options.awake.claimed(count);
    },
    continuous: options.continuous,
    concurrency: gateway.concurrency,
    batchSize: options.batchSize,
    pollIntervalMs: options.pollIntervalMs,
  });

  function faultsGateway({ kind }: Outcome): boolean {
    return kind === "hold" || kind === "throttled";
  }

  return {
    gateway,
    wake: () => lane.wake(),
    take: (size) => lane.take(size),
    drop: () => lane.drop(),
    holdsClaimsBefore: (relayer) => known.values().some((one) => one.relayer !== relayer),
    async stop(graceMs) {
      stopping = true;
      const overdue = setTimeout(() => webhook.abort("the relayer stopped"), Math.min(graceMs, 2 ** 31 - 1));
      await lane.stop();
      clearTimeout(overdue);
      const left = await settler.drained(AbortSignal.timeout(SETTLE_GRACE_MS));
      if (left > 0) events.unsettled(name, left);
      await webhook.close();
    },
  };
}
