import { setTimeout as pause } from "node:timers/promises";
import type { ApiDependencies, Log } from "../dependencies.ts";
import {
  type Event,
  each,
  isAfter,
  later,
  merge,
  type Of,
  type Place,
  readLog,
  type Source,
  type Stretch,
} from "./log.ts";

/** What is new, read once for everybody who follows. */
export interface Feed {
  /** Has these sources read until the returned function is called. */
  follow(sources: readonly Source[]): () => void;
  /** From a place on; undefined: that is further back than what is remembered. */
  since(source: Source, place: Place, count: number): Stretch | undefined;
  /** Up to where a source has been looked at. */
  reached(source: Source): Place | undefined;
  /** Until the next time it was looked, or the time is over, or the signal says so. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

export interface FeedOptions {
  readonly pool: ApiDependencies["pool"];
  readonly log: Log;
  readonly everyMs: number;
  /** Read at once. */
  readonly batch: number;
  /** Events of a source that are remembered, for those who cannot keep up with every look. */
  readonly remembered: number;
}

/** The last events of a source. */
interface Tail {
  readonly start: Place;
  readonly end: Place;
  readonly events: readonly Event[];
}

/** Looks while there is somebody who follows, and only then. */
export function createFeed({ pool, log, everyMs, batch, remembered }: FeedOptions): Feed {
  const followers = { sent: 0, events: 0 };
  const waiting = new Set<() => void>();
  let tails: Of<Tail> | undefined;
  let looking = false;
  let failing = false;

  async function lookAgainAndAgain(): Promise<void> {
    looking = true;
    while (followers.sent + followers.events > 0) {
      const more = await look().catch(failed);
      if (!more) await pause(everyMs, undefined, { ref: false });
    }
    looking = false;
    tails = undefined;
  }

  /** Returns whether there is more already. */
  async function look(): Promise<boolean> {
    const before = tails;
    const from = each((source) => (followers[source] > 0 && before?.[source].end) || "now");
    const found = await readLog(pool, from, batch);
    // Merged already here, so that both tails are known up to the same time.
    const { events, until, more } = merge(
      each((source) => (from[source] === "now" ? found[source].until : from[source])),
      found,
    );
    tails = each((source) => {
      const tail = before?.[source];
      const end = until[source];
      if (tail === undefined || from[source] === "now") return { start: end, end, events: [] };
      const added = events.filter((event) => event.source === source);
      return shortened({ start: tail.start, end, events: [...tail.events, ...added] });
    });
    failing = false;
    for (const resume of [...waiting]) resume();
    return more;
  }

  function shortened(tail: Tail): Tail {
    const forgotten = tail.events.at(-remembered - 1);
    return forgotten === undefined
      ? tail
      : {
          start: { at: forgotten.at, id: forgotten.id },
          end: tail.end,
          events: tail.events.slice(-remembered),
        };
  }

  function failed(error: unknown): false {
    if (!failing) log("warn", { err: error }, "events cannot be read; trying again");
    failing = true;
    return false;
  }

  return {
    follow(sources) {
      for (const source of sources) followers[source] += 1;
      if (!looking) void lookAgainAndAgain();
      return () => {
        for (const source of sources) followers[source] -= 1;
      };
    },

    since(source, place, count) {
      const tail = tails?.[source];
      if (tail === undefined || isAfter(tail.start, place)) return undefined;
      const first = tail.events.findLastIndex((event) => !isAfter(event, place)) + 1;
      const events = tail.events.slice(first, first + count);
      const last = events.at(-1);
      return last === undefined || first + count >= tail.events.length
        ? { events, until: later(tail.end, place), more: false }
        : { events, until: { at: last.at, id: last.id }, more: true };
    },

    reached: (source) => tails?.[source].end,

    wait(ms, signal) {
      return new Promise((resolve) => {
        // Not a race of promises: those of a stream that lasts for days would pile up.
        const resume = () => {
          clearTimeout(timer);
          waiting.delete(resume);
          signal.removeEventListener("abort", resume);
          resolve();
        };
        const timer = setTimeout(resume, ms);
        waiting.add(resume);
        signal.addEventListener("abort", resume);
        if (signal.aborted) resume();
      });
    },
  };
}
