import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { eventually } from "../support/eventually.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { freePort } from "../support/redis.ts";
import { gone, isRunning, openFolder, ROOT, serverOn, startProgram } from "./program.ts";

const TREE = ["src", "tasks", "migrations", "config.yaml", "crontab", "package.json", ".gmrc"];
const asRoot = process.getuid?.() === 0;

/** The project in a place of its own, whose path a shell would trip over. */
function copyTree(): string {
  const folder = path.join(openFolder("outbox tree $HOME's "), "the copy");
  fs.mkdirSync(folder);
  for (const name of TREE) fs.cpSync(path.join(ROOT, name), path.join(folder, name), { recursive: true });
  // As a clone with the usual umask is.
  execFileSync("chmod", ["-R", "a+rX", folder]);
  fs.symlinkSync(path.join(ROOT, "node_modules"), path.join(folder, "node_modules"));
  return folder;
}

async function relays(cwd: string, uid?: number): Promise<void> {
  const env = { EMBEDDED_POSTGRES_PORT: String(await freePort()) };
  const program = startProgram({ cwd, env, ...(uid === undefined ? {} : { uid }) });
  const { psql } = await program.ready();
  const dataDir = path.join(cwd, ".data/postgres");
  const postgres = serverOn(dataDir);
  onTestFinished(() => {
    if (isRunning(postgres)) process.kill(postgres, "SIGQUIT");
  });
  await queryOnce(psql, "insert into outbox.messages (recipient, content) values ('+905551234567', 'hello')");
  await eventually(
    () => queryOnce(psql, "select from outbox.sent"),
    (rows) => rows.length === 1,
  );
  program.kill("SIGTERM");
  expect(await program.end).toEqual({ code: 0, signal: null });
  await gone(postgres);
}

it("works from a path with a space in it, with its data beside it, wherever it is started from", async () => {
  const copy = copyTree();
  await relays(copy);
  expect(fs.existsSync(path.join(copy, ".data/postgres/PG_VERSION"))).toBe(true);
});

// Not where only root may go, as in /root: the copy shares its modules.
const othersMayRead =
  spawnSync("test", ["-r", path.join(ROOT, "node_modules/pg/package.json")], { uid: 65_534 }).status === 0;

it.skipIf(!asRoot || !othersMayRead)("works as an ordinary user, whose the data then is", async () => {
  const copy = copyTree();
  const user = 65_534;
  fs.chownSync(copy, user, user);
  await relays(copy, user);
  expect(fs.statSync(path.join(copy, ".data/postgres")).uid).toBe(user);
});
