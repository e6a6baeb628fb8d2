import { setTimeout as pause } from "node:timers/promises";
import type { Database } from "./database.ts";
import { hasSubscription, type Identity, identify, mustBelong, slotsOf } from "./kind.ts";
import { formatBytes, formatSeconds } from "./sizes.ts";
import { missingTables, subscribedTables } from "./subscription.ts";

export interface StatusOptions {
  readonly primary: Database;
  readonly store: Database;
  /** A beat that takes longer to come is a fault. */
  readonly maxLagMs: number;
  readonly say: (line: string) => void;
}

const POLL_MS = 20;
/** By srsubstate of pg_subscription_rel. */
const COPYING: Readonly<Record<string, string>> = {
  i: "waits to be copied",
  d: "is being copied",
  f: "is copied",
  s: "is catching up",
};

/** Says how a query store does, a line each. Returns what is wrong with it; none: nothing. */
export async function queryStoreStatus(options: StatusOptions): Promise<string[]> {
  const { store, say } = options;
  const identity = await identify(store);
  if (identity.kind === "none")
    return [`${store.place} is no query store: npm run query-store -- init makes one`];
  say(
    identity.kind === "physical"
      ? `query store at ${store.place}: a physical standby`
      : `query store at ${store.place}: a logical subscriber, ${identity.name}`,
  );
  if (identity.kind === "physical" || identity.subscribedAt !== null)
    await mustBelong(options.primary, store);
  const faults =
    identity.kind === "logical" ? await subscriptionFaults(options, identity) : await standbyFaults(store);
  // What has stopped does not come, however long one waits.
  const patienceMs = faults.length > 0 ? 0 : options.maxLagMs;
  faults.push(...(await lagFaults({ ...options, maxLagMs: patienceMs }, identity)));
  if (identity.kind === "logical") faults.push(...(await tableFaults(store, identity)));
  faults.push(...(await slotFaults(options, identity)));
  await tellRows(options);
  return faults;
}

async function subscriptionFaults({ store, say }: StatusOptions, identity: Identity): Promise<string[]> {
  const name = identity.name as string;
  if (!(await hasSubscription(store, name)))
    return [
      identity.subscribedAt === null
        ? "it has not subscribed yet: npm run query-store -- init goes on"
        : `its subscription ${name} is gone: nothing comes any more`,
    ];
  const { enabled, working } = await store.row<{ enabled: boolean; working: boolean }>(
    `select
       subenabled as enabled,
       exists (select from pg_stat_subscription where pg_stat_subscription.subid = pg_subscription.oid and pid is not null) as working
     from pg_subscription where subname = $1`,
    [name],
  );
  const tables = await subscribedTables(store, name);
  const missing = await missingTables(store, name);
  const copying = tables.filter(({ state }) => state !== "r");
  say(`tables: ${tables.length - copying.length} of ${tables.length + missing.length} ready`);
  for (const each of copying) say(`  outbox.${each.name} ${COPYING[each.state] ?? "is being copied"}`);
  const { failed } = await store.row<{ failed: string }>(
    `select coalesce(sum(apply_error_count + sync_error_count), 0)::text as failed
     from pg_stat_subscription_stats where subname = $1`,
    [name],
  );
  say(`errors since its statistics were reset: ${failed}`);
  if (!enabled) return [`its subscription is disabled: alter subscription ${name} enable`];
  if (working) return [];
  return [
    "its subscription has no worker: Postgres' log there says why (the slot is lost, the primary refuses it, a table differs)",
  ];
}

async function tableFaults(store: Database, { name }: Identity): Promise<string[]> {
  if (name === null || !(await hasSubscription(store, name))) return [];
  return (await missingTables(store, name)).map(
    (table) => `outbox.${table} does not come to it: npm run query-store -- init subscribes to it`,
  );
}

async function standbyFaults(store: Database): Promise<string[]> {
  const { streaming, paused } = await store.row<{ streaming: boolean; paused: boolean }>(
    // Who has not pg_read_all_stats sees that there is a receiver, and nothing of it.
    "select exists (select from pg_stat_wal_receiver where coalesce(status, 'streaming') = 'streaming') as streaming, pg_is_wal_replay_paused() as paused",
  );
  if (paused) return ["its replay is paused: select pg_wal_replay_resume()"];
  return streaming ? [] : ["it does not stream from the primary"];
}

/** Has the primary make a beat, and waits for it: so the lag is known also while no relayer beats. */
async function lagFaults(
  { primary, store, maxLagMs, say }: StatusOptions,
  { kind }: Identity,
): Promise<string[]> {
  const before = await lastBeat(primary, store);
  const began = performance.now();
  const { lsn } = await primary.row<{ lsn: string }>("select lsn::text from outbox.beat()");
  for (;;) {
    const { came, behind } = await store.row<{ came: boolean; behind: string | null }>(
      "select coalesce(lsn >= $1::pg_lsn, false) as came, pg_wal_lsn_diff($1::pg_lsn, lsn)::text as behind from outbox.query_store_state()",
      [lsn],
    );
    const waited = performance.now() - began;
    if (came) {
      say(`lag: a beat of the primary came within ${formatSeconds(waited)}; ${before}`);
      return [];
    }
    if (waited >= maxLagMs) {
      const how =
        behind === null ? "none has come yet" : `it is ${formatBytes(Number(behind))} of WAL behind`;
      const copied = behind === null && kind === "logical" ? ", or its tables are still being copied" : "";
      const within = maxLagMs === 0 ? "" : ` within ${formatSeconds(maxLagMs)}`;
      return [`a beat of the primary has not come${within}: ${how}${copied}`];
    }
    await pause(POLL_MS);
  }
}

/** How old what it had was. Without a relayer nobody makes beats. */
async function lastBeat(primary: Database, store: Database): Promise<string> {
  const last = await store.row<{ beat_at: string | null; lsn: string | null }>(
    "select beat_at::text, lsn::text from outbox.query_store_state()",
  );
  const { ms, bytes } = await primary.row<{ ms: number | null; bytes: string | null }>(
    `select
       extract(epoch from clock_timestamp() - $1::timestamptz)::float8 * 1000 as ms,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $2::pg_lsn)::text as bytes`,
    [last.beat_at, last.lsn],
  );
  if (ms === null) return "it was the first";
  return `the one before was ${formatSeconds(ms)} old, ${formatBytes(Math.max(Number(bytes), 0))} of WAL ago`;
}

async function slotFaults({ primary, say }: StatusOptions, { kind, name }: Identity): Promise<string[]> {
  const slots = await slotsOf(primary);
  for (const slot of slots) {
    const left = slot.safe_wal_size === null ? "no limit" : `${formatBytes(Number(slot.safe_wal_size))} left`;
    say(
      `slot ${slot.slot_name}: ${slot.holder}; keeps ${formatBytes(Number(slot.retained_bytes ?? 0))} of WAL (${slot.wal_status ?? "none"}, ${left})`,
    );
  }
  if (kind !== "logical") return [];
  const own = slots.find((slot) => slot.slot_name === name);
  if (own === undefined)
    return [`its slot ${name} is gone from the primary: drop the store, and make it anew`];
  return own.wal_status === "lost" ? [`its slot ${name}: ${own.holder}`] : [];
}

async function tellRows({ store, say }: StatusOptions): Promise<void> {
  const rows = await store.rows<{ name: string; rows: string }>(`
    select top.relname as name, sum(greatest(leaf.reltuples, 0))::bigint::text as rows
    from pg_class as top
    join pg_class as leaf
      on leaf.oid = top.oid or leaf.oid in (select inhrelid from pg_inherits where inhparent = top.oid)
    where leaf.relkind = 'r' and top.relnamespace = 'outbox'::regnamespace and top.relname in ('messages', 'sent', 'dead_letters', 'attempts', 'audit')
    group by top.relname
    order by top.relname`);
  say(`rows, by Postgres' estimate: ${rows.map((each) => `${each.name} ${each.rows}`).join(", ")}`);
  const { searchable } = await store.row<{ searchable: boolean }>(
    "select searchable from outbox.query_store_state()",
  );
  say(
    searchable ? "full-text search: the indexes are there" : "full-text search: there are no indexes for it",
  );
}
