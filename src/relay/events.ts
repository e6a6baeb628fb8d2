import type { Result, Settled, State } from "../db/outbox.ts";

/** What happens in the relay, for logs, metrics and receipts. Called on the hot path: return soon. */
export interface RelayEvents {
  claimed(gateway: string, count: number, durationMs: number): void;
  outcome(gateway: string, result: Result): void;
  inFlight(gateway: string, count: number): void;
  /** A gateway's loop looks because something becomes due, or because it has not looked for long. */
  woken(source: "timer" | "poll"): void;
  /** While awake it looked by itself, and found messages that no NOTIFY had told of. */
  foundUntold(): void;
  settled(gateway: string, results: readonly Result[], settled: Settled, durationMs: number): void;
  /** A result that Postgres refuses to record; it is tried again. */
  refused(gateway: string, result: Result, error: unknown): void;
  /** Results that could not be recorded before the end. */
  unsettled(gateway: string, count: number): void;
  /** Claims given back because the answer that named them was lost. */
  disowned(gateway: string, count: number): void;
  /** What Postgres says about the switch and the gateways, each time it is read. */
  state(state: State, before: State | undefined): void;
  /** A statement failed; it is tried again. */
  error(what: string, error: unknown): void;
}
