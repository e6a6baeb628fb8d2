import type { Outcome, OutcomeKind } from "./outcome.ts";
import { printable } from "./printable.ts";
import { readReceipt } from "./receipt.ts";
import { parseRetryAfter } from "./retry-after.ts";

const LONGEST_ANSWER = 500;
/** Enough for 500 characters of any script and some whitespace; the rest of a large answer need not be decoded. */
const DECODED_BYTES = 8 * 1024;

/** What came back from the gateway, once its status is known. */
export interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly location: string | undefined;
  readonly body: Buffer;
  /** There was more, and it was not read. */
  readonly oversized: boolean;
  /** Why the body stopped before its end ("connection reset"); null when it did not. */
  readonly cut: string | null;
}

/**
 * The table of DESIGN.md, section 6. A status that is not 2xx decides alone, also when its body never came whole; a 2xx
 * without its whole body may have been a receipt, so that nobody knows.
 */
export function classifyAnswer(answer: Answer, nowMs: number, durationMs: number): Outcome {
  const { status } = answer;
  if (status < 200 || status > 299) return refused(answer, nowMs, durationMs);
  if (answer.cut !== null) {
    return failed("unknown", status, `HTTP ${status}, but ${answer.cut}; outcome unknown`, durationMs);
  }
  const gatewayMessageId = status === 202 && !answer.oversized ? readReceipt(answer.body) : null;
  if (gatewayMessageId === null) {
    const expected = 'expected 202 with the message "Accepted" and a messageId';
    return failed("rejected", status, answerText(answer, expected), durationMs);
  }
  return {
    kind: "accepted",
    httpStatus: status,
    gatewayMessageId,
    error: null,
    durationMs,
    retryAfterMs: null,
  };
}

/** No status came. What was never sent can be tried again; what has left may have been delivered. */
export function classifyFailure(sent: boolean, failure: string, durationMs: number): Outcome {
  return sent
    ? failed("unknown", null, `${failure}; outcome unknown`, durationMs)
    : failed("retry", null, failure, durationMs);
}

function refused(answer: Answer, nowMs: number, durationMs: number): Outcome {
  const { status, retryAfter, location } = answer;
  const asked = retryAfter === undefined ? null : parseRetryAfter(retryAfter, nowMs);
  const kind = kindOf(status, asked !== null);
  const redirected = status >= 300 && status <= 399 && location !== undefined;
  const note = redirected ? `redirects are not followed; it points to ${location}` : null;
  const waits = kind === "throttled" || kind === "retry";
  return failed(kind, status, answerText(answer, note), durationMs, waits ? asked : null);
}

function kindOf(status: number, askedToWait: boolean): OutcomeKind {
  switch (status) {
    case 408:
    case 425:
      return "retry";
    case 429:
      return "throttled";
    case 503:
      return askedToWait ? "throttled" : "retry";
    // The fault is the account's or the URL's: every message would die of it.
    case 401:
    case 402:
    case 403:
    case 404:
    case 405:
    case 407:
    case 410:
      return "hold";
  }
  // A switch to another protocol (101) or a redirect: this URL is not the gateway's.
  if (status >= 100 && status <= 399) return "hold";
  if (status >= 400 && status <= 499) return "rejected";
  // An invalid status is to be treated as a 5xx (RFC 9110, section 15).
  return "retry";
}

function failed(
  kind: OutcomeKind,
  httpStatus: number | null,
  error: string,
  durationMs: number,
  retryAfterMs: number | null = null,
): Outcome {
  return {
    kind,
    httpStatus,
    gatewayMessageId: null,
    error: printable(error, 1_000),
    durationMs,
    retryAfterMs,
  };
}

function answerText(answer: Answer, note: string | null): string {
  const said = printable(answer.body.subarray(0, DECODED_BYTES).toString("utf8"), LONGEST_ANSWER);
  const notes = [note, answer.oversized ? "the answer was too long" : null, answer.cut].filter(
    (one) => one !== null,
  );
  return `HTTP ${answer.status}${said && `: ${said}`}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`;
}
