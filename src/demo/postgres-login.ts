import pg from "pg";
import { codeOf, LocalPostgresError } from "./local-postgres-error.ts";

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** Makes the database unless it is there. */
export async function ensureDatabase(port: number, login: Login, database: string): Promise<void> {
  try {
    await withClient(port, login, "postgres", async (client) => {
      const found = await client.query("select from pg_catalog.pg_database where datname = $1", [database]);
      if (found.rowCount === 0) await client.query(`create database ${pg.escapeIdentifier(database)}`);
    });
  } catch (error) {
    // duplicate_database, or the unique index said so first: another process made it.
    if (!["42P04", "23505"].includes(codeOf(error))) throw error;
  }
}

/**
 * Opens one connection, and closes it whatever happens.
 *
 * @throws {LocalPostgresError} when the server does not take the password: it is the only way in, and always set by us.
 */
export async function withClient<Result>(
  port: number,
  login: Login,
  database: string,
  use: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port,
    user: login.user,
    password: login.password,
    database,
    ssl: false,
    connectionTimeoutMillis: 5_000,
    application_name: "outbox-relayer start",
  });
  client.on("error", () => {});
  try {
    await client.connect().catch((cause) => {
      throw codeOf(cause) === "28P01" ? wrongPassword(login, cause) : cause;
    });
    return await use(client);
  } finally {
    await client.end();
  }
}

function wrongPassword(login: Login, cause: unknown): LocalPostgresError {
  return new LocalPostgresError(
    `The data folder of the built-in PostgreSQL was made with another user or password than "${login.user}" has now. ` +
      "Give the ones it was made with, or choose another folder with EMBEDDED_POSTGRES_DATA_DIR.",
    { cause },
  );
}
