import type { OutcomeKind } from "../../../src/gateway/outcome.ts";

/** What differs from run to run. */
export interface Policy {
  readonly max_attempts: number;
  readonly on_unknown: "retry" | "park";
  readonly keep_attempts: "failed" | "all";
  readonly rate_per_second: number | null;
  readonly circuit_failures: number;
  readonly circuit_probes: number;
}

/** What is the same in all runs, in milliseconds; small, so that everything comes due within a few steps. */
export const BASE_DELAY = 1_000;
export const MAX_DELAY = 3_000;
export const HOLD_FOR = 4_000;
export const THROTTLE = 5_000;
const SHORTEST_THROTTLE = 1_000;
export const TIMEOUT = 1_000;
export const PROBE_GIVEN_UP = TIMEOUT + 5_000;
export const CIRCUIT_PAUSE = 1_000;
export const CIRCUIT_MAX_PAUSE = 3_000;
export const CIRCUIT_WINDOW = 40_000;
export const CIRCUIT_RATIO = 0.25;
export const BURST = 3;
const ENOUGH_TO_JUDGE = 20;

/** As circuit_failures: only a share of failures opens the circuit. */
export const NEVER_BY_A_RUN = 1_000;

/** A gateway as the model has it. Times are milliseconds of the run's own calendar. */
export interface Gateway {
  readonly policy: Policy;
  paused: boolean;
  hold: { readonly until: number; readonly reason: "throttled" | "hold" | "circuit_open" } | null;
  circuit: "closed" | "open" | "half_open";
  /** Only what was claimed since then says anything about it. */
  changedAt: number;
  /** Since it was closed last. */
  pauses: number;
  /** When a probe passed last: the account and the URL were in order. */
  provedAt: number;
  /** Failures in a row. */
  run: number;
  /** Begins with a failure; null: none lately. */
  window: (Tally & { readonly startedAt: number }) | null;
  probe: Tally & { readonly size: number };
  tokens: number;
  tokensAt: number;
}

interface Tally {
  passed: number;
  failed: number;
}

interface News extends Tally {
  /** Answers that fault the account or the URL. */
  readonly faults: number;
}

/** One attempt's result, as far as it concerns the gateway. */
export interface Shown {
  readonly outcome: OutcomeKind;
  readonly claimedAt: number;
  readonly retryAfter: number | null;
  /** The relayer cut it short: it says nothing of the gateway. */
  readonly moot: boolean;
  /** A hold that is the message's fault. */
  readonly isOwnFault: boolean;
}

export const newGateway = (policy: Policy): Gateway => ({
  policy,
  paused: false,
  hold: null,
  circuit: "closed",
  changedAt: Number.NEGATIVE_INFINITY,
  pauses: 0,
  provedAt: Number.NEGATIVE_INFINITY,
  run: 0,
  window: null,
  probe: { size: 0, passed: 0, failed: 0 },
  tokens: 0,
  tokensAt: Number.NEGATIVE_INFINITY,
});

/** The wait before the nth try again: doubled each time, up to a limit. */
export const doubling = (first: number, longest: number, nth: number): number =>
  Math.min(longest, first * 2 ** (nth - 1));

export const isClaimedFor = ({ paused, hold }: Gateway, now: number): boolean =>
  !paused && (hold === null || hold.until <= now);

/** The bucket fills by the rate up to the burst; null without a rate. */
export function tokens({ policy, tokens, tokensAt }: Gateway, now: number): number | null {
  if (policy.rate_per_second === null) return null;
  return Math.min(BURST, tokens + (policy.rate_per_second * (now - tokensAt)) / 1000);
}

/** The most that one claim may take. */
export function room(gateway: Gateway, now: number): number {
  const { circuit, policy } = gateway;
  return Math.min(
    Math.floor(tokens(gateway, now) ?? Number.POSITIVE_INFINITY),
    circuit === "closed" ? Number.POSITIVE_INFINITY : policy.circuit_probes,
  );
}

/** So many were claimed: their tokens are used, and while the circuit is not closed they are the probe. */
export function claimed(gateway: Gateway, many: number, now: number): void {
  if (many === 0) return;
  const left = tokens(gateway, now);
  if (left !== null) Object.assign(gateway, { tokens: left - many, tokensAt: now });
  if (gateway.circuit !== "closed") {
    gateway.circuit = "half_open";
    gateway.changedAt = now;
    gateway.probe = { size: many, passed: 0, failed: 0 };
    gateway.hold = { until: now + PROBE_GIVEN_UP, reason: "circuit_open" };
  }
}

/** What was claimed and never sent took no token, and a probe that was not sent may be made again at once. */
export function refund(gateway: Gateway, claimedAt: number, now: number): void {
  if (gateway.policy.rate_per_second !== null) gateway.tokens += 1;
  const { circuit, changedAt, hold } = gateway;
  if (circuit === "half_open" && claimedAt >= changedAt && hold !== null && hold.reason !== "throttled")
    gateway.hold = { ...hold, until: Math.min(hold.until, now) };
}

/** What results that were settled together say of their gateway. Returns whether it is held by this. */
export function judge(gateway: Gateway, results: readonly Shown[], now: number): boolean {
  const before = gateway.hold?.until;
  const news = results.filter(({ claimedAt, moot }) => claimedAt >= gateway.changedAt && !moot);
  const failed = news.filter(({ outcome }) => outcome === "retry" || outcome === "unknown").length;
  const faults = news.filter(({ outcome, isOwnFault }) => outcome === "hold" && !isOwnFault).length;
  const shown = { passed: news.length - failed - faults, failed, faults };

  if (gateway.circuit === "half_open") judgeProbe(gateway, shown, now);
  else if (gateway.circuit === "closed") judgeFlow(gateway, shown, now);

  const asked = results
    .filter(({ outcome }) => outcome === "throttled")
    .map(({ retryAfter }) => now + Math.max(retryAfter ?? THROTTLE, SHORTEST_THROTTLE));
  const until = Math.max(...asked);
  if (asked.length > 0 && (gateway.hold === null || until > gateway.hold.until))
    gateway.hold = { until, reason: "throttled" };
  return gateway.hold !== null && gateway.hold.until !== before;
}

/** A probe is judged by its majority. */
function judgeProbe(gateway: Gateway, { passed, failed, faults }: News, now: number): void {
  const { probe } = gateway;
  probe.passed += passed;
  probe.failed += failed + faults;
  if (2 * probe.passed >= probe.size) {
    close(gateway, now);
    gateway.provedAt = now;
  } else if (2 * probe.failed > probe.size) open(gateway, faults > 0, now);
}

function judgeFlow(gateway: Gateway, { passed, failed, faults }: News, now: number): void {
  // In what order those of one settle came is not known: one that passed ends the run.
  gateway.run = passed > 0 ? 0 : gateway.run + failed;
  if (gateway.window !== null && gateway.window.startedAt <= now - CIRCUIT_WINDOW) gateway.window = null;
  if (failed > 0) gateway.window ??= { startedAt: now, passed: 0, failed: 0 };
  const { window } = gateway;
  if (window !== null) {
    window.passed += passed;
    window.failed += failed;
  }
  const share =
    window !== null && window.passed + window.failed >= ENOUGH_TO_JUDGE
      ? window.failed / (window.passed + window.failed)
      : 0;
  if (faults > 0 || gateway.run >= gateway.policy.circuit_failures || share >= CIRCUIT_RATIO)
    open(gateway, faults > 0, now);
}

/** For a fixed time if the account or the URL is at fault, else for a growing one. */
function open(gateway: Gateway, faulty: boolean, now: number): void {
  Object.assign(gateway, { circuit: "open", changedAt: now, run: 0, window: null });
  if (!faulty) gateway.pauses++;
  const wait = faulty ? HOLD_FOR : doubling(CIRCUIT_PAUSE, CIRCUIT_MAX_PAUSE, gateway.pauses);
  // A gateway that asked to be left alone for longer is left alone for longer.
  if (gateway.hold?.reason !== "throttled" || gateway.hold.until <= now + wait)
    gateway.hold = { until: now + wait, reason: faulty ? "hold" : "circuit_open" };
}

function close(gateway: Gateway, now: number): void {
  Object.assign(gateway, { circuit: "closed", changedAt: now, run: 0, window: null, pauses: 0 });
  if (gateway.hold?.reason !== "throttled" || gateway.hold.until <= now) gateway.hold = null;
}

/** Ends a pause and a hold, and closes the circuit. Returns whether there was anything to end. */
export function resume(gateway: Gateway, now: number): boolean {
  if (!gateway.paused && gateway.hold === null && gateway.circuit === "closed") return false;
  gateway.paused = false;
  gateway.hold = null;
  close(gateway, now);
  return true;
}
