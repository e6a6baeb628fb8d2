import type { Claim, Result, Settled } from "../db/outbox.ts";
import type { Outcome } from "../gateway/outcome.ts";

/** Shows what the relay does as parts of the traces that its messages belong to. Called on the hot path: return soon. */
export interface Tracer {
  /** For one gateway; its POSTs go to `origin`. */
  route(gateway: string, origin: string): RouteTracer;
}

export interface RouteTracer {
  /** A claim that found messages, and has just ended. */
  claimed(claims: readonly Claim[], tookMs: number): void;
  /** An attempt begins. */
  attempt(claim: Claim): AttemptTracer;
  /** Does the work, which settles these results. */
  settle(results: readonly Result[], work: () => Promise<Settled>): Promise<Settled>;
}

export interface AttemptTracer {
  /** For the POST, instead of the message's own. */
  readonly traceparent: string;
  ended(outcome: Outcome): void;
}
