import { Client, type QueryResultRow } from "pg";
import { isOutage } from "../db/outage.ts";
import { describeDatabase } from "../db/wait-for-database.ts";
import { QueryStoreError } from "./query-store-error.ts";

/** One session, for one command. */
export interface Database {
  readonly url: string;
  /** host:port/database, for people. */
  readonly place: string;
  rows<R extends QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** The only row of an answer. */
  row<R extends QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R>;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;

export interface Patience {
  readonly connectMs?: number;
  /** The server ends what takes longer; one that has frozen is not waited for either. */
  readonly queryMs?: number;
}

/** @throws QueryStoreError when it is away or refuses us. */
export async function openDatabase(what: string, url: string, patience: Patience = {}): Promise<Database> {
  const { connectMs = CONNECT_TIMEOUT_MS, queryMs } = patience;
  const place = describeDatabase(url);
  const client = new Client({
    connectionString: url,
    application_name: "outbox-query-store",
    connectionTimeoutMillis: connectMs,
    // Later than the server, which says what it was.
    ...(queryMs !== undefined && { query_timeout: queryMs + 1_000 }),
    keepAlive: true,
  });
  client.on("error", () => {}); // the next query says it
  try {
    await client.connect();
    // Where the server can: what we ask for ends when we do. A slot may be waited for long.
    await client.query("set client_connection_check_interval = '1s'").catch(() => {});
    if (queryMs !== undefined) await client.query(`set statement_timeout = ${queryMs}`);
  } catch (error) {
    void client.end().catch(() => {});
    const why = error instanceof AggregateError ? error.errors.map(String).join("; ") : messageOf(error);
    throw new QueryStoreError([`${what} at ${place} ${isOutage(error) ? "is away" : "refuses us"}: ${why}`], {
      cause: error,
    });
  }
  async function rows<R extends QueryResultRow>(text: string, values: readonly unknown[] = []) {
    return (await client.query<R>(text, [...values])).rows;
  }
  return {
    url,
    place,
    rows,
    async row(text, values) {
      const [row] = await rows(text, values);
      if (row === undefined) throw new Error(`no row: ${text}`);
      return row as never;
    },
    close: () => client.end(),
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A transaction: all of it or nothing. */
export async function inTransaction<T>(database: Database, work: () => Promise<T>): Promise<T> {
  await database.rows("begin");
  try {
    const done = await work();
    await database.rows("commit");
    return done;
  } catch (error) {
    await database.rows("rollback").catch(() => {}); // what failed says more
    throw error;
  }
}
