import type { ApiDependencies, Log } from "../dependencies.ts";
import { ProblemError } from "../problem.ts";
import { createFeed } from "./feed.ts";
import { type Event, each, merge, type Of, type Place, readLog, type Source, type Stretch } from "./log.ts";
import { createTurns } from "./turns.ts";

/** One client. */
export interface Listener {
  readonly from: Of<Place>;
  readonly sources: readonly Source[];
  readonly wants: (event: Event) => boolean;
  readonly show: (event: Event) => Event["data"];
  /** Seals what has been passed: Last-Event-ID. */
  readonly idOf: (passed: Of<Place>) => Promise<string>;
  /** The key's end. */
  readonly expiresAt: Date | undefined;
  /** Cuts the connection, of a client that takes nothing. */
  readonly drop: () => void;
  /** For the log. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Streams {
  /** Throws too-many-streams. */
  open(listener: Listener): Promise<ReadableStream<Uint8Array>>;
}

export interface StreamsOptions {
  readonly pool: ApiDependencies["pool"];
  readonly log: Log;
  /** Ends all of them. */
  readonly stopping?: AbortSignal | undefined;
  readonly limit?: number;
  readonly lookEveryMs?: number;
  readonly keepAliveMs?: number;
  readonly stalledMs?: number;
}

/** Of each source, at once: what a client that does not read keeps in memory. */
const BATCH = 500;
const REMEMBERED = 2_000;
/** Of the pool's connections: requests have the others. */
const READERS = 2;
/** A client that takes nothing for so long is gone, or might as well be. */
const STALLED_MS = 60_000;
const RETRY_MS = 2_000;
const MAX_TIMER_MS = 2 ** 31 - 1;

export function createStreams(options: StreamsOptions): Streams {
  const { pool, log, stopping, limit = 64, keepAliveMs = 15_000, stalledMs = STALLED_MS } = options;
  const feed = createFeed({
    pool,
    log,
    everyMs: options.lookEveryMs ?? 500,
    batch: BATCH,
    remembered: REMEMBERED,
  });
  const turn = createTurns(READERS);
  let open = 0;

  return {
    async open(listener) {
      const first = opening(await listener.idOf(listener.from));
      if (open >= limit) throw new ProblemError("too-many-streams", `${limit} are open here.`);
      open += 1;
      const leave = feed.follow(listener.sources);
      const started = performance.now();
      const end = new AbortController();
      const blocks = blocksFor(listener, first, end.signal);
      const encoder = new TextEncoder();
      let stalled: NodeJS.Timeout | undefined;
      let close = () => {};

      function finish(reason: string): void {
        if (end.signal.aborted) return;
        end.abort();
        open -= 1;
        leave();
        forgetExpiry();
        clearTimeout(stalled);
        stopping?.removeEventListener("abort", stop);
        close();
        const duration_ms = Math.round(performance.now() - started);
        log("debug", { ...listener.fields, reason, duration_ms }, "event stream ended");
      }
      const stop = () => finish("the server stops");
      const forgetExpiry = at(listener.expiresAt, () => finish("the key has expired"));

      return new ReadableStream<Uint8Array>(
        {
          start(controller) {
            close = () => controller.close();
            stopping?.addEventListener("abort", stop);
            if (stopping?.aborted) stop();
          },
          async pull(controller) {
            clearTimeout(stalled);
            try {
              const { value } = await blocks.next();
              if (end.signal.aborted || value === undefined) return;
              controller.enqueue(encoder.encode(value));
              stalled = setTimeout(() => {
                finish("the client takes nothing");
                listener.drop();
              }, stalledMs);
            } catch (error) {
              log("error", { ...listener.fields, err: error }, "an event stream failed unexpectedly");
              finish("a failure");
            }
          },
          cancel() {
            close = () => {};
            finish("the client has gone");
          },
        },
        // Nothing is read before the client has taken what was written.
        { highWaterMark: 0 },
      );
    },
  };

  async function* blocksFor(listener: Listener, first: string, signal: AbortSignal): AsyncGenerator<string> {
    let passed = listener.from;
    yield first;
    let spokeAt = performance.now();
    while (!signal.aborted) {
      const { events, until, more } = await next(listener, passed, signal);
      let text = "";
      for (const event of events) {
        passed = { ...passed, [event.source]: { at: event.at, id: event.id } };
        if (listener.wants(event))
          text += block(event.type, await listener.idOf(passed), listener.show(event));
      }
      passed = until;

      const leftMs = spokeAt + keepAliveMs - performance.now();
      // With the id, so that a client which hears nothing else goes on from here all the same.
      if (text === "" && leftMs <= 0) text = keepAlive(await listener.idOf(passed));
      if (text !== "") {
        yield text;
        spokeAt = performance.now();
      } else if (!more) {
        await feed.wait(leftMs, signal);
      }
    }
  }

  /** From memory; or, for whoever is behind that, from the database. While that is away there is nothing. */
  async function next({ sources, fields }: Listener, passed: Of<Place>, signal: AbortSignal) {
    const known = each((source) =>
      sources.includes(source)
        ? feed.since(source, passed[source], BATCH)
        : nothingUntil(feed.reached(source) ?? passed[source]),
    );
    if (known.sent !== undefined && known.events !== undefined)
      return merge(passed, { sent: known.sent, events: known.events });
    const from = each((source) => (sources.includes(source) ? passed[source] : "now"));
    try {
      return merge(
        passed,
        await turn(() => {
          signal.throwIfAborted();
          return readLog(pool, from, BATCH);
        }),
      );
    } catch (error) {
      if (!signal.aborted) log("debug", { ...fields, err: error }, "events cannot be read; trying again");
      return { events: [], until: passed, more: false };
    }
  }
}

function nothingUntil(until: Place): Stretch {
  return { events: [], until, more: false };
}

const idLine = (id: string) => `id: ${id}\n`;

/** Before any event there is an id: a client that is cut off at once misses nothing. */
export const opening = (id: string) => `retry: ${RETRY_MS}\n${idLine(id)}\n`;

export const keepAlive = (id: string) => `: keep-alive\n${idLine(id)}\n`;

export const block = (type: string, id: string, data: object) =>
  `event: ${type}\n${idLine(id)}data: ${JSON.stringify(data)}\n\n`;

/** Calls at a time, however far away; returns what makes it forget. */
function at(time: Date | undefined, then: () => void): () => void {
  if (time === undefined) return () => {};
  let timer: NodeJS.Timeout;
  const wait = () => {
    const left = time.getTime() - Date.now();
    timer = left > MAX_TIMER_MS ? setTimeout(wait, MAX_TIMER_MS) : setTimeout(then, left);
  };
  wait();
  return () => clearTimeout(timer);
}
