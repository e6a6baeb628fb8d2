import { setTimeout as pause } from "node:timers/promises";
import pgListen from "pg-listen";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
const CHECK_EVERY_MS = 10_000;
const TIMEOUT_MS = 5_000;

export interface ListenerOptions {
  readonly connectionString: string;
  readonly channel: string;
  readonly onNotification: (payload: string) => void;
  /** LISTEN is in force, for the first time or again: look once, notifications before this are lost. */
  readonly onConnected: () => void;
  readonly log: (message: string) => void;
}

export interface Listener {
  /** Returns after the first try, successful or not; from then on it never gives up. */
  start(): Promise<void>;
  /** Returns when the connection is closed, or no longer sought. */
  stop(): Promise<void>;
}

/**
 * LISTENs on one channel, on a connection of its own (not through a transaction pooler).
 *
 * pg-listen is used for one connection at a time, and told not to reconnect: its own loop cannot be ended while the database is
 * away, and a connection lost during its LISTEN is not tried again. The loop is ours. Nor does it let anybody at its connection,
 * which therefore stays that of the user who logs in, and not outbox_relayer's: LISTEN asks for no right.
 */
export function createListener(options: ListenerOptions): Listener {
  const { channel, log } = options;
  const stopping = new AbortController();
  const firstTry = Promise.withResolvers<void>();
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    let away = false;
    let delay = FIRST_PAUSE_MS;
    while (!stopping.signal.aborted) {
      const reason = await listenOnce(options, stopping.signal, () => {
        if (away) log(`Listening on ${channel} again`);
        away = false;
        delay = FIRST_PAUSE_MS;
        firstTry.resolve();
        options.onConnected();
      });
      firstTry.resolve();
      if (stopping.signal.aborted) return;
      if (!away) log(`Not listening on ${channel}: ${reason}; trying until it works`);
      away = true;
      await pause(delay, undefined, { signal: stopping.signal }).catch(() => {});
      delay = Math.min(delay * 2, LONGEST_PAUSE_MS);
    }
  }

  return {
    async start() {
      running ??= run();
      await Promise.race([firstTry.promise, running]);
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Connects, listens until the connection is lost or `stop` comes, closes. Returns why it ended. */
async function listenOnce(
  options: ListenerOptions,
  stop: AbortSignal,
  onListening: () => void,
): Promise<string> {
  const subscriber = pgListen.default(
    {
      connectionString: options.connectionString,
      application_name: "outbox-listen",
      connectionTimeoutMillis: TIMEOUT_MS,
      // Without it, the check on a connection to a host that has silently gone would wait for its answer for ever.
      query_timeout: TIMEOUT_MS,
    },
    {
      parse: (payload: string) => payload, // else JSON, and any other payload is an error
      paranoidChecking: CHECK_EVERY_MS,
      retryLimit: 1, // which is none
    },
  );
  const ended = Promise.withResolvers<string>();
  // With no retries, the only error is that the connection is gone.
  subscriber.events.on("error", () => ended.resolve("the connection was lost"));
  subscriber.events.on("notification", ({ payload }) => options.onNotification(payload ?? ""));
  const onStop = () => ended.resolve("stopped");
  stop.addEventListener("abort", onStop);
  subscriber
    .connect()
    .then(() => subscriber.listenTo(options.channel))
    .then(() => stop.aborted || onListening())
    .catch((error: unknown) => ended.resolve(error instanceof Error ? error.message : String(error)));
  const reason = await ended.promise;
  stop.removeEventListener("abort", onStop);
  await subscriber.close();
  return reason;
}
