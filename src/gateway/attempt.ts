import type { Dispatcher } from "undici";
import { classifyAnswer, classifyFailure } from "./classify.ts";
import type { Expiring } from "./deadline-wheel.ts";
import { failureText } from "./failure-text.ts";
import type { Outcome } from "./outcome.ts";
import { printableDuration } from "./printable.ts";

const LONGEST_ANSWER_BYTES = 64 * 1024;
const NOTHING = Buffer.alloc(0);
const OVER = new Error("the attempt is over");

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * One POST as undici sees it: collects what comes back and ends exactly once, with an Outcome. A class, because its
 * methods are then shared: this is made for every message.
 */
export class Attempt implements Dispatcher.DispatchHandler, Expiring {
  readonly #timeoutMs: number;
  readonly #sendByMs: number;
  readonly #onEnd: (attempt: Attempt, outcome: Outcome) => void;
  readonly #startedAt = performance.now();
  #controller: Dispatcher.DispatchController | null = null;
  #over = false;
  #status = 0;
  #headers: Headers = {};
  /** Nearly every answer is one chunk, which needs no list. */
  #first: Buffer = NOTHING;
  #rest: Buffer[] | null = null;
  #received = 0;

  /** @param sendByMs never sent after this, on the clock of `performance.now()` */
  constructor(timeoutMs: number, sendByMs: number, onEnd: (attempt: Attempt, outcome: Outcome) => void) {
    this.#timeoutMs = timeoutMs;
    this.#sendByMs = sendByMs;
    this.#onEnd = onEnd;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Ends an attempt that is still running, and its connection with it. */
  abort(reason: string): void {
    this.#fail(reason);
  }

  expire(): void {
    const limit = printableDuration(this.#timeoutMs);
    if (this.#controller === null) this.#fail(`no connection within ${limit}`);
    else if (this.#status === 0) this.#fail(`no answer within ${limit}`);
    else this.#fail(`the answer did not end within ${limit}`);
  }

  /** undici calls this right before it writes to an open connection: whatever fails earlier was never sent. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (!this.#over && this.#sendByMs <= performance.now())
      this.#fail("its time was over before there was a connection");
    // It ended while it waited for a connection. undici cannot take a waiting request back, but lets it refuse here,
    // which keeps the connection for the next.
    if (this.#over) throw OVER;
    this.#controller = controller;
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    // Interim answers (102, 103): the real one follows.
    if (this.#over || (status < 200 && status !== 101)) return;
    this.#status = status;
    this.#headers = headers;
    if (status === 101) this.#answer(false, null, true);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return;
    const room = LONGEST_ANSWER_BYTES - this.#received;
    const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
    if (this.#received === 0) this.#first = kept;
    else if (this.#rest === null) this.#rest = [kept];
    else this.#rest.push(kept);
    this.#received += kept.length;
    if (chunk.length > room) this.#answer(true, null, true);
  }

  onResponseEnd(): void {
    if (!this.#over) this.#answer(false, null, false);
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#over) return;
    // undici reports an answer of 101 as an error of the connection, without its status.
    if (error.message === "bad upgrade") this.#status = 101;
    this.#fail(failureText(error));
  }

  #fail(failure: string): void {
    if (this.#over) return;
    if (this.#status === 0) {
      this.#end(classifyFailure(this.#controller !== null, failure, this.#durationMs()), true);
    } else {
      this.#answer(false, failure, true);
    }
  }

  #answer(oversized: boolean, cut: string | null, drop: boolean): void {
    const answer = {
      status: this.#status,
      retryAfter: only(this.#headers["retry-after"]),
      location: only(this.#headers.location),
      body: this.#rest === null ? this.#first : Buffer.concat([this.#first, ...this.#rest]),
      oversized,
      cut,
    };
    // Which matters to a Retry-After alone.
    const nowMs = answer.retryAfter === undefined ? 0 : nowByGateway(this.#headers.date);
    this.#end(classifyAnswer(answer, nowMs, this.#durationMs()), drop);
  }

  #end(outcome: Outcome, drop: boolean): void {
    this.#over = true;
    this.#onEnd(this, outcome);
    if (drop) this.#controller?.abort(OVER);
  }

  #durationMs(): number {
    return Math.round(performance.now() - this.#startedAt);
  }
}

/** A date that the gateway names is on its clock, as its Date header is; ours may be hours off. */
function nowByGateway(date: string | string[] | undefined): number {
  const now = Date.parse(only(date) ?? "");
  return Number.isNaN(now) ? Date.now() : now;
}

function only(header: string | string[] | undefined): string | undefined {
  return typeof header === "string" ? header : header?.[0];
}
