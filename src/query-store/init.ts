import { createHash } from "node:crypto";
import { migrate } from "../db/migrate.ts";
import { describeDatabase } from "../db/wait-for-database.ts";
import { type Database, messageOf } from "./database.ts";
import { hasSubscription, identify, mustBelong } from "./kind.ts";
import { oneAtATime } from "./one-at-a-time.ts";
import { isSameDatabase, primaryFaults, readerFaults, storeFaults } from "./preflight.ts";
import { publish } from "./publications.ts";
import { QueryStoreError } from "./query-store-error.ts";
import { makeSlot } from "./slot.ts";
import { refresh, storeTables, subscribe } from "./subscription.ts";

export interface InitOptions {
  readonly primary: Database;
  readonly store: Database;
  /** How the store's server reaches the primary. */
  readonly primaryUrl: string;
  readonly say: (line: string) => void;
  /** Where the migrations are; the project's own by default. */
  readonly migrations?: string;
}

/**
 * Makes a database a logical subscriber, or what is missing of one. It may be cut off anywhere, and run again.
 *
 * @throws QueryStoreError with all that stands in the way; nothing has been changed then.
 */
export async function initQueryStore(options: InitOptions): Promise<void> {
  const { primary, store, primaryUrl, say, migrations } = options;
  await oneAtATime(store);
  const was = await identify(store);
  if (was.kind === "physical") {
    say(`${store.place} is a physical standby: there is nothing to make, and it can be asked as it is`);
    return;
  }
  await mayBegin(options, was.kind === "none");
  if (was.subscribedAt !== null) await mustBelong(primary, store);

  // The store first: what the primary has more than the store would stop the replication.
  for (const [what, { url }] of Object.entries({ "query store": store, primary }))
    await migrate({
      connectionString: url,
      log: (message) => say(`${what}: ${message}`),
      ...(migrations !== undefined && { folder: migrations }),
    });
  // Again, now that all tables are there.
  const reader = await readerFaults(primary, primaryUrl);
  if (reader.length > 0) throw new QueryStoreError(reader);

  const name = was.name ?? (await mark(store, say));
  if (was.subscribedAt !== null && !(await hasSubscription(store, name)))
    throw new QueryStoreError([
      `The subscription ${name} of the query store at ${store.place} is gone, and what the store has would be copied over it. npm run query-store -- drop removes it all; then init makes it anew`,
    ]);

  for (const said of await publish(primary)) say(`primary: ${said}`);
  if (was.subscribedAt === null) await begin(options, name);
  else {
    const taken = await refresh(store, name);
    if (taken.length > 0) say(`query store: copying ${taken.join(", ")} too`);
  }
  for (const { said } of await store.rows<{ said: string }>("select outbox.equip_query_store() as said"))
    say(`query store: ${said}`);
  say(`query store: ready to be asked once its tables are copied; npm run query-store -- status shows it`);
}

async function mayBegin({ primary, store, primaryUrl }: InitOptions, isNew: boolean): Promise<void> {
  if (await isSameDatabase(primary, store))
    throw new QueryStoreError([
      `QUERY_DATABASE_URL and DATABASE_URL name the same database, ${store.place}: a query store is a database of its own`,
    ]);
  const faults = [
    ...(await primaryFaults(primary)),
    ...(await storeFaults(store)),
    ...(await readerFaults(primary, primaryUrl)),
  ];
  if (isNew && (await hasMessages(store)))
    faults.push(
      `the database at ${store.place} has messages of its own, and is no query store: QUERY_DATABASE_URL has to name an empty database`,
    );
  if (faults.length > 0) throw new QueryStoreError(faults);
}

async function hasMessages(store: Database): Promise<boolean> {
  const { made } = await store.row<{ made: boolean }>(
    "select to_regclass('outbox.all_messages') is not null as made",
  );
  if (!made) return false;
  const { some } = await store.row<{ some: boolean }>(
    "select exists (select from outbox.all_messages) as some",
  );
  return some;
}

/** From here on the store refuses whatever does not come from the primary. */
async function mark(store: Database, say: InitOptions["say"]): Promise<string> {
  // The same again for the same database, so that a slot that was left behind is known.
  const { id } = await store.row<{ id: string }>(
    "select (select system_identifier::text from pg_control_system()) || '/' || (select oid from pg_database where datname = current_database()) as id",
  );
  const name = `outbox_query_store_${createHash("sha256").update(id).digest("hex").slice(0, 8)}`;
  await store.rows("insert into outbox.query_store (name) values ($1)", [name]);
  say(`query store: ${store.place} is ${name} from now on`);
  return name;
}

async function begin({ primary, store, primaryUrl, say }: InitOptions, name: string): Promise<void> {
  // Rows that leave a default partition while it is being copied would be missed.
  await primary.rows(
    "select outbox.make_partitions('sent', 'sent_at') union all select outbox.make_partitions('attempts', 'ended_at')",
  );
  await store.rows("select outbox.equip_query_store()");
  const made = await makePartitions(primary, store);
  if (made > 0) say(`query store: made ${made} partitions, for the days that the primary has`);
  say(`primary: making the slot ${name}; that waits for the transactions that are open now`);
  await makeSlot(primary, name);
  try {
    await subscribe(store, name, primaryUrl);
  } catch (error) {
    await primary.rows("select pg_drop_replication_slot($1)", [name]).catch(() => {}); // the next init does it
    throw new QueryStoreError(
      [`${store.place} cannot subscribe to ${describeDatabase(primaryUrl)}: ${messageOf(error)}`],
      { cause: error },
    );
  }
  say(
    `query store: subscribed to ${describeDatabase(primaryUrl)}; that URL, password and all, is in its catalogue, as Postgres wants it`,
  );
  say(`query store: copying ${(await storeTables(store)).join(", ")}`);
}

/** A copy into the default partitions would have to be moved out of them again. */
async function makePartitions(primary: Database, store: Database): Promise<number> {
  const days = await primary.rows<{ parent: string; day: string }>(`
    select parent.relname as parent, right(child.relname, 8) as day
    from pg_inherits
    join pg_class as child on child.oid = inhrelid
    join pg_class as parent on parent.oid = inhparent
    where parent.relnamespace = 'outbox'::regnamespace
      and parent.relname in ('sent', 'attempts')
      and child.relname ~ '_\\d{8}$'`);
  const made = await store.rows(
    `select outbox.make_partition(parent, case parent when 'sent' then 'sent_at' else 'ended_at' end, to_date(day, 'YYYYMMDD'))
     from unnest($1::text[], $2::text[]) as missing (parent, day)
     where to_regclass(format('outbox.%s_%s', parent, day)) is null`,
    [days.map(({ parent }) => parent), days.map(({ day }) => day)],
  );
  return made.length;
}
