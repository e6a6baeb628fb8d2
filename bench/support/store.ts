import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { runQueryStore } from "../../src/query-store/command.ts";

/** A logical query store. */
export interface Store {
  /** Takes nothing up any more; the primary keeps it for later. */
  sleep(): Promise<void>;
  wake(): Promise<void>;
  /** Resolves when it has all that was committed on the primary before; in how many seconds. */
  caughtUp(): Promise<number>;
  close(): Promise<void>;
}

/** Makes a store of an empty database. */
export async function openStore(primaryUrl: string, storeUrl: string): Promise<Store> {
  await runQueryStore({
    asked: { action: "init", keepData: false, loseHistory: false, slot: undefined },
    databaseUrl: primaryUrl,
    queryDatabaseUrl: storeUrl,
    primaryUrl: undefined,
    maxLagMs: 0,
    say: () => {},
  });
  const [primary, store] = [new Client(primaryUrl), new Client(storeUrl)];
  await Promise.all([primary.connect(), store.connect()]);
  const { rows } = await store.query<{ name: string }>("select name from outbox.query_store");
  const name = rows[0]?.name;

  async function inUse(): Promise<boolean> {
    const { rows } = await primary.query<{ active: boolean }>(
      "select active from pg_replication_slots where slot_name = $1",
      [name],
    );
    return rows[0]?.active === true;
  }

  return {
    async sleep() {
      await store.query(`alter subscription ${name} disable`);
      while (await inUse()) await pause(20);
    },
    async wake() {
      await store.query(`alter subscription ${name} enable`);
      while (!(await inUse())) await pause(20);
    },
    async caughtUp() {
      const start = performance.now();
      const beat = await primary.query<{ lsn: string }>("select lsn::text from outbox.beat()");
      const has = () =>
        store.query("select from outbox.query_store_state() where lsn >= $1::pg_lsn", [beat.rows[0]?.lsn]);
      while ((await has()).rowCount === 0) await pause(20);
      return (performance.now() - start) / 1_000;
    },
    close: () => Promise.all([primary.end(), store.end()]).then(() => {}),
  };
}
