import { execFile, spawnSync } from "node:child_process";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { thisHost } from "./host.ts";
import { LocalPostgresError } from "./local-postgres-error.ts";
import { type Account, serverAccount } from "./postgres-account.ts";
import { checkFolder, databaseFolder, makeFolder } from "./postgres-folder.ts";
import { ensureDatabase } from "./postgres-login.ts";
import { childOptions, findPrograms, type Programs } from "./postgres-programs.ts";
import { findServer, isServerOf, type RunningServer, serverGone } from "./postgres-running.ts";
import { startServer } from "./postgres-server.ts";

const run = promisify(execFile);

export interface LocalPostgresOptions {
  /** Kept between runs; made if missing. */
  readonly dataDir: string;
  /** On 127.0.0.1. A server that already runs on the folder keeps the port it has. */
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Made if missing. */
  readonly database: string;
  /** Server settings, over the ones of the data folder: `{ fsync: "off" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly initdbFlags?: readonly string[];
}

export interface LocalPostgres {
  /** A connection URL; of the database given at the start unless another is named. */
  url(database?: string): string;
  /** True when the server was running already: left by a killed process, or in use by another one. */
  readonly attached: boolean;
  readonly pid: number;
  readonly port: number;
  /** Resolves when it is down. `fast` ends sessions and writes a checkpoint; `immediate` leaves it to recover. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
  /** Tells it to go down at once and returns without waiting: for a second Ctrl-C, or an `exit` handler. */
  stopNow(): void;
}

/**
 * A real PostgreSQL of one's own, from npm: makes the data folder if it is missing, and starts the server on it, or
 * attaches to the one that runs there. It outlives this process unless stopped, and loses nothing when killed.
 *
 * @throws {LocalPostgresError} when something about the machine forbids it, with a sentence that says what to do.
 */
export async function startLocalPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const host = thisHost();
  const dataDir = path.resolve(options.dataDir);
  const account = await serverAccount(host, dataDir);
  const folder = databaseFolder(dataDir);
  const programs = await findPrograms(host, account, `${folder}.programs`);
  checkFolder(folder, host, account, programs.major);
  await makeFolder(folder, programs, account, { ...options, initdbFlags: options.initdbFlags ?? [] });

  const { server, attached } = await attachOrStart(folder, programs, account, options);
  await ensureDatabase(server.port, options, options.database);

  const login = `${encodeURIComponent(options.user)}:${encodeURIComponent(options.password)}`;
  const stopArguments = (mode: string) => ["stop", "-D", folder, "-m", mode, "-W"];
  return {
    url: (database = options.database) =>
      `postgres://${login}@127.0.0.1:${server.port}/${encodeURIComponent(database)}`,
    attached,
    pid: server.pid,
    port: server.port,
    async stop(mode = "fast") {
      if (!isServerOf(folder, server)) return;
      await run(programs.pg_ctl, stopArguments(mode), childOptions(account)).catch(() => {
        // It ended in the meantime, or does not heed: the wait shows which.
      });
      await serverGone(folder, server);
    },
    stopNow() {
      if (!isServerOf(folder, server)) return;
      spawnSync(programs.pg_ctl, stopArguments("immediate"), { ...childOptions(account), stdio: "ignore" });
    },
  };
}

/** Several processes may do this at the same time: one server comes of it, and everyone has it. */
async function attachOrStart(
  folder: string,
  programs: Programs,
  account: Account | undefined,
  options: LocalPostgresOptions,
): Promise<{ server: RunningServer; attached: boolean }> {
  // A few seconds' worth: a killed server's last session takes a moment to notice, and until then holds the folder.
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const found = await findServer(folder, options);
    if (found.server) return { server: found.server, attached: true };
    const server = await startServer(
      folder,
      programs,
      account,
      options.port,
      options.settings ?? {},
      found.impostor,
    );
    if (server) return { server, attached: false };
    await delay(100);
  }
  throw new LocalPostgresError(
    `Sessions of a killed PostgreSQL still hold the data folder ${folder}. End the processes named "postgres", ` +
      "or choose another folder with EMBEDDED_POSTGRES_DATA_DIR.",
  );
}
