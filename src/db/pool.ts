import { setTimeout as pause } from "node:timers/promises";
import { type ClientBase, Pool, type PoolClient, type PoolConfig } from "pg";
import { isOutage } from "./outage.ts";
import { wireTypes } from "./wire-types.ts";

export interface PoolOptions {
  readonly connectionString: string;
  /** Most connections at once. */
  readonly max: number;
  /** What pg_stat_activity shows. */
  readonly applicationName: string;
  readonly log: (message: string) => void;
  /**
   * The server cancels a statement that takes longer. Sent as the connection starts, which a pooler has to allow
   * (PgBouncer: ignore_startup_parameters); without it nothing but the usual is sent.
   */
  readonly statementTimeoutMs?: number;
  /** We stop waiting for an answer that takes longer: the only help against a host that has silently gone. */
  readonly queryTimeoutMs?: number;
  /** How long a connection, or a free place in the pool, may take; 5 s by default. */
  readonly connectTimeoutMs?: number;
  /** Done with each new connection before anything else is. */
  readonly onConnect?: (client: ClientBase) => Promise<void>;
}

/**
 * A pool whose broken connections never end the process: a query in flight rejects, an idle connection is replaced
 * silently, and the log gets one line an outage.
 */
export function createPool(options: PoolOptions): CountedPool {
  return guarded(new CountedPool({ ...poolConfig(options), types: wireTypes }), options);
}

/** Knows whether it is full of work. (`totalCount` counts those that are still being connected, too.) */
export class CountedPool extends Pool {
  #atWork = 0;

  constructor(config: PoolConfig) {
    super(config);
    this.on("acquire", () => this.#atWork++);
    this.on("release", () => this.#atWork--);
  }

  /** Whether every connection that there may be is at work: who gets none waits for others, not for Postgres. */
  get full(): boolean {
    return this.#atWork >= this.options.max;
  }
}

/**
 * A pool for graphile-worker, which takes a failed connect for the end of the world: a job that finishes while
 * Postgres is away is an unhandled rejection, and stays locked for hours. Here `connect()` waits until the database is back,
 * for ever if the pool ends before, and a query cut off by an outage fails with a code that graphile-worker retries. Values are
 * as node-postgres has them, for it reckons with dates.
 */
export function createWaitingPool(options: PoolOptions): Pool {
  const pool = guarded(new WaitingPool(poolConfig(options)), options);
  pool.on("connect", retryCutOffQueries);
  return pool;
}

const LAST_CONNECT_MS = 1_000;

type ConnectCallback = (
  error: Error | undefined,
  client: PoolClient | undefined,
  done: (destroy?: Error | boolean) => void,
) => void;

class WaitingPool extends Pool {
  readonly #end = new AbortController();
  readonly #connecting = new Set<Promise<PoolClient>>();

  override connect(): Promise<PoolClient>;
  override connect(callback: ConnectCallback): void;
  override connect(callback?: ConnectCallback): Promise<PoolClient> | undefined {
    const client = this.#connectOrWait();
    this.#connecting.add(client);
    const connected = () => this.#connecting.delete(client);
    client.then(connected, connected);
    if (callback === undefined) return client;
    // pool.query() and graphile-worker's LISTEN come this way.
    client.then(
      (got) => callback(undefined, got, got.release),
      (error) => callback(error, undefined, () => {}),
    );
    return undefined;
  }

  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | undefined {
    const ended = this.#endLater();
    if (callback === undefined) return ended;
    void ended.then(callback);
    return undefined;
  }

  /**
   * An ended pool forgets who waits for a connection. graphile-worker writes that a job is done without telling anybody, and a
   * job whose end is lost stays locked for hours: so those who asked before the end get their connection, if there is one.
   */
  async #endLater(): Promise<void> {
    await Promise.race([Promise.allSettled(this.#connecting), pause(LAST_CONNECT_MS)]);
    this.#end.abort();
    await super.end();
  }

  async #connectOrWait(): Promise<PoolClient> {
    for (let delay = 100; !this.ending; delay = Math.min(delay * 2, 2_000)) {
      try {
        return await super.connect();
      } catch (error) {
        if (!this.ending && !isOutage(error)) throw error;
      }
      await pause(delay * (0.5 + Math.random() / 2), undefined, { signal: this.#end.signal }).catch(() => {});
    }
    // graphile-worker, told that the pool has ended, would throw it where nobody catches it. The program is ending: let it wait.
    return new Promise(() => {});
  }
}

function poolConfig(options: PoolOptions): PoolConfig {
  return {
    connectionString: options.connectionString,
    max: options.max,
    application_name: options.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    statement_timeout: options.statementTimeoutMs,
    query_timeout: options.queryTimeoutMs,
    onConnect: options.onConnect,
  };
}

function guarded<P extends Pool>(pool: P, { applicationName, log }: PoolOptions): P {
  let lost = false;
  pool.on("connect", (client) => {
    lost = false;
    // While checked out, a client has no listener but this one, and an "error" without a listener ends the process.
    client.on("error", () => {});
  });
  pool.on("error", (error) => {
    if (lost) return; // a restart breaks every idle connection at once
    lost = true;
    log(`${applicationName}: lost its idle connections to Postgres: ${error.message}`);
  });
  return pool;
}

/** graphile-worker goes by `code`, and knows neither those of a shutdown nor node-postgres' errors without one. */
function retryCutOffQueries(client: ClientBase): void {
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  const retrying = (...args: unknown[]) => {
    const result = query(...args);
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      if (!(error instanceof Error) || !isOutage(error)) throw error;
      throw Object.assign(new Error(error.message, { cause: error }), { code: "57P03" });
    });
  };
  client.query = retrying as typeof client.query;
}
