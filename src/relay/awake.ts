export interface AwakeOptions {
  /** Promises in the database, for so many milliseconds, that this process looks by itself. */
  readonly promise: (leaseMs: number) => Promise<void>;
  /** The promise holds from now on: who sleeps until told must look. */
  readonly onAwake: () => void;
  readonly onError: (error: unknown) => void;
  readonly now?: () => number;
}

/** While messages come fast, looking every few milliseconds is cheaper than a NOTIFY in each producer's commit. */
export interface Awake {
  /** Told of every NOTIFY. Many of them are worth a lease too, also when they bring nothing that is due. */
  told(): void;
  /** Told of every claim and how much it got. Returns the pause to the next look while awake, else undefined. */
  claimed(count: number): number | undefined;
}

/** Postgres counts whole seconds: for what producers see it is up to one shorter. */
const LEASE_MS = 3_000;
/** So much traffic (fruitful claims, or NOTIFYs) within a window is worth a lease: quiet traffic pays no write. */
const BUSY = 60;
/** And so little keeps it: who is awake looks at most every 4 ms, and gets at once what came meanwhile. */
const STILL_BUSY = 8;
const WINDOW_MS = 200;
const PAUSE_MS = 4;
/** After the lease, for producers that read it just before it ended. */
const AFTERGLOW_MS = 100;

export function createAwake({
  promise,
  onAwake,
  onError,
  now = () => performance.now(),
}: AwakeOptions): Awake {
  let windowStart = now();
  let traffic = { told: 0, fruitful: 0 };
  let awakeUntil = Number.NEGATIVE_INFINITY;
  let promising = false;

  function renew(at: number): void {
    promising = true;
    promise(LEASE_MS)
      .then(() => {
        // Counted from after the promise was made, so that we are awake for longer than the database says.
        awakeUntil = now() + LEASE_MS + AFTERGLOW_MS;
        onAwake();
      }, onError)
      .finally(() => {
        promising = false;
      });
    newWindow(at);
  }

  function newWindow(at: number): void {
    windowStart = at;
    traffic = { told: 0, fruitful: 0 };
  }

  function count(what: "told" | "fruitful", at: number): void {
    if (at - windowStart > WINDOW_MS) newWindow(at);
    traffic[what]++;
    const left = awakeUntil - at;
    const enough = left > 0 ? STILL_BUSY : BUSY;
    if (traffic[what] >= enough && left < LEASE_MS / 2 && !promising) renew(at);
  }

  return {
    told() {
      count("told", now());
    },
    claimed(got) {
      const at = now();
      if (got > 0) count("fruitful", at);
      return at < awakeUntil ? PAUSE_MS : undefined;
    },
  };
}
