import type { DeadReason } from "../db/outbox.ts";
import { inTransaction, patient, type Query } from "./connection.ts";
import { DEAD_REASONS } from "./dead-letters.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { msColumn } from "./milliseconds.ts";

/** What waits now. */
interface Waiting {
  readonly due: number;
  readonly scheduled: number;
  readonly in_flight: number;
  readonly oldest_due_age_ms: number | null;
}

interface Health extends Waiting {
  readonly as_of: string;
  readonly running: boolean;
  readonly relayers_alive: number;
  readonly sent_last_minute: number;
  readonly failed_last_minute: number;
  readonly dead_last_minute: number;
}

interface Percentiles {
  readonly latency_p50_ms: number | null;
  readonly latency_p95_ms: number | null;
  readonly latency_p99_ms: number | null;
  readonly duration_p50_ms: number | null;
  readonly duration_p95_ms: number | null;
  readonly duration_p99_ms: number | null;
}

interface Counts {
  readonly sent: number;
  readonly failed: number;
  readonly dead: number;
}

interface Minute extends Counts, Percentiles {
  readonly minute: string;
  readonly rejected: number;
  readonly retry: number;
  readonly throttled: number;
  readonly unknown: number;
  readonly hold: number;
}

/** A row of outbox.throughput: gateway null is all of them together, with a row for every minute. */
interface MinuteRow extends Minute {
  readonly gateway: string | null;
}

/** What happened in the minute that is not over; gateway null is all of them together. */
interface SoFar extends Counts {
  readonly gateway: string | null;
}

type GatewayRow = Waiting & { readonly name: string };

/** Of each reason no more are counted, so that a look costs the same whatever lies there. */
export const MOST_DEAD_LETTERS = 100_000;

const HEALTH = `
    select
      now() as as_of, running, relayers_alive, due, scheduled, in_flight, ${msColumn("oldest_due_age")}, sent_last_minute,
      failures_last_minute as failed_last_minute, dead_last_minute
    from outbox.health`;

// All but what the view counts of the last minute, and counts for those only who ask for it.
export const GATEWAYS = `
    select gateway as name, due, scheduled, in_flight, ${msColumn("oldest_due_age")}
    from outbox.gateway_status
    order by gateway`;

// The minute that is not over is the one the view would have to count.
export const MINUTES = `
    select
      minute, gateway, sent, failed, dead, rejected, retry, throttled, unknown, hold,
      latency_p50_ms, latency_p95_ms, latency_p99_ms, duration_p50_ms, duration_p95_ms, duration_p99_ms
    from outbox.throughput
    where minute >= date_trunc('minute', now()) - interval '1 hour'
      and minute < date_trunc('minute', now())
    order by minute`;

const SO_FAR = `
    select gateway, sent, rejected + retry + throttled + unknown + hold as failed, dead
    from outbox.tally(date_trunc('minute', now()), now())`;

const DEAD_LETTERS = `
    select word.reason, counted.letters
    from unnest($1::text[]) as word (reason)
    cross join lateral (
      select count(*) as letters
      from (select from outbox.dead_letters where dead_letters.reason = word.reason limit $2) as one
    ) as counted`;

const PATIENT = patient("Ask again in a while.");

export function readStats(pool: ApiDependencies["pool"]) {
  // In one transaction, because that is how long now() stands still.
  return inTransaction(pool, async (query) => {
    const [health] = await query<Health>(HEALTH, [], PATIENT);
    if (health === undefined) throw new Error("outbox.health has no row");
    const { as_of, ...totals } = health;
    const gateways = await query<GatewayRow>(GATEWAYS, [], PATIENT);
    const rows = await query<MinuteRow>(MINUTES, [], PATIENT);
    const soFar = await query<SoFar>(SO_FAR, [], PATIENT);
    const dead_letters = await countDeadLetters(query);

    const of = (name: string | null) => (row: { gateway: string | null }) => row.gateway === name;
    const all = rows.filter(of(null));
    const clock = all.map(({ minute }) => minute);
    return {
      as_of,
      totals: { ...totals, ...lastHour([...all, ...soFar.filter(of(null))]), dead_letters },
      ...lately(all, clock),
      gateways: gateways.map((gateway) => {
        const own = rows.filter(of(gateway.name));
        const hour = lastHour([...own, ...soFar.filter(of(gateway.name))]);
        return { ...gateway, ...hour, ...lately(own, clock) };
      }),
      minutes: all.map(({ gateway: _, ...minute }) => minute),
    };
  });
}

async function countDeadLetters(query: Query): Promise<Record<DeadReason, number>> {
  // Along the index, whatever the statistics say: a rare reason would else be looked for in all the rest.
  await query("set local enable_seqscan = off; set local enable_bitmapscan = off", []);
  const rows = await query<{ reason: DeadReason; letters: number }>(
    DEAD_LETTERS,
    [DEAD_REASONS, MOST_DEAD_LETTERS],
    PATIENT,
  );
  return Object.fromEntries(rows.map(({ reason, letters }) => [reason, letters])) as Record<
    DeadReason,
    number
  >;
}

const sum = (rows: readonly Counts[], of: keyof Counts) => rows.reduce((total, row) => total + row[of], 0);

function lastHour(rows: readonly Counts[]) {
  return {
    sent_last_hour: sum(rows, "sent"),
    failed_last_hour: sum(rows, "failed"),
    dead_last_hour: sum(rows, "dead"),
  };
}

/** `clock` has all minutes, `rows` those in which there was anything. */
function lately(rows: readonly MinuteRow[], clock: readonly string[]) {
  const rates = (minutes: number) => {
    const since = clock.at(-minutes) ?? "";
    const those = rows.filter(({ minute }) => minute >= since);
    const perSecond = (of: keyof Counts) => Math.round((sum(those, of) / (minutes * 60)) * 1_000) / 1_000;
    return { sent: perSecond("sent"), failed: perSecond("failed"), dead: perSecond("dead") };
  };
  return {
    rates: { last_minute: rates(1), last_5_minutes: rates(5), last_hour: rates(60) },
    latency: percentiles(rows.find(({ minute }) => minute === clock.at(-1))),
  };
}

function percentiles(row: MinuteRow | undefined): Percentiles {
  return {
    latency_p50_ms: row?.latency_p50_ms ?? null,
    latency_p95_ms: row?.latency_p95_ms ?? null,
    latency_p99_ms: row?.latency_p99_ms ?? null,
    duration_p50_ms: row?.duration_p50_ms ?? null,
    duration_p95_ms: row?.duration_p95_ms ?? null,
    duration_p99_ms: row?.duration_p99_ms ?? null,
  };
}
