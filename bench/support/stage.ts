import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pool } from "pg";
import { migrate } from "../../src/db/migrate.ts";
import { startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { freePort } from "./free-port.ts";
import { type Gateway, type ScriptedGateway, startGateway, startScriptedGateway } from "./gateway.ts";
import { type Relayer, type RelayerOptions, startRelayer } from "./relayer.ts";
import { type Sessions, startSessions } from "./sessions.ts";

/** What a bench runs on: a migrated database of its own on a durable PostgreSQL of its own, and what it starts beside it. */
export interface Stage {
  readonly databaseUrl: string;
  /** For the bench's own statements. */
  readonly pool: Pool;
  /** A number of messages or rows, times --scale. */
  size(full: number): number;
  /** A length of time in milliseconds, times --scale; at least a fifth of a second. */
  milliseconds(full: number): number;
  /** 1 to so many; 1 alone at less than a hundredth of the size, where figures are of no use. */
  rounds(full: number): readonly number[];
  /** nginx where it is installed, else Node. Everything started here ends with the stage. */
  gateway(): Promise<Gateway>;
  scriptedGateway(options?: { readonly delayMs?: number }): Promise<ScriptedGateway>;
  relayer(options: Omit<RelayerOptions, "databaseUrl">): Promise<Relayer>;
  /** So many sessions in a process of their own. */
  sessions(count: number): Promise<Sessions>;
  /** An empty database beside the migrated one, for what is compared with it. */
  otherDatabase(name: string): Promise<string>;
  /** To be done at the end, last things first. */
  atEnd(end: () => unknown): void;
  /** Tells the person who waits what goes on. */
  say(what: string): void;
}

export interface StageOptions {
  readonly settings: Readonly<Record<string, string>>;
  /** Above 0, at most 1. */
  readonly scale: number;
  readonly say: (what: string) => void;
  /** Aborted with an Interrupted. */
  readonly signal: AbortSignal;
}

const DURABLE = { fsync: "on", synchronous_commit: "on", shared_buffers: "512MB", max_wal_size: "4GB" };

/** Somebody wants it to end: Ctrl-C, or a signal. */
export class Interrupted extends Error {}

/** Runs `play` on a stage that is gone afterwards, whatever happened. Throws Interrupted if `signal` aborts first. */
export async function onStage<T>(options: StageOptions, play: (stage: Stage) => Promise<T>): Promise<T> {
  const { signal } = options;
  signal.throwIfAborted();
  const interrupted = Promise.withResolvers<never>();
  // Whoever is no longer waited for may still fail.
  interrupted.promise.catch(() => {});
  const interrupt = () => interrupted.reject(signal.reason);
  signal.addEventListener("abort", interrupt, { once: true });
  const ends: (() => unknown)[] = [];
  const folder = mkdtempSync(join(tmpdir(), "outbox-bench-"));
  // The server may run as another user than we do, and has to get to its folder.
  chmodSync(folder, 0o755);
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const kept = async <S extends { stop(): unknown }>(starting: Promise<S>): Promise<S> => {
    const started = await starting;
    ends.push(() => started.stop());
    return started;
  };

  try {
    const postgres = await startLocalPostgres({
      dataDir: join(folder, "postgres"),
      port: await freePort(),
      user: "outbox",
      password: "outbox",
      database: "outbox",
      settings: { ...DURABLE, ...options.settings },
      initdbFlags: ["--no-sync"], // the empty folder; not what comes into it
    });
    ends.push(() => postgres.stop("immediate"));
    const databaseUrl = postgres.url();
    await migrate({ connectionString: databaseUrl, log: () => {} });
    const pool = new Pool({ connectionString: databaseUrl, max: 4 });
    ends.push(() => pool.end());
    const playing = play({
      databaseUrl,
      pool,
      size: (full) => Math.ceil(full * options.scale),
      milliseconds: (full) => Math.max(200, full * options.scale),
      rounds: (full) => Array.from({ length: options.scale < 0.01 ? 1 : full }, (_, n) => n + 1),
      gateway: () => kept(startGateway(folder)),
      scriptedGateway: (given) => kept(startScriptedGateway(given)),
      relayer: (given) => kept(startRelayer({ databaseUrl, ...given })),
      sessions: (count) => kept(startSessions(databaseUrl, count)),
      async otherDatabase(name) {
        await pool.query(`create database ${name}`);
        return postgres.url(name);
      },
      atEnd: (end) => void ends.push(end),
      say: options.say,
    });
    return await Promise.race([playing, interrupted.promise]);
  } finally {
    signal.removeEventListener("abort", interrupt);
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) {
      await Promise.resolve(end()).catch((error: Error) => options.say(`at the end: ${error.message}`));
    }
  }
}
