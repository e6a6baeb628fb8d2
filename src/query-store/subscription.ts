import { escapeLiteral } from "pg";
import { type Database, inTransaction } from "./database.ts";
import { PUBLICATIONS } from "./publications.ts";

/** Makes the slot on the primary at which the subscriber will begin; one that a cut-off init has left is made anew. */
export async function makeSlot(primary: Database, name: string): Promise<void> {
  await primary.rows(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active",
    [name],
  );
  await primary.rows("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
}

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

/** Has the subscription take in tables that were published since; which ones. */
export async function refresh(store: Database, name: string): Promise<string[]> {
  const subscribed = async () =>
    (
      await store.rows<{ name: string }>(
        `select srrelid::regclass::text as name
         from pg_subscription_rel
         join pg_subscription on pg_subscription.oid = srsubid
         where subname = $1`,
        [name],
      )
    ).map((row) => row.name);
  const before = await subscribed();
  const missing = (await storeTables(store)).filter((table) => !before.includes(`outbox.${table}`));
  if (missing.length === 0) return [];
  await store.rows(`alter subscription ${name} refresh publication`);
  return missing;
}
