import type { RelayerProcess } from "./relayer-process.ts";

/** Whose messages may be posted once more because of a fault, though the gateway's answer was clear. */
export type Blame = "everyone" | "its relayer" | "no one";

/** One fault, from its beginning to its end: milliseconds since 1970. */
export interface FaultSpan {
  readonly fault: string;
  readonly blame: Blame;
  readonly relayer: RelayerProcess | undefined;
  readonly from: number;
  /** Infinity while it lasts. */
  to: number;
}

export interface FaultLog {
  readonly spans: readonly FaultSpan[];
  begin(fault: string, blame: Blame, relayer?: RelayerProcess): FaultSpan;
  /** Those that had not ended before `from`, and had begun by `to`; what they leave behind takes a while to pass. */
  during(from: number, to: number, aftermathMs?: number): FaultSpan[];
}

/** For sessions to be made anew, late results to come in and claims to be rescued. */
const AFTERMATH_MS = 2_500;

export function createFaultLog(): FaultLog {
  const spans: FaultSpan[] = [];
  return {
    spans,
    begin(fault, blame, relayer) {
      const span: FaultSpan = { fault, blame, relayer, from: Date.now(), to: Number.POSITIVE_INFINITY };
      spans.push(span);
      return span;
    },
    during: (from, to, aftermathMs = AFTERMATH_MS) =>
      spans.filter((span) => span.from <= to && span.to + aftermathMs >= from),
  };
}
