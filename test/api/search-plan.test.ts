import { beforeAll, expect, test } from "vitest";
import { listQuery, type MessageFilters } from "../../src/api/message-list.ts";
import { useDatabase } from "../support/database.ts";
import { makePastDays } from "./sent-fixture.ts";

const database = useDatabase();

const SENT = 40_000;

interface Plan {
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
}

async function planOf(filters: MessageFilters): Promise<Plan> {
  const { text, values } = listQuery(filters, undefined, 51);
  const { rows } = await database.pool.query(`explain (analyze, buffers, format json) ${text}`, values);
  return rows[0]?.["QUERY PLAN"][0].Plan;
}

const blocks = (plan: Plan) => plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];

/** Of the table. */
let pages: number;

beforeAll(async () => {
  const { pool } = database;
  await makePastDays(pool);
  await pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
     select n, 'default', 1, '+905551234567', 'Your code is ' || n, jsonb_build_object('order', 'o' || n), sent_at, 1, 1, sent_at,
       sent_at, sent_at, 'x', 1
     from (select n, timestamptz '2026-01-01T00:00:00Z' + n * interval '4 s' as sent_at from generate_series(1, ${SENT}) as n) as row`,
  );
  await pool.query("select count(*) from outbox.create_search_indexes()");
  const { rows } = await pool.query(
    "select sum(pg_relation_size(relid) / 8192)::int as pages from pg_partition_tree('outbox.sent')",
  );
  pages = rows[0].pages;
});

/** Autovacuum has not been there yet, or it has. */
test.each(["before", "after"])("%s there are statistics, what is rare is found by an index", async (when) => {
  if (when === "after") await database.pool.query("vacuum analyze outbox.sent");
  for (const filters of [{ q: "o12345" }, { metadata: { order: "o12345" } }]) {
    const plan = await planOf(filters);
    expect(JSON.stringify(plan)).toMatch(/"Index Name":"sent_20260101_(search_vector|metadata)_idx"/);
    expect(blocks(plan)).toBeLessThan(pages / 20);
  }
});

test("of a word that is in all of them, a page costs what a page costs", async () => {
  expect(blocks(await planOf({ q: "code" }))).toBeLessThan(pages / 20);
});
