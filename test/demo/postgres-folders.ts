import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import pg from "pg";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import {
  type LocalPostgres,
  type LocalPostgresOptions,
  startLocalPostgres,
} from "../../src/demo/local-postgres.ts";
import { freePort } from "../support/redis.ts";

export const asRoot = process.getuid?.() === 0;
export const NOBODY = 65_534;

/** A folder that every user can pass through, removed after the test, and with it whatever server runs below it. */
export function temporaryFolder(name = "outbox demo "): string {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), name));
  fs.chmodSync(root, 0o755);
  onTestFinished(() => {
    for (const entry of fs.readdirSync(root, { recursive: true, encoding: "utf8" })) {
      if (path.basename(entry) === "postmaster.pid") endServer(path.join(root, entry));
    }
    fs.rmSync(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  });
  return root;
}

/** One data folder made for the whole file, because making one is what costs: returns how to get a copy of it. */
export function useDataFolder(): () => string {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), "outbox-demo-"));
  const original = path.join(root, "data");
  beforeAll(async () => {
    fs.chmodSync(root, 0o755);
    const postgres = await startLocalPostgres(await optionsFor(original));
    await postgres.stop();
  });
  afterAll(() => fs.rmSync(root, { recursive: true, force: true }));
  return () => {
    const copy = path.join(temporaryFolder(), "data");
    execFileSync("cp", ["-a", original, copy]);
    return copy;
  };
}

function endServer(file: string): void {
  const pid = Number.parseInt(fs.readFileSync(file, "utf8"), 10);
  try {
    // Only a postmaster leads a group here; the impostors of these tests do not.
    process.kill(-pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** Options for speed, not for durability. */
export async function optionsFor(dataDir: string): Promise<LocalPostgresOptions> {
  return {
    dataDir,
    port: await freePort(),
    user: "outbox",
    password: 'it\'s "secret"/@ü',
    database: "outbox",
    settings: { fsync: "off", autovacuum: "off" },
    initdbFlags: ["--no-sync"],
  };
}

export interface Told {
  readonly url: string;
  readonly pid: number;
  readonly port: number;
  readonly attached: boolean;
  readonly error?: string;
  readonly message?: string;
}

/** Starts a process that starts PostgreSQL; it leads a group, so that a test can kill it with its children. */
export function forkStart(options: LocalPostgresOptions, uid?: number): ChildProcess {
  const script = path.join(import.meta.dirname, "postgres-child.ts");
  const user = uid === undefined ? {} : { uid, gid: uid };
  const child = fork(script, [JSON.stringify(options)], { execArgv: [], detached: true, cwd: "/", ...user });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  return child;
}

export async function toldBy(child: ChildProcess): Promise<Told> {
  const [message] = (await once(child, "message")) as [Told];
  return message;
}

export async function killed(child: ChildProcess, group = false): Promise<void> {
  const exit = once(child, "exit");
  if (group && child.pid) process.kill(-child.pid, "SIGKILL");
  else child.kill("SIGKILL");
  await exit;
}

/** The first column of the first row. */
export async function ask(postgres: Pick<LocalPostgres, "url"> | string, sql: string): Promise<unknown> {
  const client = new pg.Client(typeof postgres === "string" ? postgres : postgres.url());
  await client.connect();
  try {
    const { rows } = await client.query<unknown[]>({ text: sql, rowMode: "array" });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}
