import { escapeLiteral } from "pg";
import { type Database, inTransaction } from "./database.ts";
import { PUBLICATIONS } from "./publications.ts";

/**
 * Empties the store's tables and subscribes, in one transaction. The slot is there already: made by the subscription, it would
 * wait for this very transaction where store and primary are databases of one server.
 */
export async function subscribe(store: Database, name: string, primaryUrl: string): Promise<void> {
  await inTransaction(store, async () => {
    await store.rows("select set_config('outbox.maintains_query_store', 'on', true)");
    const tables = await storeTables(store);
    await store.rows(`truncate ${tables.map((table) => `outbox.${table}`).join(", ")}`);
    await store.rows(
      `create subscription ${name} connection ${escapeLiteral(primaryUrl)} publication ${PUBLICATIONS.join(", ")}
       with (create_slot = false, slot_name = ${name})`,
    );
    await store.rows(`comment on subscription ${name} is 'Keeps this query store up to date.'`);
    await store.rows("update outbox.query_store set subscribed_at = clock_timestamp()");
  });
}

export async function storeTables(store: Database): Promise<string[]> {
  const rows = await store.rows<{ place: string }>(
    "select listed.place from outbox.query_store_tables() as published cross join unnest(published.tables) as listed (place)",
  );
  return rows.map(({ place }) => place);
}

export interface SubscribedTable {
  readonly name: string;
  /** As pg_subscription_rel has it: r is ready. */
  readonly state: string;
}

/** By their names in the schema outbox, of which a user of the same name sees no schema in a regclass. */
export function subscribedTables(store: Database, name: string): Promise<SubscribedTable[]> {
  return store.rows<{ name: string; state: string }>(
    `select relname as name, srsubstate as state
     from pg_subscription_rel
     join pg_subscription on pg_subscription.oid = srsubid
     join pg_class on pg_class.oid = srrelid
     where subname = $1 and relnamespace = 'outbox'::regnamespace
     order by relname`,
    [name],
  );
}

/** What is published, or will be, and does not come to the store. */
export async function missingTables(store: Database, name: string): Promise<string[]> {
  const subscribed = (await subscribedTables(store, name)).map((table) => table.name);
  return (await storeTables(store)).filter((table) => !subscribed.includes(table));
}

/** Has the subscription take in tables that were published since; which ones. */
export async function refresh(store: Database, name: string): Promise<string[]> {
  const missing = await missingTables(store, name);
  if (missing.length > 0) await store.rows(`alter subscription ${name} refresh publication`);
  return missing;
}
