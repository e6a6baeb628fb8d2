import type pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

const MILLION = 1_000_000;

/** A session, and the payloads that it is told on the channel outbox. */
async function listening(): Promise<{ client: pg.PoolClient; heard: string[] }> {
  const client = await database.pool.connect();
  onTestFinished(() => client.release(true));
  const heard: string[] = [];
  client.on("notification", ({ payload = "" }) => heard.push(payload));
  await client.query("listen outbox");
  return { client, heard };
}

test("no trigger on messages fires for a plain row: each is for the statement, or has a condition", async () => {
  const { rows } = await database.pool.query(`
    select tgname as name, (tgtype & 1) = 1 as for_each_row, tgqual is not null as conditional
    from pg_trigger
    where tgrelid = 'outbox.messages'::regclass and tgtype & 4 = 4 -- of an INSERT
    order by tgname`);
  // No foreign key either, whose triggers are internal.
  expect(rows).toEqual([
    { name: "admit", for_each_row: true, conditional: true },
    { name: "notify_relayers", for_each_row: false, conditional: true },
  ]);
});

test.each([
  [
    "INSERT … SELECT",
    `insert into outbox.messages (recipient, content)
     select '+905551234567', 'message ' || n from generate_series(1, ${MILLION}) as n`,
  ],
  [
    // COPY … FROM STDIN needs a library; the server reads the same rows from a program.
    "COPY",
    `copy outbox.messages (recipient, content) from program
     $$awk 'BEGIN { for (n = 1; n <= ${MILLION}; n++) printf "+905551234567\\tmessage %d\\n", n }'$$`,
  ],
])(
  "%s of a million rows is one statement, one call of one trigger, one NOTIFY",
  async (_, statement) => {
    const { client, heard } = await listening();
    await client.query("begin; set local track_functions = 'all'");
    const { rowCount } = await client.query(statement);
    expect(rowCount).toBe(MILLION);
    const called = await client.query(
      "select funcname as name, calls::int from pg_stat_xact_user_functions where schemaname = 'outbox'",
    );
    expect(called.rows).toEqual([{ name: "notify_relayers", calls: 1 }]);
    await client.query("commit");
    const { rows } = await client.query(
      `select count(*)::int, sum(substr(content, 9)::int)::float8 as numbers
       from outbox.messages
       where claimed_by is null and attempts = 0 and available_at <= now()`,
    );
    expect(rows).toEqual([{ count: MILLION, numbers: (MILLION * (MILLION + 1)) / 2 }]);
    expect(heard).toEqual(["insert"]);
    await client.query("truncate outbox.messages");
  },
  120_000,
);
