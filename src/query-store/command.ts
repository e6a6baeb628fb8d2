import { type Database, openDatabase } from "./database.ts";
import { dropLeftSlot, dropQueryStore } from "./drop.ts";
import { initQueryStore } from "./init.ts";
import { QueryStoreError } from "./query-store-error.ts";
import { queryStoreStatus } from "./status.ts";

/** What `query-store …` asks for. */
export interface Asked {
  readonly action: "init" | "status" | "drop";
  /** drop: the tables stay. */
  readonly keepData: boolean;
  /** drop: history that only the store has goes too. */
  readonly loseHistory: boolean;
  /** drop: of a store that is gone for good. */
  readonly slot: string | undefined;
}

const USAGE = "query-store takes init, status, or drop [--keep-data | --yes | --slot NAME]";

/** Reads the words after `query-store`. */
export function parseQueryStoreWords(words: readonly string[]): Asked | { readonly fault: string } {
  const [action, flag, value, ...others] = words;
  const asked = { keepData: false, loseHistory: false, slot: undefined };
  if ((action === "init" || action === "status") && flag === undefined) return { ...asked, action };
  if (action !== "drop" || others.length > 0) return { fault: USAGE };
  if (flag === "--slot" && value !== undefined) return { ...asked, action, slot: value };
  if (value !== undefined) return { fault: USAGE };
  if (flag === undefined) return { ...asked, action };
  if (flag === "--keep-data") return { ...asked, action, keepData: true };
  return flag === "--yes" ? { ...asked, action, loseHistory: true } : { fault: USAGE };
}

export interface QueryStoreOptions {
  readonly asked: Asked;
  readonly databaseUrl: string;
  readonly queryDatabaseUrl: string | undefined;
  /** How the store's server reaches the primary; undefined: by `databaseUrl`. */
  readonly primaryUrl: string | undefined;
  readonly maxLagMs: number;
  readonly say: (line: string) => void;
}

/**
 * Does what `query-store init|status|drop` asks for.
 *
 * @throws QueryStoreError with what is wrong or in the way, a sentence each.
 */
export async function runQueryStore(options: QueryStoreOptions): Promise<void> {
  const { asked, databaseUrl, queryDatabaseUrl, say } = options;
  const primaryUrl = options.primaryUrl ?? databaseUrl;

  const opened: Database[] = [];
  async function open(what: string, url: string): Promise<Database> {
    const database = await openDatabase(what, url);
    opened.push(database);
    return database;
  }
  try {
    if (asked.slot !== undefined)
      return await dropLeftSlot(await open("the primary", databaseUrl), asked.slot, say);
    if (queryDatabaseUrl === undefined)
      throw new QueryStoreError(["QUERY_DATABASE_URL is not set: it names the query store"]);
    const store = await open("the query store", queryDatabaseUrl).catch((error: unknown) =>
      tellLeft(error, asked, () => open("the primary", databaseUrl)),
    );
    if (asked.action === "drop") {
      const primary = await open("the primary", databaseUrl).catch((error: unknown) => {
        if (error instanceof QueryStoreError) return error;
        throw error;
      });
      return await dropQueryStore({ ...asked, primary, store, say });
    }
    const primary = await open("the primary", databaseUrl);
    if (asked.action === "init") return await initQueryStore({ primary, store, primaryUrl, say });
    const faults = await queryStoreStatus({ primary, store, maxLagMs: options.maxLagMs, say });
    if (faults.length > 0) throw new QueryStoreError(faults);
  } finally {
    for (const database of opened) await database.close();
  }
}

/** A store that is away leaves its slot, which goes on keeping WAL. */
async function tellLeft(
  error: unknown,
  { action }: Asked,
  openPrimary: () => Promise<Database>,
): Promise<never> {
  if (action !== "drop" || !(error instanceof QueryStoreError)) throw error;
  const primary = await openPrimary();
  const slots = await primary.rows<{ slot_name: string; holder: string }>(
    "select slot_name, holder from outbox.replication_slots where kind = 'logical'",
  );
  throw new QueryStoreError([
    ...error.faults,
    ...slots.map(
      ({ slot_name, holder }) =>
        `The primary has the slot ${slot_name} (${holder}). If its store is gone for good: npm run query-store -- drop --slot ${slot_name}`,
    ),
  ]);
}
