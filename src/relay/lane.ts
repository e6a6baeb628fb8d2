import type { Claim } from "../db/outbox.ts";
import type { Outcome } from "../gateway/outcome.ts";
import { createAppetite } from "./appetite.ts";

export interface LaneOptions {
  /** Claims up to so many messages of the lane's gateway; none while this relayer has no number. */
  readonly claim: (size: number) => Promise<readonly Claim[]>;
  /** Milliseconds until it is worth looking again; Infinity: only when told to. Never throws. */
  readonly nextDue: () => Promise<number>;
  /** The claim may have been rescued by now: to be given back, not sent. */
  readonly isLost: (claim: Claim) => boolean;
  readonly send: (claim: Claim, done: (outcome: Outcome) => void) => void;
  /** Gives back claims that were not sent. */
  readonly release: (claims: readonly Claim[]) => Promise<void>;
  readonly onOutcome: (claim: Claim, outcome: Outcome) => void;
  readonly onInFlight: (count: number) => void;
  /**
   * Told of every claim. `untold`: it was made after such a pause, and nobody had said that there is something. Returns a pause in
   * milliseconds while messages come so fast that looking beats being told.
   */
  readonly onClaimed: (count: number, untold: boolean) => number | undefined;
  /** It looks by itself, because something becomes due, or because it is time to. */
  readonly onWoken: (source: "timer" | "poll") => void;
  /** false: messages are claimed by take() alone (relay.mode: scheduled). */
  readonly continuous: boolean;
  readonly concurrency: number;
  /** The most messages of one claim. */
  readonly batchSize: number;
  /** The longest pause between two looks. */
  readonly pollIntervalMs: number;
}

/** What is relayed through one gateway, apart from all others, so that a slow one never blocks another. */
export interface Lane {
  /** Look now: something may be due. */
  wake(): void;
  /** Claims and sends at most `size` messages, however busy the lane is; returns how many. */
  take(size: number): Promise<number>;
  /** Gives back what is claimed and not yet sent. */
  drop(): Promise<void>;
  /** Claims nothing more, and gives back what was not sent. What is in flight goes on; resolves when it has ended. */
  stop(): Promise<void>;
}

const SHORTEST_RETRY_MS = 20;
/** Before asking what is due next, so that the question never competes with the POSTs of what was just claimed. */
const BREATH_MS = 5;

/**
 * Wake → claim a batch → keep up to `concurrency` POSTs in flight → hand the outcomes to the settler → claim again before
 * the buffer is dry. One claim at a time.
 */
export function createLane(options: LaneOptions): Lane {
  const { concurrency, pollIntervalMs } = options;
  const appetite = createAppetite(options.batchSize);
  /** What is claimed and not yet sent: `buffer` from `head` on. */
  let buffer: readonly Claim[] = [];
  let head = 0;
  let inFlight = 0;
  let filling: Promise<unknown> = Promise.resolve();
  let looking = false;
  let looks = 0;
  let woken = false;
  /** It was woken by the end of its own short pause, and by nothing else. */
  let untold = false;
  let stopped = false;
  let fruitless = 0;
  let timer: NodeJS.Timeout | undefined;
  const ended = Promise.withResolvers<void>();

  function pump(): void {
    const now = performance.now();
    const unsendable: Claim[] = [];
    while (inFlight < concurrency && head < buffer.length) {
      const claim = buffer[head++] as Claim;
      // Given back, what has expired is buried by the next claim.
      if (claim.expiresAtMs <= now || options.isLost(claim)) unsendable.push(claim);
      else launch(claim);
    }
    if (unsendable.length > 0) void giveBack(unsendable).then(wake);
    if (woken && !looking && !stopped && appetite.wants(buffer.length - head)) {
      const size = appetite.size(concurrency - inFlight - (buffer.length - head));
      if (size > 0) void look(size);
    }
    if (stopped && inFlight === 0) ended.resolve();
  }

  function launch(claim: Claim): void {
    options.onInFlight(++inFlight);
    options.send(claim, (outcome) => {
      options.onInFlight(--inFlight);
      appetite.completed();
      options.onOutcome(claim, outcome);
      pump();
    });
  }

  async function look(size: number): Promise<void> {
    looking = true;
    looks++;
    woken = false;
    const byItself = untold;
    untold = false;
    clearTimeout(timer);
    try {
      const claimed = await fill(size);
      fruitless = claimed > 0 ? 0 : fruitless + 1;
      const awakePauseMs = options.onClaimed(claimed, byItself);
      if (claimed === size) woken = true;
      // A gateway that is quiet while others are busy is looked at less often.
      else if (awakePauseMs !== undefined) sleep(awakePauseMs * 2 ** Math.min(fruitless, 2), lookUntold);
      else sleep(BREATH_MS, () => void sleepUntilDue());
    } catch {
      // Reported where it arose. Postgres is away or refuses: asking more often would not help it.
      sleep(pollIntervalMs, poll);
    }
    looking = false;
    pump();
  }

  /** One claim at a time, also when ticks overlap. */
  function fill(size: number): Promise<number> {
    const filled = filling.then(() => claimInto(size));
    filling = filled.catch(() => {}); // told to whoever asked
    return filled;
  }

  async function claimInto(size: number): Promise<number> {
    const claims = await options.claim(size);
    if (stopped) await giveBack(claims);
    else {
      buffer = head === buffer.length ? claims : buffer.slice(head).concat(claims);
      head = 0;
    }
    return claims.length;
  }

  /** Everything due is claimed; now wait for what is due next. A wake comes first if there is one. */
  async function sleepUntilDue(): Promise<void> {
    const look = looks;
    const dueMs = await options.nextDue();
    if (look !== looks) return;
    // Due, and yet not claimed: somebody else holds the row, and asking at once would only ask again.
    const patienceMs = fruitless === 0 ? 0 : SHORTEST_RETRY_MS * 2 ** Math.min(fruitless, 10);
    const pauseMs = Math.max(dueMs, patienceMs);
    sleep(pauseMs, pauseMs < pollIntervalMs ? lookWhenDue : poll);
  }

  function sleep(ms: number, then: () => void): void {
    if (stopped) return;
    clearTimeout(timer);
    timer = setTimeout(then, Math.min(Math.max(ms, 0), pollIntervalMs));
  }

  function wake(): void {
    if (!options.continuous) return;
    woken = true;
    untold = false;
    pump();
  }

  function lookUntold(): void {
    woken = true;
    untold = true;
    pump();
  }

  function lookWhenDue(): void {
    options.onWoken("timer");
    wake();
  }

  function poll(): void {
    options.onWoken("poll");
    wake();
  }

  async function giveBack(claims: readonly Claim[]): Promise<void> {
    if (claims.length > 0) await options.release(claims);
  }

  async function drop(): Promise<void> {
    const unsent = buffer.slice(head);
    buffer = [];
    head = 0;
    await giveBack(unsent);
  }

  return {
    wake,
    async take(size) {
      const claimed = await fill(size);
      pump();
      return claimed;
    },
    drop,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await drop();
      await filling;
      pump();
      await ended.promise;
    },
  };
}
