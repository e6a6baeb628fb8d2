import { resolve } from "node:path";
import { Client } from "pg";
import { isOutage } from "../db/outage.ts";
import { type LocalPostgres, type LocalPostgresOptions, startLocalPostgres } from "./local-postgres.ts";

/** The database of a start with nothing configured. Other processes may share it: whoever stops last stops it. */
export interface EmbeddedPostgres {
  url(): string;
  /** Resolves when it is down, or known to be in use by another process. */
  stop(): Promise<void>;
  /** The same at once, without a checkpoint and without waiting for its end: for a second Ctrl-C. */
  stopNow(): Promise<void>;
}

/** Each user of the server holds this lock with others; whoever gets it alone is the last. */
const USE = "pg_catalog.hashtextextended('outbox-relayer: use of the built-in PostgreSQL', 0)";
const TIMEOUT_MS = 2_000;
const STARTS = 5;

export async function startEmbeddedPostgres(
  { dataDir, port }: { readonly dataDir: string; readonly port: number },
  root: string,
): Promise<EmbeddedPostgres> {
  const { postgres, user } = await startAndUse({
    dataDir: resolve(root, dataDir),
    port,
    user: "outbox",
    password: "outbox",
    database: "outbox",
  });
  let asked: Promise<boolean> | undefined;
  const isLast = () => {
    asked ??= leave(user);
    return asked;
  };
  return {
    url: () => postgres.url(),
    async stop() {
      if (await isLast()) await postgres.stop();
      await user.end();
    },
    async stopNow() {
      if (await isLast()) postgres.stopNow();
    },
  };
}

async function startAndUse(
  options: LocalPostgresOptions,
): Promise<{ readonly postgres: LocalPostgres; readonly user: Client }> {
  for (let start = 1; ; start += 1) {
    try {
      const postgres = await startLocalPostgres(options);
      return { postgres, user: await use(postgres.url()) };
    } catch (error) {
      // Its last user was just stopping it.
      if (start === STARTS || !isOutage(error)) throw error;
    }
  }
}

/** The lock is the session's: a process that is killed uses nothing any more. */
async function use(connectionString: string): Promise<Client> {
  const client = new Client({
    connectionString,
    application_name: "outbox-embedded",
    connectionTimeoutMillis: TIMEOUT_MS,
  });
  client.on("error", () => {}); // the next query says it
  try {
    await client.connect();
    await client.query(`select pg_catalog.pg_advisory_lock_shared(${USE})`);
    return client;
  } catch (error) {
    client.end().catch(() => {});
    throw error;
  }
}

/** Was that the last user? From then on the lock keeps new ones waiting. A server that does not answer is of no use to anyone. */
async function leave(user: Client): Promise<boolean> {
  const ask = (text: string) =>
    user.query<{ alone: boolean }>({ text, query_timeout: TIMEOUT_MS } as { text: string });
  try {
    await ask(`select pg_catalog.pg_advisory_unlock_shared(${USE})`);
    const { rows } = await ask(`select pg_catalog.pg_try_advisory_lock(${USE}) as alone`);
    return rows[0]?.alone === true;
  } catch {
    return true;
  }
}
