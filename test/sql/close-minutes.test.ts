import { setTimeout as pause } from "node:timers/promises";
import type pg from "pg";
import { describe, expect, test } from "vitest";
import { type Row, type Shown, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insertMany, register, rows, settle, value } = outbox;

/** A calendar that is over, for minutes that are yet to come are never closed. So many milliseconds after its noon. */
const NOON = Date.parse("2020-06-01T12:00:00Z");
const past = (afterMs = 0): string => new Date(NOON + afterMs).toISOString();
const MINUTE = 60_000;

const close = (as_of: string, on: pg.Pool | pg.Client = outbox.pool): Promise<number> =>
  value("select outbox.close_minutes($1)", [as_of], on);

async function closeAll(as_of: string): Promise<number[]> {
  const steps: number[] = [];
  for (let closed = await close(as_of); closed > 0; closed = await close(as_of)) steps.push(closed);
  return steps;
}

const minutes = () =>
  rows(
    "select minute, gateway, sent::int, dead::int from outbox.minutes order by minute, gateway nulls first",
  );

/** Leaves a row in sent as a settle would, had it been then. */
const sentAt = (at: string, on: pg.Pool | pg.Client = outbox.pool) =>
  on.query(
    `insert into outbox.sent (
       id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at, created_at,
       sent_at, gateway_message_id, duration_ms
     )
     values (floor(random() * 1e12), 'default', 1, '+905551234567', 'hi', '{}', $1, 1, 1, $1, $1, $1, 'gw', 7)`,
    [at],
  );

/** The statistics begin at noon. */
const beginAtNoon = () =>
  outbox.pool.query("insert into outbox.minutes (minute) values ($1)", [past(-MINUTE)]);

describe("close_minutes", () => {
  test("closes a minute 5 s after its end, and once", async () => {
    await beginAtNoon();
    await sentAt(past(59_999));
    await sentAt(past(60_000));
    expect(await close(past(64_999))).toBe(0);
    expect(await close(past(65_000))).toBe(1);
    expect(await close(past(65_000))).toBe(0);
    expect(await minutes()).toMatchObject([
      {},
      { minute: "2020-06-01T12:00:00.000000Z", gateway: null, sent: 1 },
      { minute: "2020-06-01T12:00:00.000000Z", gateway: "default", sent: 1 },
    ]);
  });

  test("begins an hour back", async () => {
    await sentAt(past(-61 * MINUTE));
    await sentAt(past(-60 * MINUTE));
    await closeAll(past(5_000));
    expect(
      await rows(
        "select min(minute), count(*)::int, sum(sent)::int as sent from outbox.minutes where gateway is null",
      ),
    ).toEqual([{ min: "2020-06-01T11:00:00.000000Z", count: 60, sent: 1 }]);
  });

  test("goes on where it ended, after whatever time, one busy minute a call", async () => {
    await beginAtNoon();
    const day = 24 * 60 * MINUTE;
    for (const at of [0, 10, 2 * MINUTE, day]) await sentAt(past(at));
    expect(await closeAll(past(day + 3 * MINUTE + 5_000))).toEqual([1, 2, 24 * 60 - 2, 2]);
    expect(await minutes()).toHaveLength(1 + (24 * 60 + 3) + 3);
    expect(await value("select sum(sent)::int from outbox.minutes where gateway is null")).toBe(4);
  });

  test("leaves the minute of a settle that is not committed, and those after it, open", async () => {
    await beginAtNoon();
    const settling = await outbox.session();
    await settling.query("begin");
    // As settle() does: the time at which it began, then its rows, later, and the commit, later still.
    await settling.query("select pg_advisory_xact_lock_shared(outbox.settle_lock($1))", [past(90_000)]);
    await sentAt(past(95_000), settling);
    await sentAt(past(3 * MINUTE));
    expect(await closeAll(past(10 * MINUTE))).toEqual([1]);
    await settling.query("commit");
    expect(await closeAll(past(10 * MINUTE))).toEqual([1, 2, 5]);
    expect(await value("select sum(sent)::int from outbox.minutes where gateway is null")).toBe(2);
  });

  test("does nothing while another does it", async () => {
    await beginAtNoon();
    await sentAt(past());
    const other = await outbox.session();
    await other.query("begin");
    expect(await close(past(65_000), other)).toBe(1);
    expect(await close(past(65_000))).toBe(0);
    await other.query("rollback");
    expect(await close(past(65_000))).toBe(1);
  });

  test("cannot count what is committed after its minute was closed and has no horizon, as a cancel", async () => {
    await beginAtNoon();
    const [id] = (await insertMany(1)) as [number];
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select outbox.cancel($1, as_of => $2)", [id, past(30_000)]);
    await closeAll(past(65_000));
    await person.query("commit");
    await closeAll(past(5 * MINUTE));
    expect(await value("select sum(dead)::int from outbox.minutes")).toBe(0);
  });

  test("is the same in every time zone", async () => {
    await beginAtNoon();
    await sentAt(past(30_000));
    const session = await outbox.session();
    await session.query("set timezone = 'Asia/Kathmandu'"); // 5:45 ahead
    expect(await close(past(65_000), session)).toBe(1);
    expect((await minutes()).at(-1)).toMatchObject({ minute: "2020-06-01T12:00:00.000000Z", sent: 1 });
  });

  test("maintain() drops what is older than 8 days", async () => {
    await outbox.pool.query("insert into outbox.minutes (minute) values ($1), ($2)", [past(), past(MINUTE)]);
    const did = await rows(
      "select outbox.maintain(null, null, as_of => $1::timestamptz + interval '8 days')",
      [past(MINUTE)],
    );
    expect(did.filter(({ maintain }) => !maintain.startsWith("made"))).toEqual([]);
    expect((await minutes()).map(({ minute }) => minute)).toEqual(["2020-06-01T12:01:00.000000Z"]);
  });
});

describe("what is written", () => {
  const OUTCOMES = ["rejected", "retry", "throttled", "unknown", "hold"] as const;

  test("is what anyone would count", async () => {
    await beginAtNoon();
    await outbox.pool.query(
      `select setseed(0.42);
       insert into outbox.sent (
         id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at, created_at,
         sent_at, gateway_message_id, duration_ms
       )
       select
         n, (array['default', 'bulk', 'codes'])[ceil(random() * random() * 3)], 1, '+905551234567', 'hi', '{}',
         at - random() * interval '2 s', 1, 1, at, at - random() * interval '3 s', at, 'gw', random() ^ 5 * 10000
       from (
         select n, '${past()}'::timestamptz + random() * random() * interval '20 minutes' as at
         from generate_series(1, 4000) as n
       ) as it;
       insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, ended_at)
       select
         n, 1, (array['default', 'bulk', 'codes'])[ceil(random() * 3)], 1,
         (array['rejected', 'retry', 'throttled', 'unknown', 'hold', 'accepted'])[ceil(random() * 6)],
         '${past()}'::timestamptz + random() * interval '20 minutes'
       from generate_series(1, 300) as n;
       insert into outbox.dead_letters (
         id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason
       )
       select n, 'bulk', 1, '+905551234567', 'hi', '{}', '${past()}', 1, '${past()}',
         '${past()}'::timestamptz + random() * interval '20 minutes', 'cancelled'
       from generate_series(1, 50) as n`,
    );
    await closeAll(past(20 * MINUTE + 5_000));
    const written = await rows("select * from outbox.minutes where minute >= $1", [past()]);
    expect(byKey(written)).toEqual(byKey(await counted()));
  });

  /** Rows of outbox.minutes as a program makes them of the rows themselves. */
  async function counted(): Promise<Row[]> {
    const sent = await rows(`
      select date_trunc('minute', sent_at) as minute, gateway, duration_ms,
        round(extract(epoch from sent_at - greatest(created_at, available_at)) * 1000)::int as latency_ms
      from outbox.sent`);
    const attempts = await rows(
      "select date_trunc('minute', ended_at) as minute, gateway, outcome::text from outbox.attempts",
    );
    const dead = await rows(
      "select date_trunc('minute', died_at) as minute, gateway from outbox.dead_letters",
    );
    const result: Row[] = [];
    for (let i = 0; i < 20; i++) {
      const minute = past(i * MINUTE).replace("Z", "000Z");
      for (const gateway of [null, "default", "bulk", "codes"]) {
        const here = (one: Row) => one.minute === minute && (gateway === null || one.gateway === gateway);
        const ofSent = sent.filter(here);
        const ofAttempts = attempts.filter(here).filter(({ outcome }) => outcome !== "accepted");
        const ofDead = dead.filter(here);
        if (gateway !== null && ofSent.length + ofAttempts.length + ofDead.length === 0) continue;
        const percentile = (column: string, percent: number) => {
          const values = ofSent.map((one) => one[column] as number).sort((a, b) => a - b);
          return values[Math.ceil((values.length * percent) / 100) - 1] ?? null;
        };
        result.push({
          minute,
          gateway,
          sent: ofSent.length,
          dead: ofDead.length,
          ...Object.fromEntries(
            OUTCOMES.map((outcome) => [outcome, ofAttempts.filter((one) => one.outcome === outcome).length]),
          ),
          duration_p50_ms: percentile("duration_ms", 50),
          duration_p95_ms: percentile("duration_ms", 95),
          duration_p99_ms: percentile("duration_ms", 99),
          latency_p50_ms: percentile("latency_ms", 50),
          latency_p95_ms: percentile("latency_ms", 95),
          latency_p99_ms: percentile("latency_ms", 99),
        });
      }
    }
    return result;
  }

  const byKey = (them: readonly Row[]) =>
    [...them].sort((a, b) => `${a.minute} ${a.gateway}`.localeCompare(`${b.minute} ${b.gateway}`));
});

test("settles side by side with two that close lose nothing and count nothing twice", async () => {
  // A calendar in which a minute takes 300 ms, so that many end, each in the midst of settles. A settle may stay open for longer than
  // the 5 s that are waited for what has no horizon.
  const FASTER = 200;
  const began = performance.now();
  const clock = () => past((performance.now() - began) * FASTER);
  const MINUTES = 8;
  const isOver = () => (performance.now() - began) * FASTER > MINUTES * MINUTE;
  const napping = (longestMs: number) => pause(Math.random() * longestMs);
  const OUTCOMES = ["accepted", "accepted", "accepted", "rejected", "unknown", "retry"] as const;

  await beginAtNoon();
  await outbox.pool.query("update outbox.gateways set circuit_failures = 1000, circuit_ratio = 1");
  const relayers = [await register(), await register(), await register(), await register()];

  async function relaying({ id: relayer, client }: { id: number; client: pg.Client }): Promise<void> {
    while (!isOver()) {
      await outbox.pool.query(
        "insert into outbox.messages (recipient, content, available_at) select '+905551234567', 'hi', '2000-01-01' from generate_series(1, 8)",
      );
      const shown: Shown[] = (await claim(relayer, 8, { as_of: clock() })).map(({ id, attempt }) => ({
        id,
        attempt,
        outcome: OUTCOMES[Math.floor(Math.random() * OUTCOMES.length)] as (typeof OUTCOMES)[number],
      }));
      shown.sort((a, b) => a.id - b.id);
      await client.query("begin");
      await client.query("select pg_advisory_xact_lock_shared(outbox.settle_lock($1))", [clock()]);
      await napping(10);
      await settle(relayer, shown, { as_of: clock(), on: client });
      await napping(60);
      await client.query(Math.random() < 0.1 ? "rollback" : "commit");
    }
  }

  async function closing(): Promise<void> {
    while (!isOver()) {
      await close(clock());
      await napping(10);
    }
  }

  await Promise.all([...relayers.map(relaying), closing(), closing()]);
  await closeAll(past((MINUTES + 5) * MINUTE));

  const written = await rows(
    `select minute, sent::int, dead::int, (rejected + unknown + retry)::int as failed
     from outbox.minutes where gateway is null and minute >= $1 and sent + dead + rejected + unknown + retry > 0 order by minute`,
    [past()],
  );
  expect(written).toEqual(
    await rows(`
      select minute, sum(sent)::int as sent, sum(dead)::int as dead, sum(failed)::int as failed
      from (
        select date_trunc('minute', sent_at) as minute, 1 as sent, 0 as dead, 0 as failed from outbox.sent
        union all select date_trunc('minute', died_at), 0, 1, 0 from outbox.dead_letters
        union all select date_trunc('minute', ended_at), 0, 0, 1 from outbox.attempts
      ) as ended
      group by minute
      order by minute`),
  );
  expect(written.length).toBeGreaterThanOrEqual(MINUTES - 1);
});
