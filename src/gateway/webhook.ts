import { Pool } from "undici";
import { Attempt } from "./attempt.ts";
import { createConnector } from "./connector.ts";
import type { DeadlineWheel } from "./deadline-wheel.ts";
import type { Outcome } from "./outcome.ts";
import { createRequestMaker, type RequestOptions, type Sendable } from "./request.ts";

export type { Sendable };

export interface WebhookOptions extends RequestOptions {
  /** For the whole attempt: connecting, sending, and the answer to its last byte. */
  readonly timeoutMs: number;
  /** The most connections, with one request on each. */
  readonly concurrency: number;
  readonly deadlines: DeadlineWheel;
}

export interface Webhook {
  /** Scheme, host and port of the gateway: `https://sms.example.com`. */
  readonly origin: string;
  /**
   * Makes one attempt. Never throws; calls `done` exactly once, and never before `send` has returned. What has no connection at
   * `sendByMs` (on the clock of `performance.now()`; by default when the message expires) ends as `retry`.
   */
  send(message: Sendable, done: (outcome: Outcome) => void, sendByMs?: number): void;
  /** Ends everything in flight: `unknown` where the request had left, `retry` where it had not. */
  abort(reason: string): void;
  /** Waits for what is in flight, at most its deadline, and closes the connections. What is sent later ends as `retry`. */
  close(): Promise<void>;
}

/** An SMS gateway behind a webhook (DESIGN.md, section 6). Throws a TypeError for options that no request could carry. */
export function createWebhook(options: WebhookOptions): Webhook {
  const { concurrency, deadlines, timeoutMs } = options;
  const makeRequest = createRequestMaker(options);
  const connector = createConnector(timeoutMs, deadlines);
  const { origin } = new URL(options.url);
  const pool = new Pool(origin, {
    connect: connector.connect,
    connections: concurrency,
    pipelining: 1,
    // Over HTTP/2 the pool would put every request on one connection.
    allowH2: false,
    // The wheel is the only deadline: these cost a timer a request, are up to a second late, and a dripping body never trips them.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const inFlight = new Map<Attempt, (outcome: Outcome) => void>();
  let closed: Promise<void> | undefined;
  let onIdle: (() => void) | undefined;

  function ended(attempt: Attempt, outcome: Outcome): void {
    const done = inFlight.get(attempt);
    inFlight.delete(attempt);
    deadlines.remove(attempt);
    // Later, because undici's parser is still on the stack: a send() from here could enter it again, which breaks it.
    if (done) queueMicrotask(() => done(outcome));
    if (inFlight.size === 0) onIdle?.();
  }

  async function close(): Promise<void> {
    if (inFlight.size > 0) {
      const idle = Promise.withResolvers<void>();
      onIdle = idle.resolve;
      await idle.promise;
    }
    connector.giveUp();
    await pool.destroy();
  }

  return {
    origin,
    send(message, done, sendByMs = message.expiresAtMs) {
      const attempt = new Attempt(timeoutMs, sendByMs, ended);
      inFlight.set(attempt, done);
      if (closed) return attempt.abort("not sent: the relayer is stopping");
      pool.dispatch(makeRequest(message), attempt);
      // After the dispatch: of a connection and the attempt that opens it, the connection expires first, and is free for the next.
      if (!attempt.over) deadlines.add(attempt, timeoutMs);
    },
    abort(reason) {
      for (const attempt of inFlight.keys()) attempt.abort(reason);
    },
    close() {
      closed ??= close();
      return closed;
    },
  };
}
