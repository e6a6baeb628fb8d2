import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { startServer } from "../../src/api/server.ts";
import { migrate } from "../../src/db/migrate.ts";
import { isOutage } from "../../src/db/outage.ts";
import { createPool } from "../../src/db/pool.ts";
import { eventually } from "../support/eventually.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { apiUnderTest } from "./api-under-test.ts";
import { type Heard, listen } from "./event-client.ts";

const postgres = usePrivatePostgres();

const PUT = "select outbox.enqueue('+905551234567', 'hi') from generate_series(1, 5)";
/** Claims, and settles: one in three is rejected. */
const RELAY = `
  with claimed as materialized (
    select
      array_agg(id order by id) as ids,
      array_agg(attempt order by id) as attempts,
      array_agg(case when id % 3 = 0 then 'rejected' else 'accepted' end::outbox.outcome order by id) as outcomes,
      array_agg(202 order by id) as numbers
    from outbox.claim($1, 'default', 100)
  )
  select from claimed
  cross join lateral outbox.settle(
    $1, ids, attempts, outcomes, numbers, numbers::text[], numbers::text[], numbers, numbers::bigint[]
  )
  where ids is not null`;

/** All that there is to relaying, in SQL; through outages. */
async function relay(url: string, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    const client = new Client({ connectionString: url });
    client.on("error", () => {});
    try {
      await client.connect();
      const { rows } = await client.query("select outbox.register_relayer('test', '1') as relayer");
      while (!until.aborted) {
        await client.query(PUT);
        await client.query(RELAY, [rows[0].relayer]);
      }
    } catch (error) {
      if (!isOutage(error)) throw error;
      await pause(50);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

test.each(["fast", "immediate"] as const)(
  "a stream outlives a restart (%s) of Postgres: no event is lost or doubled",
  async (mode) => {
    const url = await postgres.createDatabase();
    await migrate({ connectionString: url, log: () => {} });
    const pool = createPool({
      connectionString: url,
      max: 8,
      applicationName: "outbox-api",
      connectTimeoutMs: 2_000,
      log: () => {},
    });
    onTestFinished(() => pool.end());
    const server = await startServer({
      app: apiUnderTest(pool).app,
      host: "127.0.0.1",
      port: 0,
      graceMs: 100,
    });
    onTestFinished(() => server.stop());
    const events = `${server.url}/api/v1/events`;
    const client = await (await listen(events)).begun();
    const over = new AbortController();
    const relaying = [relay(url, over.signal), relay(url, over.signal)];
    await client.events(100);

    await postgres.stop(mode);
    // One that lives through it, and one that comes again.
    const other = await listen(events);
    expect(other.response.statusCode).toBe(503);
    const asked = performance.now();
    expect((await listen(events, { "Last-Event-ID": client.lastId })).response.statusCode).toBe(503);
    expect(performance.now() - asked).toBeLessThan(3_000);
    const before = client.heard.length;
    await postgres.start();

    await client.events(before + 200);
    over.abort();
    await Promise.all(relaying);
    const happened = await queryOnce<{ message: string }>(
      url,
      `select message
       from (
         select id as message, sent_at as at, id from outbox.sent
         union all
         select (data ->> 'id')::bigint, at, id from outbox.events where type = 'dead'
       ) as all_events
       order by at, id`,
    );
    const all = await eventually(
      async () => client.heard,
      (heard) => heard.length >= happened.length,
    );
    const ids = (heard: readonly Heard[]) => heard.map(({ data }) => data.id);
    expect(ids(all)).toEqual(happened.map(({ message }) => Number(message)));

    const again = await listen(events, { "Last-Event-ID": client.heard[40]?.id ?? "" });
    expect(ids(await again.events(happened.length - 41))).toEqual(ids(all).slice(41));
  },
);
