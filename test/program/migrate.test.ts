import { migrate as migrateApplication } from "graphile-migrate";
import { run as runWorker } from "graphile-worker";
import { expect, it, onTestFinished } from "vitest";
import { migrationsFolder } from "../db/migrations-folder.ts";
import { createDatabase } from "../support/database.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { startProgram } from "./program.ts";

async function emptyDatabase(): Promise<string> {
  const database = await createDatabase({ empty: true });
  onTestFinished(() => database.drop());
  return database.url;
}

const migrations = (url: string) =>
  queryOnce<{ filename: string }>(url, "select filename from outbox_migrate.migrations order by filename");

const schemas = async (url: string) => {
  const rows = await queryOnce<{ nspname: string }>(
    url,
    "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema$|public$)' order by nspname",
  );
  return rows.map(({ nspname }) => nspname);
};

async function migrate(url: string) {
  const program = startProgram({ env: { DATABASE_URL: url }, command: ["migrate"] });
  return { ...(await program.end), output: program.output, messages: program.lines.map(({ msg }) => msg) };
}

it("migrates and ends with 0; again, there is nothing to do; a database that is newer it refuses", async () => {
  const url = await emptyDatabase();
  const first = await migrate(url);
  expect(first.code).toBe(0);
  expect(first.messages[0]).toMatch(/^Migration 000001-\S+\.sql applied in \d+ ms$/);
  expect(await schemas(url)).toEqual(["outbox", "outbox_migrate", "outbox_worker"]);
  const applied = await migrations(url);

  const again = await migrate(url);
  expect(again).toMatchObject({ code: 0, messages: ["the database is up to date", "stopped"] });
  expect(await migrations(url)).toEqual(applied);

  await queryOnce(
    url,
    "insert into outbox_migrate.migrations (hash, previous_hash, filename) select 'sha1:f00', max(hash), '999999.sql' from outbox_migrate.migrations",
  );
  const env = { DATABASE_URL: url, WEBHOOK_URL: "http://127.0.0.1:1/" };
  const start = startProgram({ env });
  for (const newer of [await migrate(url), { ...(await start.end), output: start.output }]) {
    expect(newer.code).toBe(1);
    expect(newer.output).toContain("The database is newer than this version of the relayer");
    expect(newer.output).toContain("999999.sql");
    expect(newer.output).not.toContain('"stack"');
  }
});

it.each([2, 4])(
  "%i processes that start at once on an empty database are all ready, and it is migrated once",
  async (count) => {
    const url = await emptyDatabase();
    const programs = Array.from({ length: count }, () => startProgram({ env: { DATABASE_URL: url } }));
    await Promise.all(programs.map((program) => program.ready()));
    const applied = programs.flatMap(({ lines }) => lines.filter(({ msg }) => / applied in /.test(msg)));
    expect(applied).toHaveLength((await migrations(url)).length);
    expect(await queryOnce(url, "select from outbox.relayers")).toHaveLength(count);
    for (const program of programs) program.kill("SIGTERM");
    for (const program of programs) expect(await program.end).toEqual({ code: 0, signal: null });
    expect(await queryOnce(url, "select from outbox.relayers")).toHaveLength(0);
  },
);

it("leaves an application's own graphile-migrate and graphile-worker alone", async () => {
  const url = await emptyDatabase();
  const folder = await migrationsFolder("create schema app; create table app.orders (id int);");
  await migrateApplication({ connectionString: url, migrationsFolder: folder });
  const worker = await runWorker({ connectionString: url, taskList: {}, noHandleSignals: true });
  await worker.addJob("bill", { order: 1 });
  await worker.stop();
  const theirs = async () => ({
    migrations: await queryOnce(url, "select * from graphile_migrate.migrations"),
    jobs: await queryOnce(url, "select * from graphile_worker._private_jobs"),
  });
  const before = await theirs();
  expect(before).toMatchObject({ migrations: [{ filename: "000001.sql" }], jobs: [{ attempts: 0 }] });

  const program = startProgram({ env: { DATABASE_URL: url } });
  await program.ready();
  expect(await schemas(url)).toEqual([
    "app",
    "graphile_migrate",
    "graphile_worker",
    "outbox",
    "outbox_migrate",
    "outbox_worker",
  ]);
  program.kill("SIGTERM");
  expect(await program.end).toEqual({ code: 0, signal: null });
  expect(await theirs()).toEqual(before);
});
