import { type Database, inTransaction } from "./database.ts";
import { hasSubscription, identify, mustBelong } from "./kind.ts";
import { oneAtATime } from "./one-at-a-time.ts";
import { PUBLICATIONS, unpublish } from "./publications.ts";
import { QueryStoreError } from "./query-store-error.ts";
import { dropSlot } from "./slot.ts";

export interface DropOptions {
  /** A fault where it is away. */
  readonly primary: Database | QueryStoreError;
  readonly store: Database;
  /** The tables stay as they are, and go on refusing writes. */
  readonly keepData: boolean;
  /** Also history that the primary has not any more. */
  readonly loseHistory: boolean;
  readonly say: (line: string) => void;
}

/**
 * Ends a logical query store: its subscription, its slot, its data, and the publications when it was the last one.
 *
 * @throws QueryStoreError when it is none, or another primary's, or would lose history; nothing has been changed then.
 */
export async function dropQueryStore(options: DropOptions): Promise<void> {
  const { primary, store, keepData, loseHistory, say } = options;
  await oneAtATime(store);
  const { kind, name } = await identify(store);
  if (kind === "physical")
    throw new QueryStoreError([
      `${store.place} is a physical standby: stop its server; its slot, if it has one, goes by select pg_drop_replication_slot('…') on the primary`,
    ]);
  if (name === null) throw new QueryStoreError([`${store.place} is no query store`]);
  if (!(primary instanceof QueryStoreError)) await mustBelong(primary, store);
  if (!keepData && !loseHistory) await mayLose(primary, store);

  const syncSlots = await unsubscribe(store, name, say);
  if (!keepData) {
    await store.rows("drop schema if exists outbox, outbox_worker, outbox_migrate cascade");
    say(`query store: dropped the schemas outbox, outbox_worker and outbox_migrate in ${store.place}`);
  } else say(`query store: its data stay in ${store.place}, and go on refusing writes`);

  if (primary instanceof QueryStoreError) {
    say(`${primary.message}. Left there, for its next superuser or owner:`);
    say(`  select pg_drop_replication_slot('${name}');`);
    say(`  drop publication ${PUBLICATIONS.join(", ")};   -- unless another query store uses them`);
    return;
  }
  await dropSlots(primary, [...syncSlots, name], say);
  await cleanUp(primary, say);
}

/** For a store that is gone for good: what is left of it on the primary. */
export async function dropLeftSlot(
  primary: Database,
  slot: string,
  say: (line: string) => void,
): Promise<void> {
  const [found] = await primary.rows<{ active: boolean }>(
    "select active from outbox.replication_slots where slot_name = $1 and kind = 'logical'",
    [slot],
  );
  if (found === undefined) throw new QueryStoreError([`the primary has no slot ${slot} of a query store`]);
  if (found.active)
    throw new QueryStoreError([
      `the slot ${slot} is in use: drop its query store, with QUERY_DATABASE_URL naming it`,
    ]);
  await dropSlots(primary, [slot], say);
  await cleanUp(primary, say);
}

async function unsubscribe(store: Database, name: string, say: DropOptions["say"]): Promise<string[]> {
  if (!(await hasSubscription(store, name))) return [];
  // By itself it would go to the primary for the slot, as whoever its URL names. That is for us, and for later if need be.
  await store.rows(`alter subscription ${name} disable`);
  const slots = await store.rows<{ slot: string }>(
    `select format('pg_%s_sync_%s_%s', srsubid, srrelid, (select system_identifier from pg_control_system())) as slot
     from pg_subscription_rel join pg_subscription on pg_subscription.oid = srsubid
     where subname = $1 and srsubstate <> 'r'`,
    [name],
  );
  await inTransaction(store, async () => {
    await store.rows(`alter subscription ${name} set (slot_name = none)`);
    await store.rows(`drop subscription ${name}`);
  });
  say(`query store: dropped the subscription ${name}`);
  return slots.map(({ slot }) => slot);
}

async function dropSlots(
  primary: Database,
  names: readonly string[],
  say: DropOptions["say"],
): Promise<void> {
  for (const name of names) if (await dropSlot(primary, name)) say(`primary: dropped the slot ${name}`);
}

async function cleanUp(primary: Database, say: DropOptions["say"]): Promise<void> {
  const others = await primary.rows("select from outbox.replication_slots where kind = 'logical'");
  if (others.length > 0) return;
  if (await unpublish(primary)) say("primary: dropped the publications: no other query store uses them");
}

/** History that only the store has: it keeps longer than the primary does. */
async function mayLose(primary: DropOptions["primary"], store: Database): Promise<void> {
  const advice = "drop --yes deletes it, drop --keep-data leaves it where it is";
  if (primary instanceof QueryStoreError)
    throw new QueryStoreError([
      `${primary.message}, so nobody knows what history only the store has, and its slot would be left there: ${advice}`,
    ]);
  const [there, kept] = [await oldestOf(primary), await oldestOf(store)];
  const only = [...kept].filter(([place, at]) => at < (there.get(place) ?? Number.POSITIVE_INFINITY));
  if (only.length > 0) {
    const said = only.map(([place, at]) => `${place} from ${new Date(at).toISOString()}`).join(", ");
    throw new QueryStoreError([
      `The query store has history that the primary has not any more (${said}): ${advice}`,
    ]);
  }
}

/** When the history in each table begins. Of attempts the failed ones, which have an index for it. */
async function oldestOf(database: Database): Promise<Map<string, number>> {
  const rows = await database.rows<{ place: string; ms: number | null }>(`
    select place, extract(epoch from at)::float8 * 1000 as ms
    from (
      values
        ('sent', (select min(sent_at) from outbox.sent)),
        ('dead_letters', (select min(died_at) from outbox.dead_letters)),
        ('attempts', (select min(ended_at) from outbox.attempts where outcome <> 'accepted')),
        ('audit', (select min(at) from outbox.audit)),
        ('minutes', (select min(minute) from outbox.minutes))
    ) as oldest (place, at)`);
  return new Map(rows.flatMap(({ place, ms }) => (ms === null ? [] : [[place, ms] as const])));
}
