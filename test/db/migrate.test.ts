import { appendFile } from "node:fs/promises";
import { Logger, migrate as migrateApplication } from "graphile-migrate";
import { Client } from "pg";
import { describe, expect, it, onTestFinished } from "vitest";
import { MigrationError, migrate } from "../../src/db/migrate.ts";
import { isOutage } from "../../src/db/outage.ts";
import { backends, queryOnce, terminate, usePrivatePostgres } from "../support/private-postgres.ts";
import { eventually } from "./eventually.ts";
import { logLines } from "./log-lines.ts";
import { migrationsFolder } from "./migrations-folder.ts";

const postgres = usePrivatePostgres();

const FIRST = "create schema outbox; create table outbox.first (id int);";
const SECOND = "create table outbox.second (id int);";
/** Stops where the test says, which holds advisory lock 42 until the migration may go on. */
const HELD = `${FIRST} select pg_advisory_xact_lock(42);`;

/** Everything the database has been told, by file name. */
const applied = (url: string, books = "outbox_migrate") =>
  queryOnce<{ filename: string }>(url, `select filename from ${books}.migrations order by filename`).then(
    (rows) => rows.map(({ filename }) => filename),
  );

const schemas = (url: string) =>
  queryOnce<{ nspname: string }>(
    url,
    "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|public)' order by nspname",
  ).then((rows) => rows.map(({ nspname }) => nspname));

async function holdMigrations(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("select pg_advisory_lock(42)");
  return client;
}

const untilHeld = (url: string) =>
  eventually(() =>
    queryOnce(url, "select from pg_locks where locktype = 'advisory' and not granted and objid = 42"),
  ).toHaveLength(1);

const failure = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => expect.fail("it succeeded"),
    (error: Error) => error,
  );

describe("migrate", () => {
  it("applies what is pending in order, a line each, and is silent when there is nothing to do", async () => {
    const connectionString = await postgres.createDatabase();
    const one = logLines();
    await migrate({ connectionString, log: one.log, folder: await migrationsFolder(FIRST) });
    expect(one.lines).toEqual([expect.stringMatching(/^Migration 000001-step\.sql applied in \d+ ms$/)]);

    const two = logLines();
    const folder = await migrationsFolder(FIRST, SECOND, "insert into outbox.second values (1);");
    await migrate({ connectionString, log: two.log, folder });
    expect(two.lines.map((line) => line.slice(0, 25))).toEqual([
      "Migration 000002-step.sql",
      "Migration 000003-step.sql",
    ]);

    const three = logLines();
    await migrate({ connectionString, log: three.log, folder });
    expect(three.lines).toEqual([]);
    expect(await queryOnce(connectionString, "select id from outbox.second")).toEqual([{ id: 1 }]);
    expect(await applied(connectionString)).toEqual(["000001.sql", "000002.sql", "000003.sql"]);
  });

  it("gives way to whoever has a table in use, so that nobody waits behind it, and goes on when it is free", async () => {
    const connectionString = await postgres.createDatabase();
    const { log } = logLines();
    await migrate({ connectionString, log, folder: await migrationsFolder(FIRST) });
    const reader = new Client({ connectionString });
    reader.on("error", () => {});
    await reader.connect();
    onTestFinished(() => reader.end());
    await reader.query("begin; select from outbox.first");

    const { log: log2, line } = logLines();
    const folder = await migrationsFolder(FIRST, "alter table outbox.first add column more int;");
    const migrating = migrate({ connectionString, log: log2, folder });
    await line(/^The tables are in use/);
    // Between two tries the way is free for others.
    await queryOnce(connectionString, "insert into outbox.first values (1)");
    await reader.query("commit");
    await migrating;
    expect(await queryOnce(connectionString, "select id, more from outbox.first")).toEqual([
      { id: 1, more: null },
    ]);
  });

  it("leaves no connection and no lock behind, also when it fails", async () => {
    const connectionString = await postgres.createDatabase();
    const { log } = logLines();
    await migrate({ connectionString, log, folder: await migrationsFolder(FIRST) });
    await failure(migrate({ connectionString, log, folder: await migrationsFolder(FIRST, "select 1/0;") }));
    await eventually(() => backends(connectionString, "outbox-migrate")).toEqual([]);
  });

  it.each([2, 5])(
    "lets %i processes start at once: one migrates, the others wait and find it done",
    async (count) => {
      const connectionString = await postgres.createDatabase();
      // A blocking lock would deadlock on the second one.
      const folder = await migrationsFolder(
        HELD,
        "--! no-transaction\ncreate index concurrently first_id on outbox.first (id);",
      );
      const holder = await holdMigrations(connectionString);
      const logs = Array.from({ length: count }, logLines);
      const all = Promise.all(logs.map(({ log }) => migrate({ connectionString, log, folder })));
      await untilHeld(connectionString);
      await eventually(() => logs.filter(({ lines }) => /waiting for it/.test(lines.join())).length).toBe(
        count - 1,
      );
      await holder.query("select pg_advisory_unlock(42)");
      await all;

      expect(logs.flatMap(({ lines }) => lines).filter((line) => /applied/.test(line))).toHaveLength(2);
      expect(logs.flatMap(({ lines }) => lines)).toHaveLength(2 + count - 1);
      expect(await applied(connectionString)).toEqual(["000001.sql", "000002.sql"]);
    },
  );

  it("gives up on another process's migration with a sentence", async () => {
    const connectionString = await postgres.createDatabase();
    const folder = await migrationsFolder(HELD);
    const holder = await holdMigrations(connectionString);
    const slow = migrate({ connectionString, log: logLines().log, folder });
    await untilHeld(connectionString);
    const error = await failure(migrate({ connectionString, log: logLines().log, folder, patienceMs: 0 }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(/Another process has been migrating this database for 0 s/);
    await holder.query("select pg_advisory_unlock(42)");
    await slow;
  });

  it("refuses a database that is newer than the code, and says which migrations it does not know", async () => {
    const connectionString = await postgres.createDatabase();
    const newer = await migrationsFolder(FIRST, SECOND, "select 1;");
    await migrate({ connectionString, log: logLines().log, folder: newer });
    const { lines, log } = logLines();
    const error = await failure(migrate({ connectionString, log, folder: await migrationsFolder(FIRST) }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(/newer than this version.*\(000002\.sql, 000003\.sql\)/);
    expect(lines).toEqual([]);
  });

  it("refuses a database whose migrations were others", async () => {
    const connectionString = await postgres.createDatabase();
    const log = logLines().log;
    await migrate({ connectionString, log, folder: await migrationsFolder(FIRST, SECOND) });
    const edited = await migrationsFolder(FIRST, "create table outbox.second (id bigint);", "select 1;");
    const error = await failure(migrate({ connectionString, log, folder: edited }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(/000002\.sql was applied with another content/);
    expect(await applied(connectionString)).toEqual(["000001.sql", "000002.sql"]);
  });

  it("refuses a schema named outbox that is someone else's, and touches nothing", async () => {
    const connectionString = await postgres.createDatabase();
    await queryOnce(connectionString, "create schema outbox");
    const error = await failure(
      migrate({ connectionString, log: logLines().log, folder: await migrationsFolder(FIRST) }),
    );
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(/has a schema named "outbox" already \(its owner is "outbox"\)/);
    expect(await schemas(connectionString)).toEqual(["outbox"]);
  });

  it("names the migration that fails, and keeps nothing of it", async () => {
    const connectionString = await postgres.createDatabase();
    const folder = await migrationsFolder(FIRST, `${SECOND} select 1/0;`);
    const { lines, log } = logLines();
    const error = await failure(migrate({ connectionString, log, folder }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toBe("Migration 000002-step.sql failed: division by zero");
    expect(lines).toHaveLength(1);
    expect(await applied(connectionString)).toEqual(["000001.sql"]);
    expect(await queryOnce(connectionString, "select to_regclass('outbox.second') as made")).toEqual([
      { made: null },
    ]);
  });

  it("refuses a committed migration that was edited", async () => {
    const connectionString = await postgres.createDatabase();
    const folder = await migrationsFolder(FIRST);
    await appendFile(`${folder}/committed/000001-step.sql`, "-- a word more\n");
    const error = await failure(migrate({ connectionString, log: logLines().log, folder }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(/Hash for 000001-step\.sql does not match/);
  });

  it("refuses a folder without migrations, for then it is not ours", async () => {
    const connectionString = await postgres.createDatabase();
    const folder = await migrationsFolder();
    const error = await failure(migrate({ connectionString, log: logLines().log, folder }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toBe(`There are no migrations in ${folder}/committed.`);
  });

  it("passes an outage on as what it is, and the process lives", async () => {
    const connectionString = await postgres.createDatabase();
    await holdMigrations(connectionString);
    const work = failure(
      migrate({ connectionString, log: logLines().log, folder: await migrationsFolder(HELD) }),
    );
    await untilHeld(connectionString);
    await terminate(connectionString, "outbox-migrate");
    const error = await work;
    expect(error).not.toBeInstanceOf(MigrationError);
    expect(isOutage(error)).toBe(true);
  });
});

describe("migrate, with a role that is no superuser", () => {
  /** The same database, as a new role that may do what is granted. */
  async function asRole(connectionString: string, grants: (role: string, database: string) => string) {
    const url = new URL(connectionString);
    const database = url.pathname.slice(1);
    const role = `role_${database}`;
    await queryOnce(connectionString, `create role ${role} login password 'x'; ${grants(role, database)}`);
    url.username = role;
    url.password = "x";
    return { url: url.href, role };
  }

  it("needs only to own the database", async () => {
    const admin = await postgres.createDatabase();
    const { url } = await asRole(admin, (role, database) => `alter database ${database} owner to ${role}`);
    await migrate({ connectionString: url, log: logLines().log, folder: await migrationsFolder(FIRST) });
    expect(await applied(url)).toEqual(["000001.sql"]);
  });

  it("needs only to create in the database, and not even that once it is up to date", async () => {
    const admin = await postgres.createDatabase();
    const database = new URL(admin).pathname.slice(1);
    const { url, role } = await asRole(admin, (role, name) => `grant create on database ${name} to ${role}`);
    const folder = await migrationsFolder(FIRST);
    await migrate({ connectionString: url, log: logLines().log, folder });
    await queryOnce(admin, `revoke create on database ${database} from ${role}`);
    const { lines, log } = logLines();
    await migrate({ connectionString: url, log, folder });
    expect(lines).toEqual([]);
  });

  it("says what it may not do", async () => {
    const admin = await postgres.createDatabase();
    const { url } = await asRole(admin, () => "");
    const error = await failure(
      migrate({ connectionString: url, log: logLines().log, folder: await migrationsFolder(FIRST) }),
    );
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(
      /^The schema outbox_migrate could not be made: permission denied for database/,
    );
  });
});

describe("migrate, beside an application that uses graphile-migrate itself", () => {
  async function migrateApp(url: string): Promise<void> {
    await migrateApplication({
      connectionString: `${url}?application_name=app`,
      migrationsFolder: await migrationsFolder("create table app (id int);", "insert into app values (1);"),
      logger: new Logger(() => () => {}),
    });
    // Its pool lingers, and ends this process when the server goes first: the very thing that ours must not do.
    await eventually(() => backends(url, "app")).toEqual([]);
  }

  async function expectBoth(url: string): Promise<void> {
    expect(await applied(url)).toEqual(["000001.sql"]);
    expect(await applied(url, "graphile_migrate")).toEqual(["000001.sql", "000002.sql"]);
    expect(await queryOnce(url, "select id from app")).toEqual([{ id: 1 }]);
    expect(await schemas(url)).toEqual(["graphile_migrate", "outbox", "outbox_migrate", "outbox_worker"]);
  }

  it("comes after it", async () => {
    const connectionString = await postgres.createDatabase();
    await migrateApp(connectionString);
    await migrate({ connectionString, log: logLines().log, folder: await migrationsFolder(FIRST) });
    await expectBoth(connectionString);
  });

  it("comes before it", async () => {
    const connectionString = await postgres.createDatabase();
    await migrate({ connectionString, log: logLines().log, folder: await migrationsFolder(FIRST) });
    await migrateApp(connectionString);
    await expectBoth(connectionString);
  });

  it("runs at the same moment, and neither fails on the other's lock", async () => {
    const connectionString = await postgres.createDatabase();
    const holder = await holdMigrations(connectionString);
    const ours = migrate({ connectionString, log: logLines().log, folder: await migrationsFolder(HELD) });
    await untilHeld(connectionString);
    await migrateApp(connectionString);
    await holder.query("select pg_advisory_unlock(42)");
    await ours;
    await expectBoth(connectionString);
  });

  it("leaves a migration's own words alone", async () => {
    const connectionString = await postgres.createDatabase();
    const folder = await migrationsFolder(`${FIRST} comment on schema outbox is 'not graphile_migrate';`);
    await migrate({ connectionString, log: logLines().log, folder });
    expect(
      await queryOnce(connectionString, "select obj_description('outbox'::regnamespace) as words"),
    ).toEqual([{ words: "not graphile_migrate" }]);
  });
});
