import type { Claimed, Position } from "../db/outbox.ts";

/**
 * Where the next claim begins to look. What was claimed stays in the index until a vacuum may remove it, which an old
 * snapshot anywhere in the server forbids: a claim that began at the start each time would walk over all of it. So claims begin
 * where the last one ended, and now and then one sweeps from the start, for what was committed late or given back.
 */
export interface Bookmark {
  /** For a claim that is made now; undefined: at the start. */
  begin(): Position | undefined;
  /** Told what that claim got, and how long it took. */
  turn(claimed: Claimed, tookMs: number): void;
  /** Behind it there is nothing that the last claim did not see; undefined: at the start. */
  last(): Position | undefined;
  /** Something behind the bookmark may be due: the next claim sweeps. */
  reset(): void;
  /** Milliseconds until a sweep is due; Infinity when the last claim was one. */
  sweepInMs(): number;
}

const SHORTEST_PAUSE_MS = 100;
/** A sweep may take a twentieth of the time, however much there is to walk over. */
const PAUSE_PER_SWEEP = 20;

export function createBookmark(now: () => number = () => performance.now()): Bookmark {
  let position: Position | undefined;
  let sweepAt = Number.NEGATIVE_INFINITY;
  let swept = false;

  function last(): Position | undefined {
    return swept ? undefined : position;
  }

  return {
    begin() {
      swept = now() >= sweepAt;
      return last();
    },
    last,
    turn({ lasts }, tookMs) {
      if (swept) sweepAt = now() + Math.max(SHORTEST_PAUSE_MS, PAUSE_PER_SWEEP * tookMs);
      position = [0, 1, 2].map((priority) => lasts[priority] ?? position?.[priority]);
    },
    reset() {
      sweepAt = Number.NEGATIVE_INFINITY;
    },
    sweepInMs: () => (swept ? Number.POSITIVE_INFINITY : Math.max(0, sweepAt - now())),
  };
}
