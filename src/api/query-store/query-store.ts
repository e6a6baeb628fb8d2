import { setTimeout as pause } from "node:timers/promises";
import { isOutage } from "../../db/outage.ts";
import { onConnection } from "../connection.ts";
import type { ApiDependencies, Log } from "../dependencies.ts";
import { ProblemError } from "../problem.ts";
import { coalesced } from "./coalesced.ts";
import { parseLsn } from "./lsn.ts";

/** A database of its own for questions: a physical standby of the primary, or a logical subscriber. */
export interface QueryStore {
  readonly pool: ApiDependencies["pool"];
  /** Where reads go while it cannot be used: to the primary, or nowhere. */
  readonly whenAway: "primary" | "unavailable";
  condition(): Condition;
  /** Whether everything up to this place in the primary's log can be read in it, within about a second. */
  hasSeen(lsn: bigint): Promise<boolean>;
  /** A read failed on it: it is away until it is found again. */
  doubt(error: unknown): void;
  start(): void;
  stop(): Promise<void>;
}

export interface Condition {
  /** away: it does not answer, or is no query store. lagging: by more than is allowed. */
  readonly state: "usable" | "lagging" | "away";
  readonly since: Date;
  /**
   * By the primary's clock: what had been committed so long ago, it has. Undefined: it never was seen to follow. While the primary
   * is away it stands still, for nothing is committed.
   */
  readonly lagMs: number | undefined;
  readonly kind: "physical" | "logical" | undefined;
  /** It has the indexes for `q`. */
  readonly searchable: boolean;
  /** Why it is away, for the log: it may name hosts. */
  readonly reason: string | undefined;
}

export interface QueryStoreOptions {
  /** For beats. */
  readonly primary: ApiDependencies["pool"];
  /** Of `createPool`, for reads. */
  readonly pool: ApiDependencies["pool"];
  /** To the store as well, for looking how far it is; the reads' when left out. */
  readonly looks?: ApiDependencies["pool"];
  readonly whenAway: QueryStore["whenAway"];
  readonly maxLagMs: number;
  readonly log: Log;
  /** About once a second; undefined: it is not known. */
  readonly onLag?: (seconds: number | undefined) => void;
}

const EVERY_MS = 1_000;
/** How long a read waits for a write that it has to see. */
const SEEN_WITHIN_MS = 1_000;
/** A beat is in the store within milliseconds, unless it lags. */
const LOOK_AGAIN_MS = [10, 30, 90, 270] as const;

/** One for each outbox, and the same in its stores. */
const INSTALLATION = "(select installation from outbox.scheduler) as installation";
const BEAT = `select beat_at, lsn, ${INSTALLATION} from outbox.beat()`;
const STATE = `select kind, beat_at, lsn, searchable, ${INSTALLATION} from outbox.query_store_state()`;

interface BeatRow {
  readonly beat_at: string;
  readonly lsn: string;
  readonly installation: string;
}

interface Made {
  readonly at: number;
  readonly lsn: bigint;
  readonly installation: string;
  /** Of our clock that is never set, before it was made. */
  readonly askedMs: number;
}

interface Seen {
  readonly kind: "physical" | "logical";
  readonly at: number | undefined;
  readonly lsn: bigint;
  readonly searchable: boolean;
}

interface StateRow {
  readonly kind: Seen["kind"] | "primary";
  readonly beat_at: string | null;
  readonly lsn: string | null;
  readonly searchable: boolean;
  /** Null while it is being copied. */
  readonly installation: string | null;
}

/**
 * Makes a beat on the primary each second and looks for it in the store: how old the newest one there is says how far behind the store
 * is, whatever its own clock and its own view of the replication say.
 */
export function createQueryStore(options: QueryStoreOptions): QueryStore {
  const { primary, pool, looks = pool, whenAway, maxLagMs, log, onLag } = options;
  // The lag counts from the last beat that was seen: between two of them it must not come near the limit.
  const everyMs = Math.min(EVERY_MS, maxLagMs / 4);
  const stopping = new AbortController();
  const { signal } = stopping;
  const created = new Date();
  let running: Promise<void> | undefined;
  let made: Made | undefined;
  let seen: Seen | undefined;
  let away: string | undefined = "it has not been looked at yet";
  /** Once the first beat has had time to come: the ones before it may be of long ago. */
  let looked = false;
  /** Since when the primary makes no beats because it does not answer. */
  let silentSinceMs: number | undefined;
  let beatsFail = false;
  let told: { readonly state: Condition["state"]; readonly since: Date } | undefined;

  const beat = coalesced(async () => {
    const askedMs = performance.now();
    try {
      const [row] = await onConnection(primary, (query) => query<BeatRow>(BEAT, []));
      if (row === undefined) throw new Error("outbox.beat() answered nothing");
      const { beat_at, lsn, installation } = row;
      made = { at: Date.parse(beat_at), lsn: parseLsn(lsn), installation, askedMs };
      silentSinceMs = undefined;
      beatsFail = false;
    } catch (error) {
      if (isAway(error)) silentSinceMs ??= performance.now();
      if (!beatsFail)
        log("warn", { err: error }, "the query store's lag cannot be measured: no beat was made");
      beatsFail = true;
    }
  });

  const look = coalesced(async () => {
    try {
      const [row] = await onConnection(looks, (query) => query<StateRow>(STATE, []));
      if (row === undefined) throw new Error("outbox.query_store_state() answered nothing");
      const { kind, beat_at, lsn, searchable, installation } = row;
      if (kind === "primary") throw new Error(NO_STORE);
      // With beats of its own, all would look well.
      if (installation !== null && made !== undefined && installation !== made.installation)
        throw new Error(OF_ANOTHER);
      const at = beat_at === null ? undefined : Date.parse(beat_at);
      seen = { kind, at, lsn: lsn === null ? 0n : parseLsn(lsn), searchable };
      away = undefined;
    } catch (error) {
      away = reasonOf(error);
      looked = true;
    }
    condition();
  });

  function lagMs(): number | undefined {
    if (made === undefined || seen?.at === undefined) return undefined;
    const primaryNow = made.at + (silentSinceMs ?? performance.now()) - made.askedMs;
    return Math.max(0, Math.round(primaryNow - seen.at));
  }

  function condition(): Condition {
    const lag = lagMs();
    const lags = lag === undefined || lag > maxLagMs;
    const state = away !== undefined ? "away" : lags ? "lagging" : "usable";
    if (told?.state !== state && (looked || state === "usable")) {
      told = { state, since: new Date() };
      tell(state, lag);
    }
    const { kind, searchable = false } = seen ?? {};
    return { state, since: told?.since ?? created, lagMs: lag, kind, searchable, reason: away };
  }

  function tell(state: Condition["state"], lag: number | undefined): void {
    const fields = { lag_ms: lag, kind: seen?.kind };
    const instead =
      whenAway === "primary" ? "reads go to the primary" : "reads are refused (query_store.when_away)";
    if (state === "usable") log("info", fields, "the query store answers the reads of the API");
    else if (state === "away") log("warn", fields, `the query store is away: ${away}; ${instead}`);
    else
      log(
        "warn",
        fields,
        `the query store lags by more than query_store.max_lag, ${maxLagMs} ms; ${instead}`,
      );
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      const began = performance.now();
      // Whose store it has to be, is to be known before it is looked at.
      if (made === undefined) await beat();
      await Promise.all([beat(), look()]);
      for (const ms of LOOK_AGAIN_MS) {
        if (signal.aborted || away !== undefined || made === undefined || (seen?.at ?? 0) >= made.at) break;
        await waited(ms);
        await look();
      }
      looked = true;
      const { lagMs } = condition();
      onLag?.(lagMs === undefined ? undefined : lagMs / 1_000);
      await waited(Math.max(everyMs / 2, everyMs - (performance.now() - began)));
    }
  }

  const waited = (ms: number) => pause(ms, undefined, { signal }).catch(() => {});

  return {
    pool,
    whenAway,
    condition,

    async hasSeen(lsn) {
      const within = () => (seen?.lsn ?? 0n) >= lsn;
      if (within()) return true;
      const until = performance.now() + SEEN_WITHIN_MS;
      // A standby knows how far it is without a beat.
      await look();
      if (within()) return true;
      if ((made?.lsn ?? 0n) < lsn) await beat();
      // Of a primary that does not answer, or of another one.
      if ((made?.lsn ?? 0n) < lsn) return within();
      for (let ms = 5; away === undefined && !signal.aborted; ms = Math.min(ms * 2, 100)) {
        await look();
        if (within()) return true;
        if (performance.now() + ms > until) return false;
        await waited(ms);
      }
      return false;
    },

    doubt(error) {
      away = reasonOf(error);
      looked = true;
      condition();
    },

    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

const NO_STORE =
  "that database is a primary, neither a standby nor made into a store by npm run query-store -- init";

const OF_ANOTHER = "it is the query store of another outbox than that of DATABASE_URL";

/** Not: it answers, and refuses. */
export function isAway(error: unknown): boolean {
  return isOutage(error) || (error instanceof ProblemError && error.slug === "database-unavailable");
}

function reasonOf(error: unknown): string {
  if (error instanceof ProblemError) return "it does not answer in time";
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
