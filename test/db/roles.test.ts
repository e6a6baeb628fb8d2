import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { MigrationError, migrate } from "../../src/db/migrate.ts";
import { readMigrationSettings } from "../../src/db/migration-settings.ts";
import { createPool } from "../../src/db/pool.ts";
import { createRelayerRole } from "../../src/db/relayer-role.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { eventually } from "./eventually.ts";
import { logLines } from "./log-lines.ts";

// A server of its own, for what it makes and drops are roles, which all databases of a server share.
const postgres = usePrivatePostgres();

const OURS = ["outbox_auditor", "outbox_operator", "outbox_producer", "outbox_relayer"];

/** Of a database whose URL is an administrator's: the URL for another user. */
function as(user: string, url: string): string {
  const other = new URL(url);
  other.username = user;
  other.password = "secret";
  return other.href;
}

/** An empty database that belongs to a user who may create in it, and what else is said. */
async function ownDatabase(user: string, attributes = ""): Promise<{ admin: string; owner: string }> {
  const admin = await postgres.createDatabase();
  await queryOnce(
    admin,
    `create role ${user} login password 'secret' ${attributes};
     alter database ${new URL(admin).pathname.slice(1)} owner to ${user}`,
  );
  return { admin, owner: as(user, admin) };
}

async function migrated(url: string, folder?: string): Promise<string[]> {
  const { lines, log } = logLines();
  await migrate({ connectionString: url, log, ...(folder !== undefined && { folder }) });
  return lines.filter((line) => !/ applied in /.test(line));
}

const failure = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => expect.fail("it succeeded"),
    (error: Error) => error,
  );

const roles = async (url: string) =>
  (
    await queryOnce<{ rolname: string }>(
      url,
      "select rolname from pg_roles where rolname ~ '^outbox_' order by 1",
    )
  ).map(({ rolname }) => rolname);

/** A sample of the matrix, which test/sql/roles.test.ts has whole. */
async function expectGranted(url: string): Promise<void> {
  const [granted] = await queryOnce(
    url,
    `select
       has_function_privilege('outbox_producer', 'outbox.enqueue'::regproc, 'execute') as enqueues,
       has_table_privilege('outbox_auditor', 'outbox.sent', 'select') as reads,
       has_function_privilege('outbox_operator', 'outbox.pause'::regproc, 'execute')
         and has_table_privilege('outbox_operator', 'outbox.sent', 'select') as operates,
       has_function_privilege('outbox_relayer', 'outbox.claim'::regproc, 'execute')
         and has_function_privilege('outbox_relayer', 'outbox.pause'::regproc, 'execute')
         and has_function_privilege('outbox_relayer', 'outbox.enqueue'::regproc, 'execute')
         and has_table_privilege('outbox_relayer', 'outbox_worker._private_jobs', 'insert') as relays,
       (select count(*)::int from pg_policies where schemaname = 'outbox_worker') as policies`,
  );
  expect(granted).toEqual({ enqueues: true, reads: true, operates: true, relays: true, policies: 4 });
}

/** As whom a connection of the relayer's works, and what it was warned of. */
async function becomes(url: string): Promise<{ user: string; warnings: string[] }> {
  const warnings: string[] = [];
  const role = createRelayerRole(url, (message) => warnings.push(message));
  await role.find();
  await role.find();
  const pool = createPool({
    connectionString: url,
    max: 1,
    applicationName: "test",
    log: () => {},
    onConnect: role.become,
  });
  const { rows } = await pool.query<{ user: string }>("select current_user::text as user");
  await pool.end();
  return { user: rows[0]?.user ?? "", warnings };
}

// What one test makes is gone before the next.
beforeEach(async () => {
  const url = new URL(await postgres.createDatabase());
  url.pathname = "postgres";
  const drops = await queryOnce<{ drop: string }>(
    url.href,
    `select format('drop database %I with (force)', datname) as drop from pg_database where datname ~ '^db_'
     union all
     (select format('drop role %I', rolname) from pg_roles where rolname !~ '^pg_' and rolname <> current_user order by rolname !~ '^outbox_')`,
  );
  for (const { drop } of drops) await queryOnce(url.href, drop);
});

describe("an owner who may create roles", () => {
  it("makes all four, grants them what is theirs, and may become the relayer", async () => {
    const { owner } = await ownDatabase("owner", "createrole");
    expect(await migrated(owner)).toEqual([]);
    expect(await roles(owner)).toEqual(OURS);
    await expectGranted(owner);
    expect(await becomes(owner)).toEqual({ user: "outbox_relayer", warnings: [] });
    const members = await queryOnce(
      owner,
      `select distinct member::regrole::text as member, roleid::regrole::text as of
       from pg_auth_members where member::regrole::text ~ '^outbox_' order by 1, 2`,
    );
    expect(members).toEqual([
      { member: "outbox_operator", of: "outbox_auditor" },
      { member: "outbox_relayer", of: "outbox_operator" },
      { member: "outbox_relayer", of: "outbox_producer" },
    ]);
    const logins = await queryOnce(
      owner,
      "select from pg_roles where rolname ~ '^outbox_' and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)",
    );
    expect(logins).toEqual([]);
  });
});

describe("an owner who may not", () => {
  it("is told what was left out, and what helps; that done, the next migrate() grants the rest", async () => {
    const { admin, owner } = await ownDatabase("owner");
    const said = await migrated(owner);
    expect(said).toEqual([
      "role outbox_producer was not made: user owner lacks CREATEROLE. As a superuser: create role outbox_producer; then npm run migrate",
      "role outbox_auditor was not made: user owner lacks CREATEROLE. As a superuser: create role outbox_auditor; then npm run migrate",
      "role outbox_operator was not made: user owner lacks CREATEROLE. As a superuser: create role outbox_operator in role outbox_auditor; then npm run migrate",
      "role outbox_relayer was not made: user owner lacks CREATEROLE. As a superuser: create role outbox_relayer in role outbox_operator, outbox_producer; then npm run migrate",
    ]);
    expect(await roles(admin)).toEqual([]);
    // Nobody else has come by a right meanwhile.
    const anyone = await queryOnce(
      admin,
      "select proname from pg_proc cross join aclexplode(proacl) where pronamespace = 'outbox'::regnamespace and grantee <> proowner",
    );
    expect(anyone).toEqual([]);
    const { user, warnings } = await becomes(owner);
    expect(user).toBe("owner");
    expect(warnings).toEqual([
      "running as owner, not as outbox_relayer: there is no such role; as the owner of the schema outbox: npm run migrate makes it, or says how to make it",
    ]);
    expect(await migrated(owner)).toEqual(said);

    for (const sentence of said)
      await queryOnce(admin, /As a superuser: (.*); then/.exec(sentence)?.[1] ?? "no help");
    expect((await becomes(admin)).warnings).toEqual([
      "running as outbox, not as outbox_relayer: the role has no rights in this database; as the owner of the schema outbox: npm run migrate grants them",
    ]);
    expect(await migrated(owner)).toEqual([]);
    await expectGranted(owner);

    const still = await becomes(owner);
    expect(still.user).toBe("owner");
    expect(still.warnings).toEqual([
      "running as owner, not as outbox_relayer: it may not. As a superuser: grant outbox_relayer to owner",
    ]);
    await queryOnce(admin, "grant outbox_relayer to owner");
    expect(await becomes(owner)).toEqual({ user: "outbox_relayer", warnings: [] });
  });

  it("is told of a membership that is missing", async () => {
    const { admin, owner } = await ownDatabase("owner");
    await queryOnce(admin, OURS.map((role) => `create role ${role}`).join(";"));
    const said = await migrated(owner);
    expect(said).toEqual([
      "role outbox_operator was not made a member of outbox_auditor: user owner may not do it. As a superuser: grant outbox_auditor to outbox_operator",
      "role outbox_relayer was not made a member of outbox_operator: user owner may not do it. As a superuser: grant outbox_operator to outbox_relayer",
      "role outbox_relayer was not made a member of outbox_producer: user owner may not do it. As a superuser: grant outbox_producer to outbox_relayer",
    ]);
    for (const sentence of said)
      await queryOnce(admin, /As a superuser: (.*)$/.exec(sentence)?.[1] ?? "no help");
    expect(await migrated(owner)).toEqual([]);
    await expectGranted(owner);
  });
});

describe("several databases of one server", () => {
  it("are migrated at once, and all have the roles", async () => {
    const users = ["one", "two", "three", "four"];
    const databases = await Promise.all(users.map((user) => ownDatabase(user, "superuser")));
    const said = await Promise.all(databases.map(({ owner }) => migrated(owner)));
    expect(said.flat().filter((line) => !line.startsWith("The tables are in use"))).toEqual([]);
    for (const { owner } of databases) await expectGranted(owner);
  });

  /** A session that has done all that another one is about to do, and has not committed. */
  async function ahead(url: string, statement: string): Promise<pg.Client> {
    const client = new pg.Client(url);
    await client.connect();
    onTestFinished(() => client.end());
    await client.query(`begin; ${statement}`);
    return client;
  }

  const blocked = (url: string) =>
    eventually(() =>
      queryOnce(url, "select from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"),
    ).not.toEqual([]);

  it.each(["commit", "rollback"])(
    "survive that another one is making a role at the same moment: %s",
    async (end) => {
      const { owner } = await ownDatabase("one", "superuser");
      const other = await ownDatabase("two", "superuser");
      const first = await ahead(other.owner, OURS.map((role) => `create role ${role}`).join(";"));
      const work = migrated(owner);
      await blocked(owner);
      await first.query(end);
      await work;
      expect(await roles(owner)).toEqual(OURS);
      await expectGranted(owner);
    },
  );

  it.each(["commit", "rollback"])(
    "survive that another one is granting a membership at the same moment: %s",
    async (end) => {
      const { owner } = await ownDatabase("one", "superuser");
      const other = await ownDatabase("two", "superuser");
      await migrated(owner);
      const grants =
        "grant outbox_auditor to outbox_operator; grant outbox_operator, outbox_producer to outbox_relayer";
      await queryOnce(owner, grants.replaceAll("grant", "revoke").replaceAll(" to ", " from "));
      const first = await ahead(other.owner, grants);
      const work = migrated(owner);
      await blocked(owner);
      await first.query(end);
      await work;
      await expectGranted(owner);
    },
  );
});

describe("a user who is not the owner", () => {
  it("finds a database that is up to date so, with nothing but the relayer's rights", async () => {
    const { admin, owner } = await ownDatabase("owner", "createrole");
    await migrated(owner);
    await queryOnce(admin, "create role runs login password 'secret' in role outbox_relayer");
    expect(await migrated(as("runs", admin))).toEqual([]);
    expect(await becomes(as("runs", admin))).toEqual({ user: "outbox_relayer", warnings: [] });
  });

  it("is told who has to migrate a database that is not", async () => {
    const { admin, owner } = await ownDatabase("owner", "createrole");
    await migrated(owner);
    await queryOnce(admin, "create role runs login password 'secret' in role outbox_relayer");
    await queryOnce(
      admin,
      "delete from outbox_migrate.migrations where filename = (select max(filename) from outbox_migrate.migrations)",
    );
    const error = await failure(migrated(as("runs", admin)));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(
      /^The database is older than this version of the relayer, and "runs" may not bring it up to date \(\d{6}-[\w-]+\.sql\)\. The schema outbox is owned by "owner": npm run migrate as that user, then start again\.$/,
    );
  });

  it("is told so of Graphile Worker's schema, too", async () => {
    const { admin, owner } = await ownDatabase("owner", "createrole");
    await migrated(owner);
    await queryOnce(admin, "create role runs login password 'secret' in role outbox_relayer");
    await queryOnce(admin, "drop schema outbox_worker cascade");
    const error = await failure(migrated(as("runs", admin)));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toMatch(
      /^The schema outbox_worker could not be brought up to date: permission denied for database .*\. The schema outbox is owned by "owner": npm run migrate as that user, then start again\.$/,
    );
    expect(await migrated(owner)).toEqual([]);
    expect(await migrated(as("runs", admin))).toEqual([]);
    await expectGranted(owner);
  });

  it("is told whose member to become, if it is nobody's", async () => {
    const { admin, owner } = await ownDatabase("owner", "createrole");
    await migrated(owner);
    await queryOnce(admin, "create role stranger login password 'secret'");
    const error = await failure(migrated(as("stranger", admin)));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error.message).toBe(
      'The schema outbox_migrate could not be read: permission denied for schema outbox_migrate. The schema outbox is owned by "owner": npm run migrate as that user, then start again. And as a superuser: grant outbox_relayer to "stranger".',
    );
  });

  it("makes nothing that the owner does not own, if it is a superuser", async () => {
    const { admin, owner } = await ownDatabase("owner");
    const folder = await mkdtemp(join(tmpdir(), "outbox-migrations-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const { migrationsFolder } = await readMigrationSettings();
    await cp(migrationsFolder, folder, { recursive: true });
    for (const file of await readdir(join(folder, "committed")))
      if (!/^00000[12]/.test(file)) await rm(join(folder, "committed", file));
    await migrated(owner, folder);

    expect(await migrated(admin)).toEqual([]);
    const others = await queryOnce(
      admin,
      `select relname from pg_class where relnamespace = any ('{outbox,outbox_worker,outbox_migrate}'::regnamespace[]) and relowner <> 'owner'::regrole
       union all
       select proname from pg_proc where pronamespace = any ('{outbox,outbox_worker,outbox_migrate}'::regnamespace[]) and proowner <> 'owner'::regrole`,
    );
    expect(others).toEqual([]);
    await expectGranted(admin);
    // What runs as the owner reaches all that it uses.
    await queryOnce(admin, "select outbox.rescue(), outbox.maintain()");
    expect(await migrated(owner)).toEqual([]);
    expect(await becomes(owner)).toEqual({ user: "outbox_relayer", warnings: [] });
  });
});
