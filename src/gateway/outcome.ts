/** What one attempt at the gateway showed; the same closed list as the domain `outbox.outcome`. */
export const OUTCOMES = ["accepted", "rejected", "retry", "throttled", "unknown", "hold"] as const;
export type OutcomeKind = (typeof OUTCOMES)[number];

/** An attempt's result as a value. Delivering never throws for what a gateway does, only for bugs. */
export interface Outcome {
  readonly kind: OutcomeKind;
  /** HTTP status, when an answer came. */
  readonly httpStatus: number | null;
  /** The id the gateway gave the message; set exactly when `kind` is `accepted`. */
  readonly gatewayMessageId: string | null;
  /** What went wrong, for a person, with as much of the answer as helps; null when accepted. */
  readonly error: string | null;
  /** Whole attempt, connect included, in milliseconds. */
  readonly durationMs: number;
  /** How long the gateway asked to be left alone (Retry-After), in milliseconds. */
  readonly retryAfterMs: number | null;
}
