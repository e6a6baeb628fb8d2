import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { ask, asRoot, forkStart, killed, optionsFor, toldBy, useDataFolder } from "./postgres-folders.ts";

const dataFolder = useDataFolder();

it("attaches to the server of a killed process, on whatever port that one has", async () => {
  const dataDir = dataFolder();
  const child = forkStart(await optionsFor(dataDir));
  const told = await toldBy(child);
  await killed(child, true);
  const postgres = await startLocalPostgres(await optionsFor(dataDir));
  expect(postgres).toMatchObject({ attached: true, pid: told.pid, port: told.port });
  expect(await ask(postgres, "select 1")).toBe(1);
});

it("waits for a server that is still stopping, and starts another", async () => {
  const options = await optionsFor(dataFolder());
  const postgres = await startLocalPostgres(options);
  const stopped = postgres.stop("fast");
  const next = await startLocalPostgres(options).catch((error: Error) => error);
  await stopped;
  // Attached just before the end or started just after it: never an error, never two.
  expect(next).toMatchObject({ port: options.port });
});

it("starts after the server was killed, although its last sessions take a moment to notice", async () => {
  const options = await optionsFor(dataFolder());
  const postgres = await startLocalPostgres(options);
  process.kill(postgres.pid, "SIGKILL");
  const next = await startLocalPostgres(options);
  expect(next.attached).toBe(false);
  expect(await ask(next, "select 1")).toBe(1);
});

it("starts after a crash of the machine, when another program has the server's number", async () => {
  const options = await optionsFor(dataFolder());
  const postgres = await startLocalPostgres(options);
  const file = path.join(options.dataDir, "postmaster.pid");
  const lines = fs.readFileSync(file, "utf8").split("\n");
  const { uid, gid } = fs.statSync(file);
  await postgres.stop("immediate");
  // Of the server's own user: that is the one case in which PostgreSQL alone would refuse to start.
  const bystander = spawn("sleep", ["60"], asRoot ? { uid, gid } : {});
  onTestFinished(() => void bystander.kill());
  await once(bystander, "spawn");
  lines[0] = String(bystander.pid);
  lines[2] = String(Number(lines[2]) - 3_600);
  fs.writeFileSync(file, lines.join("\n"), { mode: 0o600 });
  fs.chownSync(file, uid, gid);

  const next = await startLocalPostgres(options);
  expect(next.attached).toBe(false);
  expect(await ask(next, "select 1")).toBe(1);
  expect(bystander.exitCode ?? bystander.signalCode).toBeNull();
});

it("makes the database it is asked for in a folder that has others", async () => {
  const options = await optionsFor(dataFolder());
  const postgres = await startLocalPostgres({ ...options, database: `an "odd" name'ü` });
  expect(await ask(postgres, "select current_database()")).toBe(`an "odd" name'ü`);
  expect(await ask(postgres.url("outbox"), "select current_database()")).toBe("outbox");
});

it("says so when the folder was made with another password, whether the server runs or not", async () => {
  const options = await optionsFor(dataFolder());
  const start = () => startLocalPostgres({ ...options, password: "another" });
  await expect(start()).rejects.toThrow(/made with another user or password than "outbox"/);
  await expect(start()).rejects.toThrow(/made with another user or password than "outbox"/);
});

it("says which port is taken, and how to choose another", async () => {
  const options = await optionsFor(dataFolder());
  const other = net.createServer().listen(options.port, "127.0.0.1");
  await once(other, "listening");
  onTestFinished(() => void other.close());
  await expect(startLocalPostgres(options)).rejects.toThrow(
    new RegExp(`^Port ${options.port} on 127.0.0.1 is taken by another program.*EMBEDDED_POSTGRES_PORT`),
  );
});

it("says what PostgreSQL said when it cannot start for any other reason", async () => {
  const options = await optionsFor(dataFolder());
  const start = startLocalPostgres({ ...options, settings: { work_mem: "plenty" } });
  await expect(start).rejects.toMatchObject({
    name: "LocalPostgresError",
    message: expect.stringMatching(/cannot start: .*"work_mem".*server\.log/),
  });
});
