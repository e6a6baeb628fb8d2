import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { startLocalPostgres } from "../../src/demo/local-postgres.ts";
import {
  ask,
  asRoot,
  forkStart,
  killed,
  NOBODY,
  optionsFor,
  temporaryFolder,
  toldBy,
} from "./postgres-folders.ts";

it("makes a durable database on loopback, below any path, and keeps it between runs", async () => {
  const options = await optionsFor(
    path.join(temporaryFolder(), `it's a "naïve" \`$HOME\` \\ ğ`, "new", "data"),
  );
  const { settings: _, ...durable } = options;
  const first = await startLocalPostgres(durable);
  expect(first).toMatchObject({ attached: false, port: options.port, pid: expect.any(Number) });
  expect(new URL(first.url()).pathname).toBe("/outbox");
  expect(first.url("")).toMatch(/:\d+\/$/);
  const sql = `select array[current_setting('fsync'), current_setting('synchronous_commit'), current_setting('listen_addresses'),
    current_setting('server_encoding'), current_setting('unix_socket_directories')]`;
  expect(await ask(first, sql)).toEqual(["on", "on", "127.0.0.1", "UTF8", ""]);
  expect(await ask(first, "select array_agg(distinct auth_method) from pg_hba_file_rules")).toEqual([
    "scram-sha-256",
  ]);
  await ask(first, "create table kept as select 42 as answer");
  await first.stop();
  await first.stop();

  const second = await startLocalPostgres(durable);
  expect(second.attached).toBe(false);
  expect(await ask(second, "select answer from kept")).toBe(42);

  second.stopNow();
  second.stopNow();
  const third = await startLocalPostgres(options);
  expect(third.attached).toBe(false);
  expect(await ask(third, "select current_setting('fsync') || answer from kept")).toBe("off42");
  await third.stop("immediate");
});

it("gives one server to two processes that start at the same time on a new folder", async () => {
  const dataDir = path.join(temporaryFolder(), "data");
  const children = [forkStart(await optionsFor(dataDir)), forkStart(await optionsFor(dataDir))];
  const told = await Promise.all(children.map(toldBy));
  expect(told[0]?.pid).toBe(told[1]?.pid);
  expect(told[0]?.port).toBe(told[1]?.port);
  expect(told.map(({ attached }) => attached).sort()).toEqual([false, true]);
  for (const { url } of told) expect(await ask(url, "select 1")).toBe(1);
  expect(fs.readdirSync(path.dirname(dataDir))).toEqual(["data"]);
});

it("begins anew after a start that was cut short while it made the folder", async () => {
  const root = temporaryFolder();
  const options = await optionsFor(path.join(root, "data"));
  const child = forkStart(options);
  await appearance(root, (name) => /^data\.new-\d+-.*global$/.test(name));
  await killed(child, true);
  expect(fs.readdirSync(root)).toEqual([expect.stringMatching(/^data\.new-/)]);

  const postgres = await startLocalPostgres(options);
  expect(await ask(postgres, "select 1")).toBe(1);
  expect(fs.readdirSync(root)).toEqual(["data"]);
  await postgres.stop("immediate");
});

it("goes one level down in a folder that is there already, as a mount point is, as its owner", async () => {
  const dataDir = temporaryFolder();
  fs.mkdirSync(path.join(dataDir, "lost+found"));
  if (asRoot) fs.chownSync(dataDir, NOBODY, NOBODY);
  const postgres = await startLocalPostgres(await optionsFor(dataDir));
  expect(await ask(postgres, "select current_setting('data_directory')")).toBe(path.join(dataDir, "pgdata"));
  expect(fs.statSync(path.join(dataDir, "pgdata")).uid).toBe(asRoot ? NOBODY : process.getuid?.());
  await postgres.stop("immediate");
});

it.runIf(asRoot)("runs as an ordinary user, who keeps the folder when root has a turn", async () => {
  const home = temporaryFolder();
  fs.chownSync(home, NOBODY, NOBODY);
  fs.chmodSync(home, 0o700);
  const options = await optionsFor(path.join(home, ".data", "postgres"));
  const child = forkStart(options, NOBODY);
  const told = await toldBy(child);
  expect(told).toMatchObject({ attached: false, port: options.port });
  expect(await ask(told.url, "select 1")).toBe(1);

  await killed(child);
  const root = await startLocalPostgres(options);
  expect(root).toMatchObject({ attached: true, pid: told.pid });
  await root.stop();
  expect(fs.readdirSync(options.dataDir)).not.toContain("postmaster.pid");
});

/** Resolves once a file whose path below `root` fits is there. */
async function appearance(root: string, fits: (name: string) => boolean): Promise<void> {
  const watcher = fs.watch(root, { recursive: true });
  try {
    for (;;) {
      const change = once(watcher, "change");
      const there = fs.readdirSync(root, { recursive: true, encoding: "utf8" });
      if (there.some(fits)) return;
      await change;
    }
  } finally {
    watcher.close();
  }
}
