import { setTimeout as pause } from "node:timers/promises";
import type { Database } from "./database.ts";
import { QueryStoreError } from "./query-store-error.ts";

const PATIENCE_MS = 10_000;
const POLL_MS = 100;

/** Takes the store for this session, until that ends: none but it may change what the store is made of. False: another has it. */
export async function take(store: Database): Promise<boolean> {
  const { taken } = await store.row<{ taken: boolean }>(
    "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('outbox-relayer: query store', 0)) as taken",
  );
  return taken;
}

/**
 * Takes the store, and waits for others that make, change or drop this store, so that none finds it half made.
 *
 * @throws QueryStoreError when they take too long.
 */
export async function oneAtATime(store: Database, patienceMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await take(store))) {
    if (performance.now() >= deadline)
      throw new QueryStoreError([
        `another process has been making or changing the query store at ${store.place} for ${patienceMs / 1000} s (its application_name is outbox-query-store in pg_stat_activity there): wait for it, then run this again`,
      ]);
    await pause(POLL_MS);
  }
}
