import { DatabaseError } from "pg";
import { isOutage } from "../db/outage.ts";
import { parseQueryStoreWords, runQueryStore } from "../query-store/command.ts";
import { messageOf } from "../query-store/database.ts";
import { QueryStoreError } from "../query-store/query-store-error.ts";
import type { Command } from "./command.ts";

/** Makes, shows or drops the query store; what is wrong ends it with 1. */
export const queryStoreCommand: Command = {
  relays: false,
  prints: true,
  faultIn(words) {
    const asked = parseQueryStoreWords(words);
    return "fault" in asked ? asked.fault : undefined;
  },
  async run({ config, databaseUrl, print }, words) {
    const asked = parseQueryStoreWords(words);
    if ("fault" in asked) throw new QueryStoreError([asked.fault]);
    const say = (line: string) => print(`${line}\n`);
    try {
      await runQueryStore({
        asked,
        databaseUrl,
        queryDatabaseUrl: config.queryDatabaseUrl,
        primaryUrl: config.queryStore.primaryUrl,
        maxLagMs: config.queryStore.maxLagMs,
        say,
      });
      return 0;
    } catch (error) {
      for (const fault of faultsIn(error)) say(`FAULT: ${fault}`);
      return 1;
    }
  },
};

/** What Postgres refuses, and that it goes away, is the person's to put right; the rest is a bug. */
function faultsIn(error: unknown): readonly string[] {
  if (error instanceof QueryStoreError) return error.faults;
  if (isOutage(error))
    return [`a database went away: ${messageOf(error)}. The same command goes on once it is back`];
  if (!(error instanceof DatabaseError)) throw error;
  const { message, detail, hint, code } = error;
  return [[`Postgres refuses it: ${message} (${code})`, detail, hint].filter(Boolean).join(". ")];
}
