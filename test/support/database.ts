import { randomBytes } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, inject } from "vitest";

export interface TestDatabase {
  readonly url: string;
  /** Also ends the sessions that a test left open. */
  readonly drop: () => Promise<void>;
}

export interface CreateDatabaseOptions {
  /** A bare database, without the project's migrations. */
  readonly empty?: boolean;
}

/** A database of a test's own, migrated unless it is to be empty. */
export async function createDatabase({ empty = false }: CreateDatabaseOptions = {}): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await asAdmin(`create database ${name} template ${empty ? "template0" : inject("template")}`);
  return {
    url: `${inject("pgUrl")}${name}`,
    drop: () => asAdmin(`drop database if exists ${name} with (force)`),
  };
}

/** A migrated database for the test file that calls this at its top; `url` and `pool` are there once its tests run. */
export function useDatabase(): { readonly url: string; readonly pool: pg.Pool } {
  let database: TestDatabase | undefined;
  let pool: pg.Pool | undefined;

  beforeAll(async () => {
    database = await createDatabase();
    pool = new pg.Pool({ connectionString: database.url });
    // Tests end sessions on purpose; without a listener, that would take the whole file with it.
    pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
  });
  afterAll(async () => {
    // Not awaited: for a client that a failed test never released it would wait for ever. The drop ends that one.
    void pool?.end();
    await database?.drop();
  });

  return {
    get url() {
      return present(database).url;
    },
    get pool() {
      return present(pool);
    },
  };
}

function present<Value>(value: Value | undefined): Value {
  if (value === undefined)
    throw new Error("useDatabase(): the database is there only while the file's tests run");
  return value;
}

async function asAdmin(statement: string): Promise<void> {
  const client = new pg.Client(`${inject("pgUrl")}postgres`);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
