import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SELECT_GATEWAYS } from "../../src/api/gateway.ts";
import { GATEWAYS, MINUTES, MOST_DEAD_LETTERS } from "../../src/api/stats.ts";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";

interface Stats {
  as_of: string;
  totals: Record<string, unknown>;
  rates: Record<string, unknown>;
  latency: Record<string, unknown>;
  gateways: { name: string; [column: string]: unknown }[];
  minutes: { minute: string; sent: number; [column: string]: unknown }[];
}

const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(async () => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
  await pool.query("insert into outbox.gateways (name) values ('bulk')");
});
const empty = () =>
  pool.query(
    "truncate outbox.messages, outbox.sent, outbox.attempts, outbox.dead_letters, outbox.minutes, outbox.relayers",
  );
beforeEach(empty);
afterAll(() => pool.end());

const get = () => api.json<Stats>("/api/v1/stats");

/** Fills the tables and asks, again if a minute ended in between: all that is told here is told by whole minutes. */
async function statsOf(fill: () => Promise<unknown>): Promise<Stats> {
  for (;;) {
    await empty();
    const { rows } = await pool.query("select date_trunc('minute', now()) as minute");
    await fill();
    const stats = await get();
    if (stats.as_of.slice(0, 16) === rows[0].minute.slice(0, 16)) return stats;
  }
}

/** A minute that is over: so many before the one that runs. */
async function closed(
  ago: number,
  counts: { sent?: number; dead?: number; retry?: number; hold?: number; p50?: number },
  gateway?: string,
): Promise<void> {
  const { sent = 0, dead = 0, retry = 0, hold = 0, p50 = null } = counts;
  await pool.query(
    `insert into outbox.minutes (minute, gateway, sent, dead, retry, hold, latency_p50_ms, latency_p95_ms, latency_p99_ms,
       duration_p50_ms, duration_p95_ms, duration_p99_ms)
     select date_trunc('minute', now()) - $1 * interval '1 minute', $2, $3, $4, $5, $6, p, p + 1, p + 2, p + 3, p + 4, p + 5
     from (select $7::int) as latency (p)`,
    [ago, gateway, sent, dead, retry, hold, p50],
  );
}

const insertSent = (count: number, ago: string, gateway = "default") =>
  pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by,
       claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
     select n, $3, 1, '+905551234567', 'hi', '{}', at - interval '80 ms', 1, 1, at, at - interval '80 ms', at, 'gw', 40
     from generate_series(1, $1) as n, (select now() - $2::interval) as sent (at)`,
    [count, ago, gateway],
  );

const NO_LATENCY = {
  latency_p50_ms: null,
  latency_p95_ms: null,
  latency_p99_ms: null,
  duration_p50_ms: null,
  duration_p95_ms: null,
  duration_p99_ms: null,
};
const NOTHING = { sent: 0, failed: 0, dead: 0 };

test("where nothing ever happened everything is there, and zero", async () => {
  const { totals, rates, latency, gateways, minutes } = await get();
  const waiting = { due: 0, scheduled: 0, in_flight: 0, oldest_due_age_ms: null };
  const hour = { sent_last_hour: 0, failed_last_hour: 0, dead_last_hour: 0 };
  expect(totals).toEqual({
    running: true,
    relayers_alive: 0,
    ...waiting,
    sent_last_minute: 0,
    failed_last_minute: 0,
    dead_last_minute: 0,
    ...hour,
    dead_letters: { rejected: 0, exhausted: 0, expired: 0, cancelled: 0, unknown_outcome: 0 },
  });
  const lately = {
    rates: { last_minute: NOTHING, last_5_minutes: NOTHING, last_hour: NOTHING },
    latency: NO_LATENCY,
  };
  expect({ rates, latency }).toEqual(lately);
  expect(gateways).toEqual(["bulk", "default"].map((name) => ({ name, ...waiting, ...hour, ...lately })));
  expect(minutes).toHaveLength(60);
  for (const { minute, ...figures } of minutes)
    expect(figures).toEqual({
      ...NOTHING,
      rejected: 0,
      retry: 0,
      throttled: 0,
      unknown: 0,
      hold: 0,
      ...NO_LATENCY,
    });
});

test("what was sent just now is in the totals, and in the minutes only when its own is over", async () => {
  const { totals, gateways, minutes } = await statsOf(() => insertSent(1, "0 s"));
  expect(totals).toMatchObject({ sent_last_minute: 1, sent_last_hour: 1 });
  expect(gateways.map(({ sent_last_hour }) => sent_last_hour)).toEqual([0, 1]);
  // Unless the minute has just changed.
  expect(minutes.slice(0, 59).map(({ sent }) => sent)).toEqual(Array(59).fill(0));
});

test("the minutes are the 60 that are over, one after the other, the oldest first", async () => {
  const { as_of, minutes } = await get();
  const begin = Date.parse(`${as_of.slice(0, 16)}:00Z`);
  expect(minutes.map(({ minute }) => Date.parse(minute))).toEqual(
    Array.from({ length: 60 }, (_, n) => begin - (60 - n) * 60_000),
  );
});

describe("of minutes that are over", () => {
  const filled = () =>
    statsOf(async () => {
      for (let ago = 61; ago >= 1; ago--) {
        if (ago === 1) await closed(1, { sent: 90, retry: 4, hold: 2, dead: 3, p50: 20 });
        else if (ago === 5) await closed(5, { sent: 150, retry: 6, p50: 10 });
        else if (ago === 60) await closed(60, { sent: 3_600, dead: 7, p50: 70 });
        else if (ago === 61) await closed(61, { sent: 1_000_000 });
        else await closed(ago, {});
      }
      await closed(1, { sent: 60, p50: 21 }, "bulk");
      await closed(60, { sent: 3_600, p50: 70 }, "bulk");
    });

  test("each has its figures, and its percentiles", async () => {
    const { minutes } = await filled();
    const { minute: _, ...last } = minutes.at(-1) ?? { minute: "" };
    expect(last).toEqual({
      sent: 90,
      failed: 6,
      dead: 3,
      rejected: 0,
      retry: 4,
      throttled: 0,
      unknown: 0,
      hold: 2,
      latency_p50_ms: 20,
      latency_p95_ms: 21,
      latency_p99_ms: 22,
      duration_p50_ms: 23,
      duration_p95_ms: 24,
      duration_p99_ms: 25,
    });
    expect(minutes[0]).toMatchObject({ sent: 3_600, dead: 7, latency_p50_ms: 70 });
    expect(minutes.map(({ sent }) => sent).filter((sent) => sent > 0)).toEqual([3_600, 150, 90]);
  });

  test("rates are for each second of 1, 5 and 60 of them", async () => {
    const { rates, latency, totals } = await filled();
    expect(rates).toEqual({
      last_minute: { sent: 1.5, failed: 0.1, dead: 0.05 },
      last_5_minutes: { sent: 0.8, failed: 0.04, dead: 0.01 },
      last_hour: { sent: 1.067, failed: 0.003, dead: 0.003 },
    });
    expect(latency).toMatchObject({ latency_p50_ms: 20, duration_p99_ms: 25 });
    expect(totals).toMatchObject({ sent_last_hour: 3_840, failed_last_hour: 12, dead_last_hour: 10 });
  });

  test("a gateway has its own, also without any", async () => {
    const [bulk, other] = (await filled()).gateways;
    expect(bulk).toMatchObject({
      name: "bulk",
      sent_last_hour: 3_660,
      rates: { last_minute: { sent: 1 }, last_5_minutes: { sent: 0.2 }, last_hour: { sent: 1.017 } },
      latency: { latency_p50_ms: 21 },
    });
    expect(other).toMatchObject({
      name: "default",
      sent_last_hour: 0,
      rates: { last_hour: NOTHING },
      latency: NO_LATENCY,
    });
  });

  test("a gateway that was quiet in the last of them has no latency, whatever it had before", async () => {
    const { gateways } = await statsOf(async () => {
      for (let ago = 60; ago >= 1; ago--) await closed(ago, {});
      await closed(2, { sent: 60, p50: 20 }, "bulk");
    });
    expect(gateways[0]).toMatchObject({
      rates: { last_minute: NOTHING, last_5_minutes: { sent: 0.2 } },
      latency: NO_LATENCY,
    });
  });

  test("those that no relayer has counted yet are counted", async () => {
    const { minutes, rates, latency } = await statsOf(async () => {
      await closed(2, {});
      await insertSent(30, "60 s");
    });
    expect(minutes.at(-1)).toMatchObject({ sent: 30, latency_p50_ms: 80, duration_p50_ms: 40 });
    expect(rates).toMatchObject({ last_minute: { sent: 0.5 } });
    expect(latency).toMatchObject({ latency_p99_ms: 80, duration_p99_ms: 40 });
  });
});

describe("of now", () => {
  test("what was sent within the last minute is in the totals at once", async () => {
    await insertSent(5, "1 s");
    await pool.query(
      `insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, ended_at)
       values (7, 1, 'default', 1, 'retry', now()), (8, 1, 'default', 1, 'accepted', now())`,
    );
    expect((await get()).totals).toMatchObject({ sent_last_minute: 5, failed_last_minute: 1 });
  });

  test("what waits, in all and for each gateway", async () => {
    await pool.query(`
      insert into outbox.messages (recipient, content, gateway, available_at)
      select '+905551234567', 'hi', gateway, now() + delay
      from (values ('bulk', interval '-90 s'), ('bulk', '1 h'), ('default', '-1 s')) as one (gateway, delay)`);
    const { totals, gateways } = await get();
    expect(totals).toMatchObject({ due: 2, scheduled: 1, in_flight: 0 });
    expect(totals.oldest_due_age_ms).toBeGreaterThanOrEqual(90_000);
    expect(totals.oldest_due_age_ms).toBeLessThan(120_000);
    expect(gateways).toMatchObject([
      { name: "bulk", due: 1, scheduled: 1 },
      { name: "default", due: 1, scheduled: 0 },
    ]);
  });

  test("dead letters by reason, up to a bound", async () => {
    await pool.query(
      `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts,
         created_at, died_at, reason)
       select n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, now(), now() - interval '1 day',
         case when n <= 3 then 'rejected' else 'expired' end
       from generate_series(1, $1 + 5) as n`,
      [MOST_DEAD_LETTERS],
    );
    expect((await get()).totals.dead_letters).toEqual({
      rejected: 3,
      exhausted: 0,
      expired: MOST_DEAD_LETTERS,
      cancelled: 0,
      unknown_outcome: 0,
    });
  });
});

test("nothing is counted of what was sent, once a relayer has counted it", async () => {
  for (;;) {
    await empty();
    await closed(1, {});
    await insertSent(1_000, "30 s");
    const plans: string[] = [];
    for (const query of [MINUTES, GATEWAYS, SELECT_GATEWAYS]) {
      const { rows } = await pool.query(`explain (analyze, costs off) ${query}`);
      plans.push(rows.map((row) => row["QUERY PLAN"]).join("\n"));
    }
    const { rows } = await pool.query(
      "select max(minute) = date_trunc('minute', now()) - interval '1 minute' as still from outbox.minutes",
    );
    if (!rows[0].still) continue; // a minute ended in between
    expect(plans[0]).toMatch(/Function Scan on tally_minute tally \(never executed\)/);
    expect(plans.slice(1).join()).not.toMatch(/tally|sent/);
    return;
  }
});
