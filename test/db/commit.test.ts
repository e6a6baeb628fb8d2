import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { logLines } from "./log-lines.ts";
import { migrationsFolder } from "./migrations-folder.ts";

const postgres = usePrivatePostgres();
const run = promisify(execFile);
const script = fileURLToPath(new URL("../../migrations/commit.ts", import.meta.url));

const commit = (folder: string, message: string) =>
  run(process.execPath, [script, "--folder", folder, message]);

/** A folder with one migration committed, one fixture, and this as the current one. */
async function folderWith(current: string): Promise<string> {
  const folder = await migrationsFolder("create schema outbox;");
  await mkdir(join(folder, "fixtures"));
  await writeFile(
    join(folder, "fixtures", "one.sql"),
    "create function outbox.one() returns int language sql immutable as 'select 1';\n",
  );
  await writeFile(join(folder, "current.sql"), current);
  return folder;
}

it("commits the current migration with what it includes, and leaves an empty one", async () => {
  const folder = await folderWith("--!include one.sql\n");
  const { stdout } = await commit(folder, "Count to one");
  const file = join(folder, "committed", "000002-count-to-one.sql");
  expect(stdout.trim()).toBe(`Committed ${file}`);
  expect(await readFile(file, "utf8")).toMatch(
    /^--! Previous: sha1:\w+\n--! Hash: sha1:\w+\n--! Message: Count to one\n/,
  );
  expect(await readFile(join(folder, "current.sql"), "utf8")).toMatch(/^-- [^\n]*\n$/);

  const connectionString = await postgres.createDatabase();
  await migrate({ connectionString, log: logLines().log, folder });
  expect(await queryOnce(connectionString, "select outbox.one()")).toEqual([{ one: 1 }]);
});

it("changes nothing when the migration fails, and shows where", async () => {
  const current = "--!include one.sql\nselect 1/0;\n";
  const folder = await folderWith(current);
  await expect(commit(folder, "Divide")).rejects.toMatchObject({
    stderr: expect.stringContaining("division by zero"),
  });
  expect(await readFile(join(folder, "current.sql"), "utf8")).toBe(current);
  expect(await readdir(join(folder, "committed"))).toEqual(["000001-step.sql"]);
});

it("has nothing to commit while the current migration is empty", async () => {
  const folder = await folderWith("-- nothing yet\n");
  await expect(commit(folder, "Nothing")).rejects.toMatchObject({
    stderr: expect.stringContaining("Current migration is blank"),
  });
});
