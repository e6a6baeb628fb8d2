import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll } from "vitest";
import { type LocalPostgres, startLocalPostgres } from "../../src/demo/local-postgres.ts";
import type { PrivatePostgres } from "./private-postgres.ts";
import { freePort } from "./redis.ts";

export interface Standby {
  /** Of a database that the primary had when the standby was made. */
  url(database: string): string;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A hot standby of a server of the same test file, with a slot of this name on it. Its first data are copied while the primary is
 * stopped, for PostgreSQL from npm has no pg_basebackup; what follows streams.
 */
export function useStandby(
  primary: PrivatePostgres,
  slot: string,
  makeSlot: () => Promise<unknown>,
): Standby {
  const dataDir = join(tmpdir(), `outbox-test-standby-${randomUUID()}`);
  let server: LocalPostgres | undefined;
  let port: number;

  async function start(): Promise<void> {
    const { username, password, port: primaryPort } = new URL(primary.url("postgres"));
    server = await startLocalPostgres({
      dataDir,
      port,
      user: username,
      password,
      database: "postgres",
      settings: {
        fsync: "off",
        primary_conninfo: `host=127.0.0.1 port=${primaryPort} user=${username} password=${password}`,
        primary_slot_name: slot,
        wal_receiver_status_interval: "1s",
        wal_retrieve_retry_interval: "100ms",
      },
    });
  }

  beforeAll(async () => {
    await primary.stop();
    // -a: the server may run as another user than we do.
    await promisify(execFile)("cp", ["-a", primary.dataDir, dataDir]);
    await primary.start();
    // After the copy, which would have it too.
    await makeSlot();
    await writeFile(join(dataDir, "standby.signal"), "");
    port = await freePort();
    await start();
  });
  afterAll(async () => {
    await server?.stop("immediate");
    await rm(dataDir, { recursive: true, force: true });
  });

  return {
    url: (database) => (server as LocalPostgres).url(database),
    start,
    async stop() {
      await server?.stop("immediate");
    },
  };
}
