/*
 * npm run migrate:commit -- "What the change is for"
 *
 * Turns migrations/current.sql (or the files of migrations/current/) into the next file of migrations/committed/, with what it
 * includes from migrations/fixtures written out. The change is first tried twice from nothing, on a Postgres that is thrown
 * away afterwards, and in a copy of this folder: when it fails, nothing here has changed.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmod, copyFile, cp, readdir, rm, rmdir } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { commit, Logger } from "graphile-migrate";
import { Client } from "pg";
import { readMigrationSettings } from "../src/db/migration-settings.ts";
import { startLocalPostgres } from "../src/demo/local-postgres.ts";

async function commitCurrent(message: string, otherFolder: string | undefined): Promise<string> {
  const settings = await readMigrationSettings();
  const folder = otherFolder ?? settings.migrationsFolder;
  // Not mkdtemp: the server's data may not lie below a folder that only we can read.
  const scratch = join(tmpdir(), `outbox-commit-${randomUUID()}`);
  const copy = join(scratch, "migrations");
  await cp(folder, copy, { recursive: true });
  // Beside current.sql the library takes even an empty current/ for a mistake.
  await rmdir(join(copy, "current")).catch(() => {});
  const postgres = await startLocalPostgres({
    dataDir: join(scratch, "data"),
    port: await freePort(),
    user: "outbox",
    password: "outbox",
    database: "outbox",
    settings: { fsync: "off" },
    initdbFlags: ["--no-sync"],
  }).catch(async (error: unknown) => {
    await rm(scratch, { recursive: true, force: true });
    throw error;
  });
  try {
    await withClient(postgres.url("postgres"), (client) => client.query("create database outbox_shadow"));
    await commit(
      {
        ...settings,
        migrationsFolder: copy,
        connectionString: postgres.url("outbox"),
        shadowConnectionString: postgres.url("outbox_shadow"),
        rootConnectionString: postgres.url("postgres"),
        logger: new Logger(() => (level, text) => level === "error" && console.error(text)),
      },
      message,
    );
    return await takeOver(copy, folder);
  } finally {
    await untilDisconnected(postgres.url("postgres"));
    await postgres.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Brings the new file and the emptied `current` from the copy. Returns the new file's path. */
async function takeOver(copy: string, folder: string): Promise<string> {
  const before = await readdir(join(folder, "committed"));
  const [added] = (await readdir(join(copy, "committed"))).filter((file) => !before.includes(file));
  if (added === undefined) throw new Error("graphile-migrate committed nothing.");
  await copyFile(join(copy, "committed", added), join(folder, "committed", added));
  await chmod(join(folder, "committed", added), 0o644); // the library makes it read-only, even for its own group
  for (const current of (await readdir(copy)).filter((name) => /^current(\.sql)?$/.test(name))) {
    await rm(join(folder, current), { recursive: true, force: true });
    await cp(join(copy, current), join(folder, current), { recursive: true });
  }
  return join(folder, "committed", added);
}

/** graphile-migrate's pools linger for 200 ms, and end the process when their server goes first. */
async function untilDisconnected(url: string): Promise<void> {
  await withClient(url, async (client) => {
    const others =
      "select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    while ((await client.query(others)).rowCount !== 0) await pause(50);
  });
}

async function withClient(url: string, use: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { folder: { type: "string" } },
});
const [message, ...rest] = positionals;
if (message === undefined || rest.length > 0) {
  throw new Error(
    'Say what the change is for, as one argument: npm run migrate:commit -- "Add the messages table"',
  );
}
console.log(`Committed ${await commitCurrent(message, values.folder)}`);
