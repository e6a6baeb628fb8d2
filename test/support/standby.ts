import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { type LocalPostgres, startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { freePort } from "./redis.ts";

const run = promisify(execFile);

export interface StandbyServers {
  /** Of the migrated database, on the primary and on its standby. */
  readonly primaryUrl: string;
  readonly standbyUrl: string;
  stopStandby(): Promise<void>;
  startStandby(): Promise<void>;
}

const LOGIN = { user: "outbox", password: "secret-of-the-test", database: "postgres" };
const COMMON = { ...LOGIN, initdbFlags: ["--no-sync"] };
const DATABASE = "outbox";

/** A primary and a hot standby that streams from it, for one test file. */
export function useStandby(): StandbyServers {
  const folder = join(tmpdir(), `outbox-test-standby-${randomUUID()}`);
  const folders = { primary: `${folder}-primary`, standby: `${folder}-standby` };
  let ports: { readonly primary: number; readonly standby: number };
  let primary: LocalPostgres;
  let standby: LocalPostgres;

  const startPrimary = () =>
    startLocalPostgres({
      ...COMMON,
      dataDir: folders.primary,
      port: ports.primary,
      // The standby may be away for as long as a test takes.
      settings: { fsync: "off", wal_keep_size: "256MB", autovacuum: "off" },
    });

  async function startStandby(): Promise<void> {
    standby = await startLocalPostgres({
      ...COMMON,
      dataDir: folders.standby,
      port: ports.standby,
      settings: {
        fsync: "off",
        primary_conninfo: `host=127.0.0.1 port=${ports.primary} user=${LOGIN.user} password=${LOGIN.password}`,
        wal_retrieve_retry_interval: "100ms",
      },
    });
  }

  beforeAll(async () => {
    ports = { primary: await freePort(), standby: await freePort() };
    primary = await startLocalPostgres({
      ...COMMON,
      database: DATABASE,
      dataDir: folders.primary,
      port: ports.primary,
      settings: { fsync: "off" },
    });
    await migrate({ connectionString: primary.url(DATABASE), log: () => {} });
    // A copy of a server that is at rest needs no backup.
    await primary.stop();
    await run("cp", ["-a", folders.primary, folders.standby]);
    await writeFile(join(folders.standby, "standby.signal"), "");
    primary = await startPrimary();
    await startStandby();
  });
  afterAll(async () => {
    await standby?.stop("immediate");
    await primary?.stop("immediate");
    for (const one of Object.values(folders)) await rm(one, { recursive: true, force: true });
  });

  return {
    get primaryUrl() {
      return primary.url(DATABASE);
    },
    get standbyUrl() {
      return standby.url(DATABASE);
    },
    stopStandby: () => standby.stop(),
    startStandby,
  };
}
