import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { isOutage } from "./outage.ts";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const REPORT_EVERY_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;

/** The server has answered, and waiting will not make the answer better; the message says what to put right. */
export class DatabaseUnusableError extends Error {
  override readonly name = "DatabaseUnusableError";
}

export interface WaitForDatabaseOptions {
  readonly connectionString: string;
  readonly log: (message: string) => void;
  /** Aborting rejects with the signal's reason. */
  readonly signal: AbortSignal;
}

/**
 * Returns when the database answers a query; waits for as long as that takes.
 *
 * @throws DatabaseUnusableError when it refuses us: wrong password, no such database, TLS.
 */
export async function waitForDatabase({
  connectionString,
  log,
  signal,
}: WaitForDatabaseOptions): Promise<void> {
  const database = describeDatabase(connectionString);
  const start = performance.now();
  let reported: number | undefined;
  for (let delay = FIRST_PAUSE_MS; ; delay = Math.min(delay * 2, LONGEST_PAUSE_MS)) {
    signal.throwIfAborted();
    try {
      await knock(connectionString, signal);
      break;
    } catch (error) {
      signal.throwIfAborted();
      if (!isOutage(error)) throw unusable(database, error);
      const now = performance.now();
      if (reported === undefined || now - reported >= REPORT_EVERY_MS) {
        reported = now;
        log(`Waiting for Postgres at ${database}: ${reasonOf(error)}`);
      }
    }
    await pause(delay, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  if (reported !== undefined) {
    log(`Postgres at ${database} answers, after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
}

/**
 * Does work that an outage may cut off anywhere, and that may be begun again, until it is done.
 *
 * @throws what the work throws, unless it is an outage; DatabaseUnusableError as `waitForDatabase` does.
 */
export async function throughOutages<T>(options: WaitForDatabaseOptions, work: () => Promise<T>): Promise<T> {
  for (;;) {
    await waitForDatabase(options);
    try {
      return await work();
    } catch (error) {
      options.signal.throwIfAborted();
      if (!isOutage(error)) throw error;
      options.log(`Postgres went away: ${reasonOf(error)}; trying again`);
    }
    await pause(FIRST_PAUSE_MS, undefined, { signal: options.signal }).catch(() => {});
  }
}

/** Where it is, for people: host:port/database, as node-postgres would connect; never the password. */
export function describeDatabase(connectionString: string): string {
  const { host, port, database, user } = new Client({ connectionString });
  return `${host}:${port}/${database ?? user ?? ""}`;
}

async function knock(connectionString: string, signal: AbortSignal): Promise<void> {
  const client = new Client({
    connectionString,
    application_name: "outbox-wait",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: CONNECT_TIMEOUT_MS,
  });
  client.on("error", () => {}); // the query that fails says it
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort);
  const answer = client.connect().then(() => client.query("select 1"));
  try {
    await Promise.race([answer, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    answer.catch(() => {}); // its failure is old news after an abort
    void client.end(); // a handshake under way ends with its own timeout; nobody need wait for it
  }
}

function unusable(database: string, error: unknown): DatabaseUnusableError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const advice =
    code === "3D000"
      ? "Create the database, or correct its name."
      : code === "28P01" || code === "28000"
        ? "Correct the user or the password, or what pg_hba.conf allows."
        : "Waiting would not help.";
  return new DatabaseUnusableError(`Postgres at ${database} cannot be used: ${reasonOf(error)}. ${advice}`, {
    cause: error,
  });
}

/** Node's AggregateError for the two addresses of localhost has no message of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
