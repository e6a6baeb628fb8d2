import { setTimeout as pause } from "node:timers/promises";
import { Logger } from "graphile-migrate";
import {
  _migrateMigrationSchema as createBookkeeping,
  type FileMigration,
  getAllMigrations,
  runCommittedMigration,
} from "graphile-migrate/dist/migration.js";
import { type ParsedSettings, parseSettings } from "graphile-migrate/dist/settings.js";
import { Client, type PoolClient, type QueryConfig } from "pg";
import { readMigrationSettings } from "./migration-settings.ts";
import { isOutage } from "./outage.ts";
import { migrateWorkerSchema, WORKER_SCHEMA } from "./worker-schema.ts";

/*
 * Why graphile-migrate's inner functions, and not its migrate(): that one keeps its books in the schema
 * `graphile_migrate`, whatever one asks for. An application that uses graphile-migrate in the same database would
 * make it take our migrations for done, and the other way round. It also throws when two processes start at once,
 * says nothing when the database is newer than the code, and ends the process when an idle connection breaks. Its inner
 * functions run on whatever client they are given, so they get one whose bookkeeping goes to a schema of ours.
 * The files, their hashes and `npm run migrate:commit` stay graphile-migrate's.
 */
const BOOKKEEPING = "outbox_migrate";
const APPLICATION_NAME = "outbox-migrate";
const SCHEMA = "outbox";
const POLL_MS = 100;
const PATIENCE_MS = 60_000;
const LOCK_TIMEOUT_MS = 2_000;
const LOCK_PAUSE_MS = 500;
const LOCK_TRIES = 60;
/** insufficient_privilege. */
const NO_RIGHT = "42501";
/** lock_not_available and deadlock_detected. */
const IN_USE = new Set(["55P03", "40P01"]);

/** Why the schema could not be brought up to date, as a sentence for the person who started us. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

export interface MigrateOptions {
  readonly connectionString: string;
  readonly log: (message: string) => void;
  /** Where `committed/` is; the project's own by default. */
  readonly folder?: string;
  /** How long another process may take over its migration before we give up, in milliseconds. */
  readonly patienceMs?: number;
}

/**
 * Brings the database up to date: one line in the log for each migration applied, none when there was nothing to do.
 * Any number of processes may call it at once. It needs a session of its own, so no transaction pooler.
 *
 * @throws MigrationError with a sentence, for what a person has to put right; an outage comes as node-postgres throws it.
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  const client = new Client({
    connectionString: options.connectionString,
    application_name: APPLICATION_NAME,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  // Without a listener, losing this connection between two queries would end the process; the next query says so anyway.
  client.on("error", () => {});
  try {
    await client.connect();
    await lockOrWait(client, options);
    const place = await whereWeAre(client);
    await applyPending(client, place, options);
    await explained(
      `The schema ${WORKER_SCHEMA} could not be brought up to date`,
      migrateWorkerSchema(options.connectionString, APPLICATION_NAME),
      ownerDoes(place),
    );
    await grantRoles(client, options);
  } finally {
    await client.end(); // frees the lock too
  }
}

interface Place {
  readonly database: string;
  readonly role: string;
  /** Of the schema outbox; null while there is none. */
  readonly owner: string | null;
  /** Whether we have the owner's rights. */
  readonly owns: boolean | null;
}

async function whereWeAre(client: Client): Promise<Place> {
  const { rows } = await client.query<Place>(
    `select current_database() as database, current_user as role, pg_catalog.pg_get_userbyid(nspowner) as owner, pg_catalog.pg_has_role(nspowner, 'usage') as owns
     from (select) as here
     left join pg_catalog.pg_namespace on nspname = $1`,
    [SCHEMA],
  );
  return rows[0] as Place;
}

/** What helps where a right is missing. */
function ownerDoes({ owner }: Place): string {
  if (owner === null) return "";
  return ` The schema ${SCHEMA} is owned by "${owner}": npm run migrate as that user, then start again.`;
}

async function applyPending(client: Client, place: Place, { folder, log }: MigrateOptions): Promise<void> {
  const { database, role } = place;
  const settings = await settingsFor(database, role, folder);

  const pending = await pendingMigrations(client, place, await readCommitted(settings));
  if (pending.length === 0) return;
  if (place.owns === false) {
    const files = pending.map(({ realFilename }) => realFilename).join(", ");
    throw new MigrationError(
      `The database is older than this version of the relayer, and "${role}" may not bring it up to date (${files}).${ownerDoes(place)}`,
    );
  }

  const session = withOwnBookkeeping(client);
  // A DBA's statement_timeout for the role is meant for queries, not for building an index on a large table.
  await client.query("set statement_timeout = 0");
  // Whoever waits for a lock on a table keeps all who come after waiting, producers too.
  await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await explained(`The schema ${BOOKKEEPING} could not be made`, createBookkeeping(session, settings));
  for (const migration of pending) {
    const start = performance.now();
    await explained(
      `Migration ${migration.realFilename} failed`,
      patiently(client, log, () => runCommittedMigration(session, settings, { database }, migration, "")),
    );
    log(`Migration ${migration.realFilename} applied in ${Math.round(performance.now() - start)} ms`);
  }
}

/** Roles that were missing when the migrations ran, as Graphile Worker's tables were, are granted what is theirs. */
async function grantRoles(client: Client, { log }: MigrateOptions): Promise<void> {
  const { rows } = await client.query<{ mine: boolean }>(
    `select pg_catalog.pg_has_role(proowner, 'usage') as mine
     from pg_catalog.pg_proc
     join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
     where nspname = $1 and proname = 'grant_roles'`,
    [SCHEMA],
  );
  if (!rows[0]?.mine) return;
  await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
  const { rows: left } = await explained(
    "The roles could not be granted what is theirs",
    patiently(client, log, () =>
      client.query<{ sentence: string }>(`select sentence from ${SCHEMA}.grant_roles() as sentence`),
    ),
  );
  for (const { sentence } of left) log(sentence);
}

/** A migration that finds a table in use gives way, and is tried again. */
async function patiently<T>(
  client: Client,
  log: (message: string) => void,
  migrateOnce: () => Promise<T>,
): Promise<T> {
  for (let left = LOCK_TRIES; ; left--) {
    try {
      return await migrateOnce();
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (left === 1 || typeof code !== "string" || !IN_USE.has(code)) throw error;
      if (left === LOCK_TRIES) log("The tables are in use; waiting for a moment to migrate");
      await client.query("rollback");
      await pause(LOCK_PAUSE_MS);
    }
  }
}

/** What is committed and not yet applied, in order. Refuses a database that is not one of ours, or not of our time. */
async function pendingMigrations(
  client: Client,
  place: Place,
  committed: readonly FileMigration[],
): Promise<FileMigration[]> {
  const applied = await appliedMigrations(client, place);
  if (applied.length === 0 && place.owner !== null) throw foreignSchema(place.owner);

  const known = new Map(committed.map((migration) => [migration.filename, migration.hash]));
  const unknown = applied.filter(({ filename }) => !known.has(filename)).map(({ filename }) => filename);
  if (unknown.length > 0) {
    throw new MigrationError(
      `The database is newer than this version of the relayer: it has migrations that are unknown here (${unknown.join(", ")}). Start the newer version, or restore a database of this one's time.`,
    );
  }
  const changed = applied
    .filter(({ filename, hash }) => known.get(filename) !== hash)
    .map(({ filename }) => filename);
  if (changed.length > 0) {
    throw new MigrationError(
      `The database was made by other migrations than this version's: ${changed.join(", ")} was applied with another content. A committed migration is never edited; if this is a database for development, drop it.`,
    );
  }
  const done = new Set(applied.map(({ hash }) => hash));
  return committed.filter(({ hash }) => !done.has(hash));
}

interface AppliedMigration {
  readonly filename: string;
  readonly hash: string;
}

async function appliedMigrations(client: Client, place: Place): Promise<AppliedMigration[]> {
  // Through the catalogue, because "create … if not exists" asks for the right to create even when there is nothing to do.
  const { rowCount } = await client.query(
    "select from pg_catalog.pg_tables where schemaname = $1 and tablename = 'migrations'",
    [BOOKKEEPING],
  );
  if (rowCount === 0) return [];
  const { rows } = await explained(
    `The schema ${BOOKKEEPING} could not be read`,
    client.query<AppliedMigration>(`select filename, hash from ${BOOKKEEPING}.migrations order by filename`),
    `${ownerDoes(place)} And as a superuser: grant outbox_relayer to "${place.role}".`,
  );
  return rows;
}

function foreignSchema(owner: string): MigrationError {
  return new MigrationError(
    `The database has a schema named "${SCHEMA}" already (its owner is "${owner}"), and the relayer did not make it. Rename or drop it, or give the relayer a database in which the name is free.`,
  );
}

async function readCommitted(settings: ParsedSettings): Promise<FileMigration[]> {
  const committed = await explained("The committed migrations cannot be used", getAllMigrations(settings));
  if (committed.length === 0)
    throw new MigrationError(`There are no migrations in ${settings.migrationsFolder}/committed.`);
  return committed;
}

async function settingsFor(
  database: string,
  role: string,
  folder: string | undefined,
): Promise<ParsedSettings> {
  const shared = await readMigrationSettings();
  return parseSettings({
    ...shared,
    migrationsFolder: folder ?? shared.migrationsFolder,
    databaseOwner: role,
    // Only the database's name is read from it: the connection is ours.
    connectionString: `postgres://unused/${encodeURIComponent(database)}`,
    logger: new Logger(() => () => {}),
  });
}

/**
 * Polls instead of blocking: a blocked "select pg_advisory_lock()" holds a snapshot, for which a CREATE INDEX CONCURRENTLY
 * in the migration under way would wait for ever.
 */
async function lockOrWait(client: Client, { log, patienceMs = PATIENCE_MS }: MigrateOptions): Promise<void> {
  const deadline = performance.now() + patienceMs;
  for (let waited = false; ; waited = true) {
    const { rows } = await client.query<{ locked: boolean }>(
      "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('outbox-relayer: migrate', 0)) as locked",
    );
    if (rows[0]?.locked) return;
    if (!waited) log("Another process is migrating this database; waiting for it");
    if (performance.now() >= deadline) {
      throw new MigrationError(
        `Another process has been migrating this database for ${patienceMs / 1000} s (its application_name is outbox-migrate in pg_stat_activity). Look at what it waits for, then start again.`,
      );
    }
    await pause(POLL_MS);
  }
}

/**
 * The client that graphile-migrate sees. Its bookkeeping is the statements it sends as a string or under a name; a
 * migration's own text comes as an object without a name, and goes through as it is.
 */
function withOwnBookkeeping(client: Client): PoolClient {
  const ours = (text: string) => text.replace(/\bgraphile_migrate\b/g, BOOKKEEPING);
  const session = {
    // Makes the library skip its advisory lock, whose number every user of graphile-migrate shares: an application
    // that migrates at this moment would fail on it. We hold a lock of our own.
    __isMockClient: true,
    query: (query: string | QueryConfig, values?: unknown[]) => {
      if (typeof query === "string") return client.query(ours(query), values);
      return client.query(query.name === undefined ? query : { ...query, text: ours(query.text) });
    },
  };
  return session as unknown as PoolClient;
}

/** `help`: a further sentence where a right is missing. */
async function explained<T>(what: string, work: Promise<T>, help = ""): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isOutage(error)) throw error; // not the migration's fault: the caller may wait and start again
    const { message, code } =
      error instanceof Error ? (error as Error & { code?: unknown }) : { message: String(error) };
    throw new MigrationError(`${what}: ${message}${code === NO_RIGHT && help !== "" ? `.${help}` : ""}`, {
      cause: error,
    });
  }
}
