import { setTimeout as pause } from "node:timers/promises";
import { type Database, messageOf } from "./database.ts";
import { QueryStoreError } from "./query-store-error.ts";

/** insufficient_privilege. */
const NO_RIGHT = "42501";

/** Who used it may need a moment to notice that its store, or the command that was making it, is gone. */
const PATIENCE_MS = 10_000;
const POLL_MS = 50;

/** Makes the slot on the primary at which the subscriber will begin; one that a cut-off init has left is made anew. */
export async function makeSlot(primary: Database, name: string): Promise<void> {
  await dropSlot(primary, name);
  await primary.rows("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
}

/**
 * @returns whether there was one.
 * @throws QueryStoreError when it stays in use, or may not be dropped.
 */
export async function dropSlot(primary: Database, name: string): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const [found] = await primary.rows<{ active_pid: number | null }>(
      "select active_pid from pg_replication_slots where slot_name = $1",
      [name],
    );
    if (found === undefined) return false;
    const late = performance.now() >= deadline;
    try {
      if (found.active_pid === null || late) {
        await primary.rows("select pg_drop_replication_slot($1)", [name]);
        return true;
      }
    } catch (error) {
      if (late || (error as { code?: unknown }).code === NO_RIGHT) throw left(name, found.active_pid, error);
    }
    await pause(POLL_MS);
  }
}

function left(name: string, pid: number | null, error: unknown): QueryStoreError {
  const ended = pid === null ? "" : `select pg_terminate_backend(${pid}), then `;
  return new QueryStoreError(
    [
      `the slot ${name} on the primary is left, and keeps WAL: ${messageOf(error)}. On the primary: ${ended}select pg_drop_replication_slot('${name}')`,
    ],
    { cause: error },
  );
}
