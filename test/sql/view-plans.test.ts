import type pg from "pg";
import { beforeEach, describe, expect, test } from "vitest";
import { useOutbox } from "./outbox-under-test.ts";
import { explained, nodes, type Plan } from "./plans.ts";

const outbox = useOutbox();

const ROWS_AN_EARLIER_DAY = 15_000;
const ROWS_TODAY = 24_000;
const ROWS_IN_THE_LAST_HOUR = 3_000;
const HISTORY = ["sent", "attempts", "dead_letters"];

/** Moments: each of the days before, all of today, later hours too, so that the test is the same at every hour; and the last hour. */
const moments = (now: string) => `
  select date_trunc('day', ${now}, 'UTC') - interval '1 day' * (n / ${ROWS_AN_EARLIER_DAY})
    - interval '1 day' * (n % ${ROWS_AN_EARLIER_DAY} + 1) / ${ROWS_AN_EARLIER_DAY + 1} as at, n
  from generate_series(0, ${3 * ROWS_AN_EARLIER_DAY - 1}) as n
  union all
  select date_trunc('day', ${now}, 'UTC') + interval '1 day' * n / ${ROWS_TODAY}, 1000000 + n
  from generate_series(0, ${ROWS_TODAY - 1}) as n
  union all
  select ${now} - interval '1 hour' * n / ${ROWS_IN_THE_LAST_HOUR}, 2000000 + n
  from generate_series(1, ${ROWS_IN_THE_LAST_HOUR}) as n`;

const fill = (pool: pg.Pool, now = "now()", some = "") =>
  pool.query(`
    insert into outbox.sent (
      id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at, created_at,
      sent_at, gateway_message_id, duration_ms
    )
    select n, 'default', 1, '+905551234567', 'Your code is 123456', '{}', at, 1, 1, at, at, at, 'gw-' || n, n % 100
    from (${moments(now)}) as moment ${some};
    insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, http_status, error, ended_at)
    select n, 1, 'default', 1, case n % 3 when 0 then 'accepted' else 'retry' end, 500, 'HTTP 500', at
    from (${moments(now)}) as moment ${some};
    insert into outbox.dead_letters (
      id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason
    )
    select n, 'default', 1, '+905551234567', 'Your code is 123456', '{}', at, 1, at, at, 'rejected'
    from (${moments(now)}) as moment ${some};`);

const makeDays = (pool: pg.Pool) =>
  pool.query(
    `select outbox.make_partitions(parent, key, now() - interval '3 days')
     from (values ('sent', 'sent_at'), ('attempts', 'ended_at')) as history (parent, key)`,
  );

const analyze = (pool: pg.Pool) => pool.query("analyze outbox.sent, outbox.attempts, outbox.dead_letters");

/** Each table of the history that holds anything, by its own name: scanning an empty one is no scan. */
async function historyWithRows(): Promise<Set<string>> {
  const found = await outbox.rows(
    `select child.relname as name
     from pg_class as child
     left join pg_inherits on inhrelid = child.oid
     left join pg_class as parent on parent.oid = inhparent
     where child.relnamespace = 'outbox'::regnamespace
       and coalesce(parent.relname, child.relname) = any ($1)
       and pg_relation_size(child.oid) > 0`,
    [HISTORY],
  );
  return new Set(found.map(({ name }) => name as string));
}

/** What a person asks of a view that nobody reads as a whole. */
const QUESTIONS: Readonly<Record<string, readonly string[]>> = {
  all_messages: [
    "where id = 1000001",
    "where id = any ('{7, 1000001, 2000001}')",
    "where status = 'sending'",
    "where status = 'pending' and gateway = 'default' and created_at < now() - interval '1 hour'",
    "where status in ('failed', 'expired')",
    "where status = 'sent' and sent_at between now() - interval '10 minutes' and now()",
    "where sent_at >= now() - interval '10 minutes' and sent_at < now()",
    "where status = 'sent' order by sent_at desc limit 20",
  ],
};

const STATISTICS: Readonly<Record<string, (pool: pg.Pool) => Promise<void>>> = {
  async "of just now"(pool) {
    await fill(pool);
    await analyze(pool);
  },
  async none(pool) {
    await fill(pool);
  },
  async "of an empty table"(pool) {
    await analyze(pool);
    await fill(pool);
  },
};

let client: pg.Client;
let plans: Plan[];
let history: Set<string>;

beforeEach(async () => {
  await makeDays(outbox.pool);
  await outbox.pool.query("truncate outbox.sent, outbox.attempts, outbox.dead_letters, outbox.minutes");
  ({ client, plans } = await explained(outbox));
});

const viewNames = async (): Promise<string[]> =>
  (await outbox.rows("select viewname as name from pg_views where schemaname = 'outbox'")).map(
    ({ name }) => name,
  );

/** The tables of the history that a statement, or a function in it, read from the first row to the last. */
async function scannedBy(query: string): Promise<string[]> {
  plans.length = 0;
  await client.query(query);
  expect(plans.length).toBeGreaterThan(0);
  return plans
    .flatMap(nodes)
    .filter((node) => node["Node Type"].includes("Seq Scan") && history.has(node["Relation Name"] ?? ""))
    .map((node) => node["Relation Name"] as string);
}

describe.each(Object.entries(STATISTICS))("statistics: %s", (_, prepare) => {
  beforeEach(async () => {
    await prepare(outbox.pool);
    history = await historyWithRows();
    expect(history.size).toBeGreaterThanOrEqual(9);
  });

  test("no view scans what was sent, failed or died", async () => {
    const views = (await viewNames()).filter((name) => QUESTIONS[name] === undefined);
    expect(views).toEqual(expect.arrayContaining(["health", "throughput", "failures", "gateway_status"]));
    for (const name of views) expect.soft(await scannedBy(`select * from outbox.${name}`), name).toEqual([]);
    for (const [view, questions] of Object.entries(QUESTIONS))
      for (const question of questions) {
        const scanned = await scannedBy(`select * from outbox.${view} ${question}`);
        // Dead letters have no index by status, and are few.
        const large = scanned.filter((table) => table !== "dead_letters");
        expect.soft(large, question).toEqual([]);
      }
    // The scan that this looks for is one that it sees.
    expect(await scannedBy("select count(content) from outbox.sent")).not.toEqual([]);
  });

  test("nor does closing minutes, nor looking at an hour of which half is closed", async () => {
    for (let n = 0; n < 30; n++) expect.soft(await scannedBy("select outbox.close_minutes()")).toEqual([]);
    expect.soft(await scannedBy("select * from outbox.throughput")).toEqual([]);
  });
});

test("nor when the last minute was all there was when the statistics were made", async () => {
  // The same for both halves: a moment later, some rows would be in both.
  const now = `timestamptz '${await outbox.value("select clock_timestamp()::text")}'`;
  const ofTheLastMinute = `at > ${now} - interval '1 minute' and at <= ${now}`;
  await fill(outbox.pool, now, `where ${ofTheLastMinute}`);
  await analyze(outbox.pool);
  await outbox.pool.query("truncate outbox.dead_letters");
  await fill(outbox.pool, now, `where not (${ofTheLastMinute})`);
  history = await historyWithRows();
  for (const query of [
    "select * from outbox.health",
    "select * from outbox.gateway_status",
    "select * from outbox.throughput",
    "select outbox.close_minutes()",
  ])
    expect.soft(await scannedBy(query), query).toEqual([]);
});
