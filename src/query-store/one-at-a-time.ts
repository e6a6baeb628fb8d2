import { setTimeout as pause } from "node:timers/promises";
import type { Database } from "./database.ts";
import { QueryStoreError } from "./query-store-error.ts";

const PATIENCE_MS = 10_000;
const POLL_MS = 100;

/** Whether this session is the one that may change what the store is made of. It is so until it ends. */
export async function isOurs(store: Database): Promise<boolean> {
  const { ours } = await store.row<{ ours: boolean }>(
    "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('outbox-relayer: query store', 0)) as ours",
  );
  return ours;
}

/**
 * Waits for others that make, change or drop this store, so that none finds it half made.
 *
 * @throws QueryStoreError when they take too long.
 */
export async function oneAtATime(store: Database, patienceMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await isOurs(store))) {
    if (performance.now() >= deadline)
      throw new QueryStoreError([
        `another process has been making or changing the query store at ${store.place} for ${patienceMs / 1000} s (its application_name is outbox-query-store in pg_stat_activity there): wait for it, then run this again`,
      ]);
    await pause(POLL_MS);
  }
}
