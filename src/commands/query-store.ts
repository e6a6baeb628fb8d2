import { parseQueryStoreWords, runQueryStore } from "../query-store/command.ts";
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
      if (!(error instanceof QueryStoreError)) throw error;
      for (const fault of error.faults) say(`FAULT: ${fault}`);
      return 1;
    }
  },
};
