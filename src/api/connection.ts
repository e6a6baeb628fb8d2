import pg from "pg";
import type { ApiDependencies } from "./dependencies.ts";
import { ProblemError } from "./problem.ts";

export type Query = <Row extends pg.QueryResultRow>(
  text: string,
  values: readonly unknown[],
  deadline?: Deadline,
) => Promise<Row[]>;

export interface Deadline {
  readonly ms: number;
  readonly missed: () => ProblemError;
}

/** A frozen or unreachable Postgres raises no error of its own: without a deadline the client would hang with it. */
const PROMPT: Deadline = {
  ms: 2_000,
  missed: () => new ProblemError("database-unavailable", "It did not answer within 2 s. Ask again shortly."),
};

/** For a question without an index of its own, which may look through much; `advice` says how to ask for less. */
export function patient(advice: string): Deadline {
  return {
    ms: 10_000,
    missed: () => new ProblemError("query-too-slow", `It took longer than 10 s. ${advice}`),
  };
}

/**
 * Runs `work` on one connection of the pool. A connection on which a query failed otherwise than by Postgres' word (that missed its
 * deadline, say) is closed, not reused; `usable` tells.
 */
export async function onConnection<T>(
  pool: ApiDependencies["pool"],
  work: (query: Query, usable: () => boolean) => Promise<T>,
): Promise<T> {
  const client = await connect(pool);
  let usable = true;
  const query: Query = async (text, values, deadline = PROMPT) => {
    try {
      const answered: pg.QueryResult | pg.QueryResult[] = await within(
        deadline,
        client.query(text, [...values]),
      );
      // Of several statements in one, the last is asked for its rows.
      return [answered].flat().at(-1)?.rows ?? [];
    } catch (error) {
      usable &&= error instanceof pg.DatabaseError;
      throw error;
    }
  };
  try {
    return await work(query, () => usable);
  } finally {
    client.release(!usable);
  }
}

/** Whoever has it locked may take long: that is told at once, before our own deadline would say the database is away. */
const BEGIN = "begin; set local lock_timeout = '1500ms'";

/** What has to be read to have seen a transaction: the place in the log behind its commit. In one go, it costs nothing. */
const COMMIT_AND_TELL = "commit; select pg_current_wal_insert_lsn() as lsn";

/** Runs `work` in one transaction of its own: committed when it returns, rolled back when it throws. */
export async function inTransaction<T>(
  pool: ApiDependencies["pool"],
  work: (query: Query) => Promise<T>,
): Promise<T> {
  return (await transaction(pool, work, "commit")).result;
}

/** The same on the primary; and the place in its log behind the commit, as a pg_lsn. */
export async function inWriteTransaction<T>(
  pool: ApiDependencies["pool"],
  work: (query: Query) => Promise<T>,
): Promise<{ readonly result: T; readonly lsn: string | undefined }> {
  const { result, committed } = await transaction(pool, work, COMMIT_AND_TELL);
  return { result, lsn: committed[0]?.lsn };
}

function transaction<T>(pool: ApiDependencies["pool"], work: (query: Query) => Promise<T>, commit: string) {
  return onConnection(pool, async (query, usable) => {
    await query(BEGIN, []);
    try {
      const result = await work(query);
      return { result, committed: await query<{ lsn: string }>(commit, []) };
    } catch (error) {
      // Closing the connection rolls back too.
      if (usable()) await query("rollback", []);
      throw error;
    }
  });
}

async function connect(pool: ApiDependencies["pool"]): Promise<pg.PoolClient> {
  let late = false;
  const connected = pool.connect().then((client) => {
    if (late) client.release();
    return client;
  });
  const missed = () => {
    late = true;
    return PROMPT.missed();
  };
  try {
    return await within({ ms: PROMPT.ms, missed }, connected);
  } catch (error) {
    // The pool has a deadline of its own, which may be the first to pass.
    if (pool.full)
      throw new ProblemError("overloaded", "No connection was free within 2 s. Ask again shortly.");
    throw error;
  }
}

async function within<T>(deadline: Deadline, work: Promise<T>): Promise<T> {
  const { promise: missed, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(deadline.missed()), deadline.ms);
  try {
    return await Promise.race([work, missed]);
  } finally {
    clearTimeout(timer);
  }
}
