import { Client } from "pg";
import { DatabaseUnusableError, describeDatabase } from "./wait-for-database.ts";

const TIMEOUT_MS = 5_000;

/**
 * Makes sure that relayers are not sent to a query store, where they would find what others send.
 *
 * @throws DatabaseUnusableError when it is one; an outage comes as node-postgres throws it.
 */
export async function mustBePrimary(connectionString: string): Promise<void> {
  const client = new Client({
    connectionString,
    application_name: "outbox-primary",
    connectionTimeoutMillis: TIMEOUT_MS,
    query_timeout: TIMEOUT_MS,
  });
  client.on("error", () => {}); // the query that fails says it
  try {
    await client.connect();
    const { rows } = await client.query<{ kind: string | null }>(
      // By its trigger, which everybody may see, and which only a logical subscriber has.
      `select case
         when pg_is_in_recovery() then 'a standby'
         when exists (
           select
           from pg_catalog.pg_trigger
           join pg_catalog.pg_class on pg_class.oid = tgrelid
           join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
           where nspname = 'outbox' and relname = 'messages' and tgname = 'refuse_writes'
         ) then 'a query store'
       end as kind`,
    );
    const kind = rows[0]?.kind;
    if (kind)
      throw new DatabaseUnusableError(
        `Postgres at ${describeDatabase(connectionString)} is ${kind}, for questions alone: DATABASE_URL has to name the primary, and QUERY_DATABASE_URL may name this one.`,
      );
  } finally {
    await client.end();
  }
}
