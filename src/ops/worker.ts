import { EventEmitter } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import {
  Logger,
  type ParsedCronItem,
  parseCrontab,
  type Runner,
  run,
  type TaskList,
  type WorkerEvents,
} from "graphile-worker";
import type { Pool } from "pg";
import { isOutage } from "../db/outage.ts";
import { WORKER_SCHEMA } from "../db/worker-schema.ts";

export interface WorkerOptions {
  /** Used for nothing else; ended by stop(). It must wait out an outage: graphile-worker does not. */
  readonly pool: Pool;
  readonly crontab: readonly ParsedCronItem[];
  readonly tasks: TaskList;
  readonly log: (level: "debug" | "info" | "warn" | "error", message: string) => void;
}

export interface Worker {
  start(): Promise<void>;
  /** The name under which it locks jobs; undefined before it has started. */
  id(): string | undefined;
  stop(): Promise<void>;
}

/** A line of the crontab that cannot be run, as a sentence for the person who wrote it. */
export class CrontabError extends Error {
  override readonly name = "CrontabError";
}

/** @throws CrontabError for a line that does not parse, and for a task that there is not. */
export function readCrontab(text: string, path: string, tasks: readonly string[]): ParsedCronItem[] {
  let items: ParsedCronItem[];
  try {
    items = parseCrontab(text);
  } catch (error) {
    throw new CrontabError(`${path}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  const unknown = items.map(({ task }) => task).filter((task) => !tasks.includes(task));
  if (unknown.length > 0) {
    throw new CrontabError(`${path}: there is no task ${unknown.join(", ")}; there are ${tasks.join(", ")}.`);
  }
  return items;
}

const RESTART_MS = 1_000;
const STOP_MS = 3_000;
/** What heeds the abort signal, as a notice that hangs, has to have ended by then. */
const ABORT_MS = 1_000;

/** Graphile Worker, with its queue in a schema of ours: the crontab and the jobs of this project. */
export function createWorker({ pool, crontab, tasks, log }: WorkerOptions): Worker {
  const logger = new Logger(
    () => (level, message) => log(levelOf(level, message), `graphile-worker: ${message}`),
  );
  const stopping = new AbortController();
  const events: WorkerEvents = new EventEmitter();
  let id: string | undefined;
  events.on("pool:create", ({ workerPool }) => {
    id = workerPool.id;
  });
  let runner: Runner | undefined;
  let stopped: Promise<void> | undefined;

  function begin(): Promise<Runner> {
    return run({
      pgPool: pool,
      schema: WORKER_SCHEMA,
      parsedCronItems: [...crontab],
      taskList: tasks,
      // Two for the jobs of the relay, and one for a notice whose mail server hangs: more than one at a time never run.
      concurrency: 3,
      // Only by polling does it find a job that has become due, as the next slice of a replay.
      pollInterval: 1_000,
      // Signals are main's; graphile-worker's handlers would end the process before the drain.
      noHandleSignals: true,
      gracefulShutdownAbortTimeout: ABORT_MS,
      events,
      logger,
    });
  }

  /** A runner that ends by itself, which it does for errors that it takes for the end of the world, begins anew. */
  async function watch(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await runner?.promise;
        if (runner !== undefined && !stopping.signal.aborted)
          log("warn", "graphile-worker stopped by itself; starting it again");
      } catch (error) {
        log(
          "warn",
          `graphile-worker failed; starting it again: ${error instanceof Error ? error.message : error}`,
        );
      }
      await pause(RESTART_MS, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      runner = await begin().catch(() => undefined);
    }
  }

  async function stop(): Promise<void> {
    stopping.abort();
    // It throws when it has stopped already. And while Postgres is away it waits for it, as long as the pool lets it.
    await inTime(runner?.stop().catch(() => {}));
    // It does not give back a connection for LISTEN that it gets while it stops, and the pool would wait for that one.
    await inTime(pool.end());
  }

  async function inTime(work: Promise<unknown> | undefined): Promise<void> {
    await Promise.race([work, pause(STOP_MS, undefined, { ref: false })]);
  }

  return {
    async start() {
      runner = await begin().catch((error: unknown) => {
        if (!isOutage(error)) throw error;
        log("warn", "Postgres went away as graphile-worker started; starting it again");
        return undefined;
      });
      void watch();
    },
    id: () => id,
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** Its every start and stop is no news here, and that Postgres is away others say. */
function levelOf(level: string, message: string): "debug" | "warn" | "error" {
  if (/notify listener|UNLISTEN/.test(message)) return "debug";
  if (level === "error") return "error";
  return level === "warning" ? "warn" : "debug";
}
