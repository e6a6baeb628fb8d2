import { setTimeout as pause } from "node:timers/promises";
import { type Database, inTransaction, messageOf } from "./database.ts";
import { hasSubscription, identify } from "./kind.ts";
import { PUBLICATIONS, unpublish } from "./publications.ts";
import { QueryStoreError } from "./query-store-error.ts";

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

const SLOT_PATIENCE_MS = 10_000;

/**
 * Ends a logical query store: its subscription, its slot, its data, and the publications when it was the last one.
 *
 * @throws QueryStoreError when it is none, or would lose history; nothing has been changed then.
 */
export async function dropQueryStore(options: DropOptions): Promise<void> {
  const { primary, store, keepData, loseHistory, say } = options;
  const { kind, name } = await identify(store);
  if (kind === "physical")
    throw new QueryStoreError([
      `${store.place} is a physical standby: stop its server; its slot, if it has one, goes by select pg_drop_replication_slot('…') on the primary`,
    ]);
  if (name === null) throw new QueryStoreError([`${store.place} is no query store`]);
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
  for (const slot of [...syncSlots, name]) await dropSlot(primary, slot, say);
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
  await dropSlot(primary, slot, say);
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

/** Its reader may need a moment to notice that it has been dropped. */
async function dropSlot(primary: Database, slot: string, say: DropOptions["say"]): Promise<void> {
  const deadline = performance.now() + SLOT_PATIENCE_MS;
  for (;;) {
    const [found] = await primary.rows<{ active: boolean }>(
      "select active from pg_replication_slots where slot_name = $1",
      [slot],
    );
    if (found === undefined) return;
    try {
      if (!found.active || performance.now() >= deadline) {
        await primary.rows("select pg_drop_replication_slot($1)", [slot]);
        say(`primary: dropped the slot ${slot}`);
        return;
      }
    } catch (error) {
      if (performance.now() >= deadline)
        throw new QueryStoreError(
          [
            `the slot ${slot} on the primary is left, and keeps WAL: ${messageOf(error)}. On the primary: select pg_drop_replication_slot('${slot}')`,
          ],
          { cause: error },
        );
    }
    await pause(50);
  }
}

async function cleanUp(primary: Database, say: DropOptions["say"]): Promise<void> {
  const others = await primary.rows("select from outbox.replication_slots where kind = 'logical'");
  if (others.length > 0) return;
  if (await unpublish(primary)) say("primary: dropped the publications: no other query store uses them");
}

/** History that only the store has: it keeps longer than the primary does. */
async function mayLose(primary: DropOptions["primary"], store: Database): Promise<void> {
  const oldest = `
    select place, at::text from (
      select 'sent' as place, min(sent_at) as at from outbox.sent
      union all select 'dead_letters', min(died_at) from outbox.dead_letters
      union all select 'audit', min(at) from outbox.audit
    ) as oldest where at is not null`;
  const advice = "drop --yes deletes it, drop --keep-data leaves it where it is";
  const kept = await store.rows<{ place: string; at: string }>(oldest);
  if (kept.length === 0) return;
  if (primary instanceof QueryStoreError)
    throw new QueryStoreError([
      `${primary.message}, so nobody knows what history only the store has: ${advice}`,
    ]);
  const there = new Map(
    (await primary.rows<{ place: string; at: string }>(oldest)).map((each) => [each.place, each.at]),
  );
  const only = kept.filter(({ place, at }) => {
    const first = there.get(place);
    return first === undefined || Date.parse(at) < Date.parse(first);
  });
  if (only.length > 0)
    throw new QueryStoreError([
      `The query store has history that the primary has not any more (${only.map(({ place, at }) => `${place} from ${at}`).join(", ")}): ${advice}`,
    ]);
}
