import type { Pool } from "pg";
import type { Outcome } from "../gateway/outcome.ts";
import { arrayLiteral } from "./array-literal.ts";

/** The exclusive right to one attempt at a message, and what the attempt needs. */
export interface Claim {
  readonly id: number;
  readonly attempt: number;
  /** When it was claimed: part of the fence, because an attempt that is given back has its number again. */
  readonly claimed_at: string;
  /** The relayer's number when it claimed; the fence, with `attempt`. */
  readonly relayer: number;
  readonly recipient: string;
  readonly content: string;
  readonly traceparent: string | null;
  /** Above 0: a rejected message that was changed, which the gateway is to take for another one. */
  readonly revision: number;
  /** On this process's monotonic clock (`performance.now()`), so that no clock skew sends an expired code. */
  readonly expiresAtMs: number;
  readonly priority: 0 | 1 | 2;
  /**
   * Since when it is due, on the same clock; for a later attempt since when it exists. (The outbox knows no time of a commit, so
   * what a transaction took after its INSERT is counted in.)
   */
  readonly dueSinceMs: number;
}

/** For each of the priorities 0, 1 and 2, `available_at` and id of a message; undefined: none yet. */
export type Position = readonly ({ readonly at: string; readonly id: number } | undefined)[];

export interface Claimed {
  /** In the order of sending. */
  readonly claims: readonly Claim[];
  /** The last of each priority. */
  readonly lasts: Position;
}

export interface Result {
  readonly claim: Claim;
  readonly outcome: Outcome;
  /** It says nothing of the gateway: the relayer cut it short, or the gateway is another by now. */
  readonly moot: boolean;
}

export type DeadReason = "rejected" | "exhausted" | "expired" | "cancelled" | "unknown_outcome";

export interface Settled {
  /** What `sent_at` is for all that were accepted. */
  readonly settled_at: string;
  readonly sent: number;
  /** Ids whose claim was no longer ours: nothing was changed. */
  readonly stale: readonly number[];
  readonly dead: readonly number[];
  readonly dead_reasons: readonly DeadReason[];
  /** Gateways that are held by this: nothing more is to be sent to them. */
  readonly held: readonly string[];
}

/** What the relayer reads of `outbox.gateways`. */
export interface Gateway {
  readonly name: string;
  readonly url: string | null;
  readonly concurrency: number;
  readonly timeout_ms: number;
  readonly paused: boolean;
  readonly circuit: "closed" | "open" | "half_open";
  /** null: not held now. */
  readonly held_until: string | null;
  readonly hold_reason: "throttled" | "hold" | "circuit_open" | null;
  readonly hold_detail: string | null;
}

export interface State {
  readonly running: boolean;
  readonly installation: string;
  /** Postgres' clock, in milliseconds since 1970. */
  readonly clock_ms: number;
  readonly gateways: readonly Gateway[];
}

/** How long to keep, as Postgres intervals in milliseconds; null is for ever. */
export interface Retention {
  readonly sentMs: number;
  readonly attemptsMs: number;
  readonly deadLettersMs: number | undefined;
  readonly auditMs: number | undefined;
  readonly eventsMs: number;
}

/** What a step of a replay of many came to. */
export interface ReplaySlice {
  /** When the next step is worth trying; null: never, it is done or cancelled. */
  readonly wait_ms: number | null;
  readonly status: "running" | "done" | "cancelled";
  /** Of the replay as a whole. */
  readonly replayed: number;
  readonly skipped: number;
}

/** The SQL functions of the outbox, as the relayer calls them: their contracts stand in migrations/fixtures/functions. */
export interface Outbox {
  /** `after`: where to begin to look; without it at the start. */
  claim(relayer: number, gateway: string, batchSize: number, after?: Position): Promise<Claimed>;
  /** `results` of one relayer number, sorted by id, so that two settles never deadlock. */
  settle(relayer: number, results: readonly Result[]): Promise<Settled>;
  release(relayer: number, ids: readonly number[]): Promise<number>;
  /** Gives back what Postgres says is claimed at the gateway under this number, and the relayer does not know of. */
  disown(relayer: number, gateway: string, known: readonly number[]): Promise<number>;
  /** Milliseconds until the gateway's next message (after a position) is due; null when none waits. */
  nextDue(gateway: string, after?: Position): Promise<number | null>;
  state(): Promise<State>;
  takeTick(tick: string): Promise<boolean>;
  stayAwake(leaseMs: number): Promise<void>;
  configureGateway(name: string, settings: Readonly<Record<string, unknown>>): Promise<void>;
  /** What was done, a sentence each. */
  maintain(retention: Retention): Promise<string[]>;
  replaySlice(replay: number): Promise<ReplaySlice>;
  /** Sees to it that running replays (or this one, in so many milliseconds) have a job. Returns how many do. */
  queueReplays(replay?: number, waitMs?: number): Promise<number>;
  notify(payload: string): Promise<void>;
}

interface ClaimedRow extends Omit<Claim, "relayer" | "expiresAtMs" | "dueSinceMs"> {
  readonly expires_in_ms: number | null;
  readonly waited_ms: number;
  /** null but for the last of its priority. */
  readonly available_at: string | null;
}

export function createOutbox(pool: Pool): Outbox {
  return {
    async claim(relayer, gateway, batchSize, after) {
      const asked = performance.now();
      const { rows } = await pool.query<ClaimedRow>({
        name: "claim",
        text: "select * from outbox.claim($1, $2, $3, after_at => $4, after_id => $5)",
        values: [relayer, gateway, batchSize, ...columns(after)],
      });
      const lasts: { at: string; id: number }[] = [];
      const claims = rows.map((row) => {
        if (row.available_at !== null) lasts[row.priority] = { at: row.available_at, id: row.id };
        return {
          id: row.id,
          attempt: row.attempt,
          claimed_at: row.claimed_at,
          relayer,
          recipient: row.recipient,
          content: row.content,
          traceparent: row.traceparent,
          revision: row.revision,
          // Counted from before the question: rather a little too early than too late.
          expiresAtMs: row.expires_in_ms === null ? Number.POSITIVE_INFINITY : asked + row.expires_in_ms,
          priority: row.priority,
          dueSinceMs: asked - row.waited_ms,
        };
      });
      return { claims, lasts };
    },

    async settle(relayer, results) {
      const { rows } = await pool.query<Settled>({
        name: "settle",
        text: "select * from outbox.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        values: [
          relayer,
          arrayLiteral(results.map(({ claim }) => claim.id)),
          arrayLiteral(results.map(({ claim }) => claim.attempt)),
          arrayLiteral(results.map(({ outcome }) => outcome.kind)),
          arrayLiteral(results.map(({ outcome }) => outcome.httpStatus)),
          arrayLiteral(results.map(({ outcome }) => outcome.gatewayMessageId)),
          arrayLiteral(results.map(({ outcome }) => outcome.error)),
          arrayLiteral(results.map(({ outcome }) => outcome.durationMs)),
          arrayLiteral(results.map(({ outcome }) => outcome.retryAfterMs)),
          arrayLiteral(results.map(({ claim }) => claim.claimed_at)),
          results.filter(({ moot }) => moot).map(({ claim }) => claim.id),
        ],
      });
      return only(rows);
    },

    async release(relayer, ids) {
      const { rows } = await pool.query<{ released: number }>({
        name: "release",
        text: "select outbox.release($1, $2) as released",
        values: [relayer, ids],
      });
      return only(rows).released;
    },

    async disown(relayer, gateway, known) {
      const { rows } = await pool.query<{ disowned: number }>({
        name: "disown",
        text: "select outbox.disown($1, $2, $3) as disowned",
        values: [relayer, gateway, known],
      });
      return only(rows).disowned;
    },

    async nextDue(gateway, after) {
      const { rows } = await pool.query<{ next_due: number | null }>({
        name: "next_due",
        text: "select outbox.next_due($1, after_at => $2, after_id => $3)",
        values: [gateway, ...columns(after)],
      });
      return only(rows).next_due;
    },

    async state() {
      const { rows } = await pool.query<State>({
        name: "state",
        text: `
          select
            scheduler.running,
            scheduler.installation,
            (extract(epoch from clock_timestamp()) * 1000)::bigint as clock_ms,
            (
              select json_agg(json_build_object(
                'name', gateways.name,
                'url', gateways.url,
                'concurrency', gateways.concurrency,
                'timeout_ms', (extract(epoch from gateways.timeout) * 1000)::int,
                'paused', gateways.paused,
                'circuit', gateways.circuit,
                'held_until', case when gateways.held_until > clock_timestamp() then gateways.held_until end,
                'hold_reason', gateways.hold_reason,
                'hold_detail', gateways.hold_detail
              ) order by gateways.name)
              from outbox.gateways
            ) as gateways
          from outbox.scheduler`,
      });
      return only(rows);
    },

    async takeTick(tick) {
      const { rows } = await pool.query<{ take_tick: boolean }>("select outbox.take_tick($1)", [tick]);
      return only(rows).take_tick;
    },

    async stayAwake(leaseMs) {
      await pool.query({
        name: "stay_awake",
        text: "select outbox.stay_awake(make_interval(secs => $1))",
        values: [leaseMs / 1_000],
      });
    },

    async configureGateway(name, settings) {
      await pool.query("select outbox.configure_gateway($1, $2)", [name, settings]);
    },

    async maintain(retention) {
      const { rows } = await pool.query<{ maintain: string }>(
        "select outbox.maintain($1::interval, $2::interval, $3::interval, $4::interval, $5::interval)",
        [
          retention.sentMs,
          retention.attemptsMs,
          retention.deadLettersMs,
          retention.auditMs,
          retention.eventsMs,
        ].map(milliseconds),
      );
      return rows.map((row) => row.maintain);
    },

    async replaySlice(replay) {
      const { rows } = await pool.query<ReplaySlice>("select * from outbox.replay_slice($1)", [replay]);
      return only(rows);
    },

    async queueReplays(replay, waitMs) {
      const { rows } = await pool.query<{ queued: number }>("select outbox.queue_replays($1, $2) as queued", [
        replay ?? null,
        waitMs ?? null,
      ]);
      return only(rows).queued;
    },

    async notify(payload) {
      await pool.query("select pg_notify('outbox', $1)", [payload]);
    },
  };
}

function columns(position: Position | undefined) {
  return position === undefined
    ? [null, null]
    : [
        arrayLiteral(position.map((one) => one?.at ?? null)),
        arrayLiteral(position.map((one) => one?.id ?? null)),
      ];
}

function milliseconds(ms: number | undefined): string | null {
  return ms === undefined ? null : `${ms} milliseconds`;
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("Postgres answered no row where there is always one");
  return row;
}
