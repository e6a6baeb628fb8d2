import { Redis } from "ioredis";
import { errorMessage } from "./log.ts";

export interface ReceiptsOptions {
  /** `redis://` or `rediss://`; its password is never logged. */
  readonly url: string;
  /** How long a receipt lives, from the moment it is written. */
  readonly ttlMs: number;
  /** Called for each failed connection or write, and for each receipt given up. */
  readonly onError: () => void;
  readonly log: ReceiptsLog;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
}

export interface ReceiptsLog {
  warn(fields: object, message: string): void;
  info(fields: object, message: string): void;
}

export interface Receipts {
  start(): void;
  /** Queues `message:<id>` = `sentAt` (ISO 8601) for each gateway message id; never waits and never throws. */
  record(gatewayMessageIds: readonly string[], sentAt: string): void;
  /** Writes what it can within half a second, then lets go. */
  stop(): Promise<void>;
}

interface Receipt {
  readonly key: string;
  readonly sentAt: string;
}

const CAPACITY = 10_000;
const PIPELINE_SIZE = 1_000;
const RETRY_MS = 1_000;
const WARN_EVERY_MS = 60_000;
const STOP_MS = 400;

/**
 * Receipts in Redis: a convenience beside Postgres, which is where sending is remembered. So nothing ever waits for
 * Redis. What it does not take stays queued (SET can be repeated) until newer receipts need the room.
 *
 * Throws only for a URL that cannot be parsed.
 */
export function createReceipts({
  url,
  ttlMs,
  onError,
  log,
  now = () => performance.now(),
}: ReceiptsOptions): Receipts {
  const redis = createClient(url);
  const address = redis.options.path ?? `${redis.options.host}:${redis.options.port}`;

  let queue: Receipt[] = [];
  let inFlight = 0;
  let draining = false;
  let retry: NodeJS.Timeout | undefined;
  let failing = false;
  let warned = false;
  let warnedAt = Number.NEGATIVE_INFINITY;
  let lost = 0;
  let closed = false;
  let stopping: Promise<void> | undefined;
  let lastTryEnded = () => {};

  redis.on("error", failed);
  redis.on("ready", () => {
    if (closed) return;
    // With receipts queued, only a write proves that Redis takes them: it may be read-only or full.
    if (queue.length === 0) recovered();
    drainSoon();
  });

  function failed(error: unknown): void {
    if (closed) return;
    onError();
    failing = true;
    if (now() - warnedAt >= WARN_EVERY_MS) {
      warnedAt = now();
      warned = true;
      const fields = {
        redis: address,
        error: errorMessage(error),
        receipts_waiting: queue.length,
        receipts_lost: lost,
      };
      log.warn(fields, "Redis takes no receipts; messages are sent all the same");
      lost = 0;
    }
    lastTryEnded();
  }

  function recovered(): void {
    failing = false;
    if (!warned) return;
    warned = false;
    log.info(
      { redis: address, receipts_waiting: queue.length, receipts_lost: lost },
      "Redis takes receipts again",
    );
    lost = 0;
  }

  function giveUp(count: number): void {
    lost += count;
    for (let i = 0; i < count; i++) onError();
  }

  function dropOldest(): void {
    const excess = queue.length - CAPACITY;
    if (excess <= 0) return;
    queue.splice(0, excess);
    giveUp(excess);
  }

  function drainSoon(): void {
    if (draining || retry !== undefined || queue.length === 0 || redis.status !== "ready") return;
    draining = true;
    // Not on the caller's stack: it has messages to settle.
    setImmediate(async () => {
      await drain();
      draining = false;
      if (queue.length === 0) lastTryEnded();
      drainSoon();
    });
  }

  async function drain(): Promise<void> {
    while (queue.length > 0 && redis.status === "ready" && !closed) {
      const batch = queue.splice(0, PIPELINE_SIZE);
      inFlight = batch.length;
      const { unwritten, error } = await write(batch);
      inFlight = 0;
      if (closed) return;
      if (unwritten.length > 0) {
        queue = unwritten.concat(queue);
        dropOldest();
        retry = setTimeout(tryAgain, RETRY_MS).unref();
        failed(error);
        // A fresh connection for the next try: this one may be frozen with our commands in its buffers, or lead to
        // a primary that has become a replica.
        if (redis.status === "ready") redis.disconnect(true);
        return;
      }
      recovered();
    }
  }

  function tryAgain(): void {
    clearTimeout(retry);
    retry = undefined;
    drainSoon();
  }

  async function write(batch: readonly Receipt[]): Promise<{ unwritten: Receipt[]; error: unknown }> {
    try {
      const pipeline = redis.pipeline();
      for (const { key, sentAt } of batch) pipeline.set(key, sentAt, "PX", ttlMs);
      // exec() resolves whatever happened; each command's failure is in its own entry.
      const replies = (await pipeline.exec()) ?? [];
      const unwritten = batch.filter((_, i) => replies[i]?.[1] !== "OK");
      return { unwritten, error: replies.find(([error]) => error !== null)?.[0] ?? "no answer" };
    } catch (error) {
      return { unwritten: [...batch], error };
    }
  }

  async function finish(): Promise<void> {
    const knownDead = failing && redis.status !== "ready";
    if (queue.length + inFlight > 0 && redis.status !== "wait" && !knownDead) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, STOP_MS);
        lastTryEnded = () => {
          clearTimeout(deadline);
          resolve();
        };
        tryAgain();
      });
    }
    closed = true;
    clearTimeout(retry);
    redis.disconnect();
    giveUp(queue.length + inFlight);
    queue = [];
    if (lost > 0)
      log.warn({ redis: address, receipts_lost: lost }, "Stopped with receipts not written to Redis");
  }

  return {
    start() {
      // A failure comes as an "error" event too, and ioredis goes on trying.
      if (redis.status === "wait" && !closed) redis.connect().catch(() => {});
    },
    record(gatewayMessageIds, sentAt) {
      if (closed) return giveUp(gatewayMessageIds.length);
      for (const id of gatewayMessageIds) queue.push({ key: `message:${id}`, sentAt });
      dropOldest();
      drainSoon();
    },
    stop() {
      stopping ??= finish();
      return stopping;
    },
  };
}

function createClient(url: string): Redis {
  try {
    return new Redis(url, {
      lazyConnect: true,
      // Without these, ioredis keeps every command in memory for as long as Redis is away.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      commandTimeout: 250,
      socketTimeout: 1_000,
      // Generous because nobody waits for it, and giving up does not cancel a name lookup: repeated often, stuck
      // ones would fill the thread pool and delay the gateway's lookups.
      connectTimeout: 10_000,
      // How long a frozen peer may take to close; the default of 2 s would hold up the exit.
      disconnectTimeout: 50,
      retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 2_000),
    });
  } catch {
    // Without the cause: Node's error carries the whole URL, with its password.
    throw new Error("The Redis URL cannot be parsed");
  }
}
