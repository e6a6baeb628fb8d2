/** How much to claim, and when. */
export interface Appetite {
  completed(): void;
  /** Is the buffer so low that it is time to claim again? */
  wants(buffered: number): boolean;
  /** How many to claim, when `room` more could be sent at once (negative: so many are waiting already). */
  size(room: number): number;
}

const AHEAD_MS = 100;
const SHORTEST_SAMPLE_MS = 20;

/**
 * Claims what can be sent at once, and as much beyond as is sent in a tenth of a second, at most two batches: a fast gateway
 * gets whole batches, the next while one is left, and behind a slow one hardly anything is claimed early, where an urgent
 * message could no longer overtake it.
 */
export function createAppetite(batchSize: number, now: () => number = () => performance.now()): Appetite {
  let ratePerMs = 0;
  let completed = 0;
  let since = now();

  function ahead(): number {
    return Math.min(2 * batchSize, Math.ceil(ratePerMs * AHEAD_MS));
  }

  return {
    completed() {
      completed++;
    },
    wants(buffered) {
      return buffered <= ahead() / 2;
    },
    size(room) {
      const elapsed = now() - since;
      if (elapsed >= SHORTEST_SAMPLE_MS) {
        ratePerMs = (ratePerMs + completed / elapsed) / 2;
        completed = 0;
        since = now();
      }
      return Math.min(batchSize, Math.max(0, room + ahead()));
    },
  };
}
