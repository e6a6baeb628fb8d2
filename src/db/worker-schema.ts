import { Logger, runMigrations } from "graphile-worker";
import { createPool } from "./pool.ts";

/** Where Graphile Worker keeps the queue: not its own default, for an application may use it in the same database. */
export const WORKER_SCHEMA = "outbox_worker";

/**
 * Brings Graphile Worker's schema up to date, which the worker itself would do at its start, but not as a role that owns
 * nothing. Asks for no right but to read when there is nothing to do.
 */
export async function migrateWorkerSchema(connectionString: string, applicationName: string): Promise<void> {
  const pool = createPool({ connectionString, max: 1, applicationName, log: () => {} });
  try {
    await runMigrations({ pgPool: pool, schema: WORKER_SCHEMA, logger: new Logger(() => () => {}) });
  } finally {
    await pool.end();
  }
}
