import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type QueryResultRow } from "pg";
import { afterAll, beforeAll } from "vitest";
import { type LocalPostgres, startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { freePort } from "./redis.ts";

export interface PrivatePostgres {
  /** Where it keeps its data; a free port, once the tests run. */
  readonly dataDir: string;
  readonly port: number;
  /** Of a database that is there. */
  url(database: string): string;
  /** Makes an empty database and returns its URL. */
  createDatabase(): Promise<string>;
  /** `fast` ends sessions with 57P01, `immediate` with 57P02 or a cut. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
  start(): Promise<void>;
}

/** A server that belongs to one test file, which may stop and start it as it likes; its port stays the same. */
export function usePrivatePostgres(settings: Readonly<Record<string, string>> = {}): PrivatePostgres {
  const dataDir = join(tmpdir(), `outbox-test-db-${randomUUID()}`);
  let port: number;
  let server: LocalPostgres;

  async function start(): Promise<void> {
    server = await startLocalPostgres({
      dataDir,
      port,
      user: "outbox",
      password: "secret-of-the-test",
      database: "postgres",
      settings: { fsync: "off", ...settings },
      initdbFlags: ["--no-sync"],
    });
  }

  beforeAll(async () => {
    port = await freePort();
    await start();
  });
  afterAll(async () => {
    await server.stop("immediate");
    await rm(dataDir, { recursive: true, force: true });
  });

  return {
    dataDir,
    get port() {
      return port;
    },
    url: (database) => server.url(database),
    async createDatabase() {
      const name = `db_${randomUUID().replaceAll("-", "")}`;
      await queryOnce(server.url("postgres"), `create database ${name}`);
      return server.url(name);
    },
    stop: (mode) => server.stop(mode),
    start,
  };
}

/** One query on a connection of its own. */
export async function queryOnce<R extends QueryResultRow>(
  url: string,
  text: string,
  values?: unknown[],
): Promise<R[]> {
  const client = new Client({ connectionString: url, application_name: "test" });
  await client.connect();
  try {
    return (await client.query<R>(text, values)).rows;
  } finally {
    await client.end();
  }
}

/** The processes of our sessions, by their application_name. */
export async function backends(url: string, applicationName: string): Promise<number[]> {
  const rows = await queryOnce<{ pid: number }>(
    url,
    "select pid from pg_stat_activity where application_name = $1 and datname = current_database()",
    [applicationName],
  );
  return rows.map(({ pid }) => pid);
}

export async function terminate(url: string, applicationName: string): Promise<void> {
  await queryOnce(
    url,
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()",
    [applicationName],
  );
}
