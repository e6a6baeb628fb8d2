import { migrate } from "../db/migrate.ts";
import { throughOutages } from "../db/wait-for-database.ts";
import type { Command } from "./command.ts";

/** Brings the database up to date, and ends. */
export const migrateCommand: Command = {
  relays: false,
  async run({ databaseUrl: connectionString, logs, signal }) {
    const log = logs.part("database");
    await throughOutages({ connectionString, log: (message) => log.warn(message), signal }, () =>
      migrate({ connectionString, log: (message) => log.info(message) }),
    );
    log.info("the database is up to date");
    return 0;
  },
};
