import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { migrate } from "../../src/db/migrate.ts";
import { type LocalPostgres, startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { freePort } from "./redis.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Of the test run's PostgreSQL; ends in "/", for the name of a database to follow. */
    pgUrl: string;
    /** The database with the project's migrations that each test file gets a copy of. */
    template: string;
  }
}

const TEMPLATE = "outbox_template";
const PREFIX = "outbox-test-";

/** One PostgreSQL for the whole run, made for speed: what it holds is worth nothing after the tests. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  removeAbandonedRuns();
  const root = fs.mkdtempSync(path.join(os.tmpdir(), `${PREFIX}${process.pid}-`));
  // The server may run as another user than we do, and has to get to its folder.
  fs.chmodSync(root, 0o755);
  let postgres: LocalPostgres | undefined;
  const cleanUpNow = () => {
    postgres?.stopNow();
    waitUntilGone(path.join(root, "data", "postmaster.pid"));
    remove(root);
  };
  // Ctrl-C, SIGTERM or a failure in here ends the run without a teardown.
  process.once("exit", cleanUpNow);

  postgres = await start(path.join(root, "data"));
  await makeTemplate(postgres);
  project.provide("pgUrl", postgres.url(""));
  project.provide("template", TEMPLATE);

  return async () => {
    await postgres.stop("immediate");
    process.removeListener("exit", cleanUpNow);
    remove(root);
  };
}

function start(dataDir: string): Promise<LocalPostgres> {
  const login = { user: "outbox", password: "outbox", database: "postgres" };
  const settings = {
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    autovacuum: "off",
    max_connections: "300",
    wal_level: "logical",
    max_wal_senders: "20",
    max_replication_slots: "50",
  };
  const initdbFlags = ["--no-sync", "--no-data-checksums"];
  // Between asking for a free port and using it, someone else may take it.
  const attempt = async (left: number): Promise<LocalPostgres> => {
    try {
      return await startLocalPostgres({ dataDir, port: await freePort(), ...login, settings, initdbFlags });
    } catch (error) {
      if (left === 0 || !/^Port /.test((error as Error).message)) throw error;
      return await attempt(left - 1);
    }
  };
  return attempt(3);
}

async function makeTemplate(postgres: LocalPostgres): Promise<void> {
  const client = new pg.Client(postgres.url());
  await client.connect();
  try {
    await client.query(`create database ${TEMPLATE}`);
    await migrate({ connectionString: postgres.url(TEMPLATE), log: () => {} });
    await client.query(`alter database ${TEMPLATE} with is_template true allow_connections false`);
  } finally {
    await client.end();
  }
}

/** A run that was killed with -9 leaves its server behind; the number in the folder's name says that it is gone. */
function removeAbandonedRuns(): void {
  for (const name of fs.readdirSync(os.tmpdir())) {
    const pid = Number(new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1]);
    if (!pid || isRunning(pid)) continue;
    const root = path.join(os.tmpdir(), name);
    try {
      const file = path.join(root, "data", "postmaster.pid");
      const server = Number.parseInt(fs.readFileSync(file, "utf8"), 10);
      if (commandOf(server).includes(root)) {
        process.kill(server, "SIGQUIT");
        waitUntilGone(file);
      }
    } catch {
      // No server file, or no such process any more: nothing to stop.
    }
    remove(root);
  }
}

/** Without the event loop, which an `exit` handler no longer has. The server removes this file last. */
function waitUntilGone(file: string): void {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (let waited = 0; fs.existsSync(file) && waited < 2_000; waited += 10) Atomics.wait(nap, 0, 0, 10);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function commandOf(pid: number): string {
  return execFileSync("ps", ["-ww", "-o", "args=", "-p", String(pid)], { encoding: "utf8" });
}

function remove(folder: string): void {
  try {
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  } catch {
    // A server on its way out still writes there, or it is another user's: the next run tries again.
  }
}
