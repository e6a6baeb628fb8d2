/** Something that must end in time. The wheel forgets it before it calls `expire`. */
export interface Expiring {
  expire(): void;
}

/** The deadlines of all attempts of a process, kept by one coarse timer. */
export interface DeadlineWheel {
  /** `expire` is called `timeoutMs` from now or up to a twentieth of it (at most 100 ms) later. Add an entry once at a time. */
  add(entry: Expiring, timeoutMs: number): void;
  /** Forgets an entry; fine when it has expired or was never added. */
  remove(entry: Expiring): void;
  /** How many entries wait. */
  readonly size: number;
}

interface Lane {
  readonly timeoutMs: number;
  readonly due: Map<Expiring, number>;
}

/**
 * A lane for each distinct timeout, of which a process has a handful. Entries of a lane expire in the order they were
 * added, and a Map iterates in that order, so that a look costs one entry, not all.
 */
export function createDeadlineWheel(): DeadlineWheel {
  const lanes: Lane[] = [];
  let timer: NodeJS.Timeout | undefined;
  let periodMs = Number.POSITIVE_INFINITY;

  function laneOf(timeoutMs: number): Lane {
    const found = lanes.find((lane) => lane.timeoutMs === timeoutMs);
    if (found) return found;
    const lane: Lane = { timeoutMs, due: new Map() };
    lanes.push(lane);
    periodMs = Math.min(periodMs, 100, Math.max(1, Math.floor(timeoutMs / 20)));
    // The add that follows starts it again with the finer period; who is due by now must not wait for that.
    stop();
    look();
    return lane;
  }

  function stop(): void {
    clearInterval(timer);
    timer = undefined;
  }

  function size(): number {
    return lanes.reduce((sum, lane) => sum + lane.due.size, 0);
  }

  function look(): void {
    const now = performance.now();
    for (const { due } of lanes) {
      for (const [entry, at] of due) {
        if (at > now) break;
        due.delete(entry);
        entry.expire();
      }
    }
    // Only here, not in remove(): a timer started and stopped with each attempt would cost more than it saves.
    if (size() === 0) stop();
  }

  return {
    add(entry, timeoutMs) {
      laneOf(timeoutMs).due.set(entry, performance.now() + timeoutMs);
      timer ??= setInterval(look, periodMs).unref();
    },
    remove(entry) {
      for (const { due } of lanes) if (due.delete(entry)) return;
    },
    get size() {
      return size();
    },
  };
}
