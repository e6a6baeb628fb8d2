import pg from "pg";
import { afterAll, expect } from "vitest";
import { openDatabase } from "../../src/query-store/database.ts";
import { initQueryStore } from "../../src/query-store/init.ts";
import { QueryStoreError } from "../../src/query-store/query-store-error.ts";
import { eventually } from "../support/eventually.ts";

// biome-ignore lint/suspicious/noExplicitAny: what a row holds depends on the query beside it
export type Row = Record<string, any>;

/** A database to ask: one pool, ended with the file's tests. */
export function useAsking() {
  const pools = new Map<string, pg.Pool>();
  afterAll(() => Promise.all([...pools.values()].map((pool) => pool.end())));

  async function rows(url: string, text: string, values: readonly unknown[] = []): Promise<Row[]> {
    let pool = pools.get(url);
    if (pool === undefined) {
      pool = new pg.Pool({ connectionString: url, max: 2 });
      // Servers are stopped on purpose.
      pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
      pools.set(url, pool);
    }
    return (await pool.query<Row>(text, [...values])).rows;
  }

  // biome-ignore lint/suspicious/noExplicitAny: what a value is depends on the query beside it
  async function value(url: string, text: string, values: readonly unknown[] = []): Promise<any> {
    const [row, ...others] = await rows(url, text, values);
    if (row === undefined || others.length > 0) throw new Error(`not one row: ${text}`);
    return Object.values(row)[0];
  }

  /** Resolves when the store has all that the primary had committed before this was called. */
  async function caughtUp(primary: string, store: string): Promise<void> {
    const lsn = await value(primary, "select lsn::text from outbox.beat()");
    await eventually(
      () => value(store, "select coalesce(lsn >= $1::pg_lsn, false) from outbox.query_store_state()", [lsn]),
      (came) => came === true,
    );
  }

  return { rows, value, caughtUp };
}

/** What init says; the two databases' own URLs are how they reach each other. */
export async function init(
  primaryUrl: string,
  storeUrl: string,
  reach = primaryUrl,
  migrations?: string,
): Promise<string[]> {
  const said: string[] = [];
  const primary = await openDatabase("the primary", primaryUrl);
  const store = await openDatabase("the query store", storeUrl);
  try {
    await initQueryStore({
      primary,
      store,
      primaryUrl: reach,
      say: (line) => said.push(line),
      ...(migrations !== undefined && { migrations }),
    });
  } finally {
    await primary.close();
    await store.close();
  }
  return said;
}

/** The sentences with which something was refused. */
export async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(QueryStoreError);
  return (error as QueryStoreError).message;
}
