import type { Database } from "./database.ts";
import { QueryStoreError } from "./query-store-error.ts";

export type Kind = "physical" | "logical" | "none";

export interface Identity {
  readonly kind: Kind;
  /** Of the subscription and its slot; null unless logical. */
  readonly name: string | null;
  /** When it subscribed; null before. */
  readonly subscribedAt: string | null;
}

interface Readable {
  readonly standby: boolean;
  readonly marked: boolean;
  readonly readable: boolean | null;
  readonly login: string;
}

/** What a database is, whether or not it has our schema. */
export async function identify(store: Database): Promise<Identity> {
  const { standby, marked, readable, login } = await store.row<Readable>(
    `select
       pg_is_in_recovery() as standby,
       pg_class.oid is not null as marked,
       has_schema_privilege(pg_namespace.oid, 'usage') and has_table_privilege(pg_class.oid, 'select') as readable,
       quote_ident(current_user) as login
     from (select) as always
     left join pg_namespace on nspname = 'outbox'
     left join pg_class on relnamespace = pg_namespace.oid and relname = 'query_store'`,
  );
  if (standby) return { kind: "physical", name: null, subscribedAt: null };
  if (marked && !readable)
    throw new QueryStoreError([
      `${login} may not read ${store.place}. There: grant outbox_relayer to ${login}`,
    ]);
  const [marker] = marked
    ? await store.rows<{ name: string; subscribed_at: string | null }>(
        "select name, subscribed_at::text from outbox.query_store",
      )
    : [];
  if (marker === undefined) return { kind: "none", name: null, subscribedAt: null };
  return { kind: "logical", name: marker.name, subscribedAt: marker.subscribed_at };
}

/** Whether it has a subscription of this name. */
export async function hasSubscription(store: Database, name: string): Promise<boolean> {
  const found = await store.rows(
    `select from pg_subscription
     join pg_database on pg_database.oid = subdbid
     where subname = $1 and datname = current_database()`,
    [name],
  );
  return found.length > 0;
}

/**
 * Before anything is done to both of them.
 *
 * @throws QueryStoreError when the store has the messages of another primary.
 */
export async function mustBelong(primary: Database, store: Database): Promise<void> {
  const [theirs, ours] = await Promise.all([installationOf(primary), installationOf(store)]);
  if (theirs !== undefined && ours !== undefined && theirs !== ours)
    throw new QueryStoreError([
      `${store.place} is the query store of another outbox than that at ${primary.place}: DATABASE_URL or QUERY_DATABASE_URL names the wrong one`,
    ]);
}

/** One for each outbox, and the same in its stores; undefined before there is one, and while it is being copied. */
async function installationOf(database: Database): Promise<string | undefined> {
  const { made } = await database.row<{ made: boolean }>(
    "select to_regclass('outbox.scheduler') is not null as made",
  );
  if (!made) return undefined;
  const [found] = await database.rows<{ installation: string }>("select installation from outbox.scheduler");
  return found?.installation;
}

export interface Slot {
  readonly slot_name: string;
  readonly active: boolean;
  readonly retained_bytes: string | null;
  readonly wal_status: string | null;
  readonly safe_wal_size: string | null;
  readonly holder: string;
}

/** The slots of query stores, asked on the primary. */
export function slotsOf(primary: Database): Promise<Slot[]> {
  return primary.rows<Slot>(
    "select slot_name, active, retained_bytes::text, wal_status, safe_wal_size::text, holder from outbox.replication_slots",
  );
}
