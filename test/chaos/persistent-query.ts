import { setTimeout as delay } from "node:timers/promises";
import { Client, type QueryResultRow } from "pg";
import { isOutage } from "../../src/db/outage.ts";

/** One query on a connection of its own. */
export async function queryOnce<Row extends QueryResultRow>(
  url: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const client = new Client({ connectionString: url, application_name: "chaos" });
  client.on("error", () => {});
  try {
    await client.connect();
    return (await client.query<Row>(text, [...values])).rows;
  } finally {
    await client.end();
  }
}

/** The same until Postgres has answered. It may have been done more than once. */
export async function queryUntilAnswered<Row extends QueryResultRow>(
  url: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  for (;;) {
    try {
      return await queryOnce<Row>(url, text, values);
    } catch (error) {
      if (!isOutage(error)) throw error;
      await delay(50);
    }
  }
}

/** The database's clock, in milliseconds since 1970. */
export async function databaseNow(url: string): Promise<number> {
  const [row] = await queryUntilAnswered<{ now: number }>(
    url,
    "select extract(epoch from clock_timestamp())::float8 * 1000 as now",
  );
  return row?.now ?? Number.NaN;
}
