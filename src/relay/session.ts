import { setTimeout as pause } from "node:timers/promises";
import { Client, type ClientBase } from "pg";

export interface SessionOptions {
  readonly connectionString: string;
  /** Done with each new connection before anything else is. */
  readonly onConnect?: (client: ClientBase) => Promise<void>;
  /** Host and process, for people. */
  readonly name: string;
  readonly version: string;
  /** The name under which our Graphile Worker locks jobs; undefined before it has started. */
  readonly worker: () => string | undefined;
  /** A relayer not heard of for so long is taken for dead. */
  readonly deadAfterMs: number;
  /** A number was given, for the first time or anew. */
  readonly onRegistered: (relayer: number) => void;
  /** The number is gone: what is claimed under it will be rescued. */
  readonly onLost: (reason: string) => void;
  readonly onRescued: (rescued: Rescued) => void;
  /** Asked before each rescue: an earlier number's attempts may still be under way here, and their results be known soon. */
  readonly mayRescue: (relayer: number) => boolean;
  readonly beatMs?: number;
}

export interface Rescued {
  readonly relayer: number;
  readonly name: string;
  readonly rescued: number;
}

/** This process as a relayer: its number, the lock that proves it alive, its heartbeat, and the rescue of others. */
export interface Session {
  /** Returns after the first try to register; from then on it never gives up. */
  start(): Promise<void>;
  /** undefined: no number now, so nothing may be claimed. */
  number(): number | undefined;
  /** Until when no other relayer takes this one for dead, on the clock of `performance.now()`. */
  aliveUntilMs(): number;
  stop(): Promise<void>;
}

const BEAT_MS = 1_000;
const TIMEOUT_MS = 5_000;
const RETRY_MS = 500;

/**
 * On a connection of its own, because the lock is the session's: when the process or its host goes, Postgres frees the lock and
 * any other relayer knows. The heartbeat goes over the same connection, so that losing it is noticed by both sides.
 */
export function createSession(options: SessionOptions): Session {
  const { name, version, deadAfterMs, beatMs = BEAT_MS } = options;
  const stopping = new AbortController();
  const firstTry = Promise.withResolvers<void>();
  let relayer: number | undefined;
  let heardAtMs = Number.NEGATIVE_INFINITY;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const reason = await live().catch((error: unknown) =>
        error instanceof Error ? error.message : String(error),
      );
      firstTry.resolve();
      if (relayer !== undefined) {
        relayer = undefined;
        if (!stopping.signal.aborted) options.onLost(reason);
      }
      await sleep(RETRY_MS);
    }
  }

  /** One connection, from its beginning to its end. */
  async function live(): Promise<string> {
    const client = new Client({
      connectionString: options.connectionString,
      application_name: `outbox-relayer ${name}`,
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: TIMEOUT_MS,
      keepAlive: true,
    });
    const broken = new AbortController();
    client.on("error", () => broken.abort());
    client.on("end", () => broken.abort());
    try {
      await client.connect();
      await options.onConnect?.(client);
      await register(client);
      firstTry.resolve();
      while (!stopping.signal.aborted) {
        await beat(client);
        await sleep(beatMs, broken.signal);
        if (broken.signal.aborted) return "its connection was lost";
      }
      await client.query("select outbox.unregister_relayer($1)", [relayer]);
      return "stopped";
    } finally {
      // A connection that no longer answers would keep us waiting for its farewell.
      if (broken.signal.aborted || !stopping.signal.aborted) client.end().catch(() => {});
      else await client.end();
    }
  }

  async function register(client: Client): Promise<void> {
    const asked = performance.now();
    const { rows } = await client.query<{ number: number }>(
      "select outbox.register_relayer($1, $2, $3) as number",
      [name, version, options.worker()],
    );
    heardAtMs = asked;
    relayer = rows[0]?.number as number;
    options.onRegistered(relayer);
  }

  async function beat(client: Client): Promise<void> {
    const asked = performance.now();
    const { rows } = await client.query<{ alive: boolean }>("select outbox.heartbeat($1, $2) as alive", [
      relayer,
      options.worker(),
    ]);
    if (rows[0]?.alive === false) {
      options.onLost("another relayer took it for dead");
      await register(client);
    }
    heardAtMs = asked;
    if (!options.mayRescue(relayer as number)) return;
    const rescue = await client.query<Rescued>("select * from outbox.rescue(make_interval(secs => $1))", [
      deadAfterMs / 1_000,
    ]);
    for (const rescued of rescue.rows) options.onRescued(rescued);
  }

  async function sleep(ms: number, broken?: AbortSignal): Promise<void> {
    const signal = broken === undefined ? stopping.signal : AbortSignal.any([stopping.signal, broken]);
    await pause(ms, undefined, { signal }).catch(() => {});
  }

  return {
    async start() {
      running ??= run();
      await firstTry.promise;
    },
    number: () => relayer,
    aliveUntilMs: () => heardAtMs + deadAfterMs,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
