import type { ParsedCronItem } from "graphile-worker";
import { createMaintainTask } from "../tasks/maintain.ts";
import { createRelayTask } from "../tasks/relay.ts";
import { createReplayTask } from "../tasks/replay.ts";
import { createApp } from "./api/app.ts";
import { startServer } from "./api/server.ts";
import type { Addresses } from "./banner.ts";
import type { Config } from "./config/config.ts";
import { formatDuration } from "./config/duration.ts";
import { gatewayColumns } from "./config/gateway-columns.ts";
import { createListener } from "./db/listener.ts";
import { migrate } from "./db/migrate.ts";
import { isOutage } from "./db/outage.ts";
import { createOutbox, type Gateway } from "./db/outbox.ts";
import { createPool, createWaitingPool } from "./db/pool.ts";
import { createRelayerRole } from "./db/relayer-role.ts";
import { throughOutages } from "./db/wait-for-database.ts";
import { createDeadlineWheel } from "./gateway/deadline-wheel.ts";
import { createWebhook } from "./gateway/webhook.ts";
import type { Logger } from "./ops/log.ts";
import { createMetrics } from "./ops/metrics.ts";
import { createMinutes } from "./ops/minutes.ts";
import { createReceipts } from "./ops/receipts.ts";
import { createReporter } from "./ops/reporter.ts";
import { createWorker } from "./ops/worker.ts";
import { createRelay } from "./relay/relay.ts";
import { createSession } from "./relay/session.ts";
import type { Services } from "./services.ts";

export interface ProgramOptions {
  readonly config: Config;
  readonly crontab: readonly ParsedCronItem[];
  readonly databaseUrl: string;
  /** Where messages of the default gateway go that has no address; starts what is there. */
  readonly fallbackGateway: (() => Promise<string>) | undefined;
  readonly version: string;
  /** Host and process, for people. */
  readonly name: string;
  readonly log: Logger;
  readonly services: Services;
  readonly signal: AbortSignal;
}

/** What the crontab may name. (The task replay is none of it: it has to be told which replay.) */
export const TASKS = ["relay", "maintain"] as const;

/** The relay loop is taken for stuck when it has not turned for so long. It turns each second, also without Postgres. */
const STUCK_MS = 60_000;
/** Cron counts in minutes. */
const CLOCK_TOLERANCE_MS = 30_000;
const API_CONNECT_TIMEOUT_MS = 2_000;
const API_STATEMENT_TIMEOUT_MS = 10_000;
const RELAY_QUERY_TIMEOUT_MS = 30_000;

/** Starts everything, each part in `services`; resolves when messages are relayed. */
export async function startProgram(options: ProgramOptions): Promise<Addresses> {
  const { config, databaseUrl: connectionString, version, log, services, signal } = options;
  const continuous = config.relay.mode === "continuous";
  const metrics = createMetrics({ version });
  const warn = (message: string) => log.warn(message);
  const state = { migrated: false, draining: false, fallbackUrl: undefined as string | undefined };

  const receipts =
    config.redis && createReceipts({ ...config.redis, onError: () => metrics.redisError(), log });
  if (receipts) await services.start("receipts", receipts);

  const role = createRelayerRole(connectionString, warn);
  const relayPool = createPool({
    connectionString,
    onConnect: role.become,
    max: 8,
    applicationName: "outbox-relay",
    queryTimeoutMs: RELAY_QUERY_TIMEOUT_MS,
    log: warn,
  });
  await services.start("relay pool", { stop: () => relayPool.end() });
  const outbox = createOutbox(relayPool);

  const events = createReporter({
    log,
    metrics,
    isOutage,
    onSent: (ids, sentAt) => receipts?.record(ids, sentAt),
  });
  const session = createSession({
    connectionString,
    onConnect: role.become,
    name: options.name,
    version,
    worker: () => worker.id(),
    deadAfterMs: config.relay.deadAfterMs,
    onRegistered(relayer) {
      log.info({ relayer }, "registered as a relayer");
      relay.wake();
    },
    onLost(reason) {
      log.warn({ reason }, "this relayer lost its number; it takes a new one");
      void relay.drop();
    },
    mayRescue: (relayer) => !relay.holdsClaimsBefore(relayer),
    onRescued({ relayer, name, rescued }) {
      metrics.rescuedClaims(rescued);
      const whose = name === options.name ? "an earlier number of this relayer" : "another relayer";
      const fields = { dead_relayer: relayer, name, claims: rescued };
      if (rescued > 0) log.warn(fields, `${whose} is gone; its claims are free again`);
      else log.info(fields, `${whose} is gone; it had claimed nothing`);
    },
  });
  const deadlines = createDeadlineWheel();
  const relay = createRelay({
    outbox,
    events,
    isOutage,
    relayer: () => session.number(),
    aliveUntilMs: () => session.aliveUntilMs(),
    continuous,
    batchSize: config.relay.batchSize,
    pollIntervalMs: config.relay.pollIntervalMs,
    createWebhook(gateway, installation) {
      const url = urlOf(gateway, state.fallbackUrl);
      if (url === undefined) return undefined;
      const { authKey, secret } = config.gateways[gateway.name] ?? {};
      return createWebhook({
        url,
        authKey,
        secret,
        timeoutMs: gateway.timeout_ms,
        concurrency: gateway.concurrency,
        installation,
        userAgent: `outbox-relayer/${version}`,
        deadlines,
      });
    },
  });

  const worker = createWorker({
    pool: createWaitingPool({
      connectionString,
      onConnect: role.become,
      max: 4,
      applicationName: "outbox-worker",
      log: warn,
    }),
    crontab: options.crontab,
    log: (level, message) => log[level](message),
    tasks: {
      relay: createRelayTask({
        continuous,
        async wake() {
          metrics.wakeup("cron");
          relay.wake();
          await outbox.notify("cron");
        },
        tick: (tick) => relay.tick(tick),
        log: (fields, message) => log.info(fields, message),
      }),
      maintain: createMaintainTask({
        maintain: () => outbox.maintain(config.retention),
        log: (fields, message) => log.info(fields, message),
      }),
      replay: createReplayTask({
        slice: (replay) => outbox.replaySlice(replay),
        queue: (replay, waitMs) => outbox.queueReplays(replay, waitMs),
        log: (fields, message) => log.info(fields, message),
      }),
    } satisfies Record<(typeof TASKS)[number] | "replay", unknown>,
  });

  // Before the database is there: probes want an answer while we wait for it, and a taken port is better known at once.
  const apiPool = createPool({
    connectionString,
    onConnect: role.become,
    max: 8,
    applicationName: "outbox-api",
    // The API has shorter deadlines of its own, but only the server can end what nobody waits for any more.
    statementTimeoutMs: API_STATEMENT_TIMEOUT_MS,
    connectTimeoutMs: API_CONNECT_TIMEOUT_MS,
    log: warn,
  });
  await services.start("API pool", { stop: () => apiPool.end() });
  const listeners = new AbortController();
  const app = createApp({
    pool: apiPool,
    version,
    keys: config.api.keys,
    corsOrigins: config.api.corsOrigins,
    loopbackOnly: config.loopbackOnly,
    log: (level, fields, message) => log[level](fields, message),
    stopping: listeners.signal,
    eventsKeptMs: Math.min(config.retention.eventsMs, config.retention.sentMs),
    metrics: () => metrics.render(),
    alive: () =>
      !state.migrated || relay.lastTurnMsAgo() < STUCK_MS
        ? { alive: true }
        : {
            alive: false,
            reason: `the relay loop has not turned for ${Math.round(relay.lastTurnMsAgo() / 1_000)} s`,
          },
    ready() {
      const parts = {
        migrated: { ok: state.migrated },
        database: { ok: relay.reachable() },
        relayer: { ok: session.number() !== undefined },
        not_draining: { ok: !state.draining },
        // Its messages wait, and the others' go on: no reason to take this relayer away.
        gateways: { ok: true, ...stoppedGateways(relay.gateways()) },
      };
      return { ready: Object.values(parts).every(({ ok }) => ok), parts };
    },
  });
  const server = await startServer({
    app,
    host: config.host,
    port: config.port,
    graceMs: 1_000,
    onError: (error) => log.error({ err: error }, "the HTTP server cannot take a connection"),
  });
  await services.start("HTTP server", server);
  // Before the server, which would wait for them.
  await services.start("event streams", { stop: () => listeners.abort() });

  const gateways = await throughOutages({ connectionString, log: warn, signal }, async () => {
    await migrate({ connectionString, log: (message) => log.info(message) });
    await role.find();
    state.migrated = true;
    for (const [name, settings] of Object.entries(config.gateways)) {
      await outbox.configureGateway(name, gatewayColumns(settings));
    }
    for (const done of await outbox.maintain(config.retention)) log.info(`maintenance: ${done}`);
    const { gateways: found, clock_ms } = await outbox.state();
    tellClock(Date.now() - clock_ms, warn);
    return found;
  });
  const defaultGateway = gateways.find(({ name }) => name === "default") as Gateway;
  if (defaultGateway.url === null) state.fallbackUrl = await options.fallbackGateway?.();
  for (const gateway of gateways) {
    if (urlOf(gateway, state.fallbackUrl) === undefined)
      log.warn({ gateway: gateway.name }, "gateway without a url: its messages wait");
  }
  signal.throwIfAborted();

  await services.start("session", session);
  await services.start("relay", {
    start: () => relay.start(),
    stop: () => relay.stop(config.shutdown.graceMs),
  });
  await services.start(
    "listener",
    createListener({
      connectionString,
      channel: "outbox",
      log: warn,
      onConnected() {
        metrics.wakeup("notify");
        relay.wake();
      },
      onNotification(payload) {
        metrics.wakeup("notify");
        // The switch or a gateway has changed: look at that first.
        if (["pause", "resume", "hold"].includes(payload)) void relay.refresh().then(() => relay.wake());
        else relay.wake();
      },
    }),
  );
  await services.start(
    "minutes",
    createMinutes({
      close: () => outbox.closeMinutes(),
      onError: (error) => events.error("close_minutes", error),
    }),
  );
  await services.start("worker", worker);
  // A replay may have been asked for before Graphile Worker had its queue, or have lost its job.
  await throughOutages({ connectionString, log: warn, signal }, () => outbox.queueReplays());
  // Stopped first of all: from here on we are not ready.
  await services.start("readiness", {
    stop() {
      state.draining = true;
    },
  });

  return {
    psql: connectionString,
    api: `${server.url}/api/v1`,
    swagger: `${server.url}/api/v1/swagger/index.html`,
    gateway:
      urlOf(defaultGateway, state.fallbackUrl) ?? "nowhere: set WEBHOOK_URL, or url in outbox.gateways",
  };
}

function urlOf(gateway: Gateway, fallbackUrl: string | undefined): string | undefined {
  return gateway.url ?? (gateway.name === "default" ? fallbackUrl : undefined);
}

/** Messages go by Postgres' clock alone. Graphile Worker's crontab does not. */
function tellClock(aheadMs: number, warn: (message: string) => void): void {
  if (Math.abs(aheadMs) < CLOCK_TOLERANCE_MS) return;
  const off = `${formatDuration(Math.round(Math.abs(aheadMs) / 1_000) * 1_000)} ${aheadMs > 0 ? "ahead of" : "behind"}`;
  warn(
    `this host's clock is ${off} Postgres': the crontab goes by it, and a clock that is ahead keeps the crontab of all relayers from running until the others have caught up; set it right`,
  );
}

/** For people: which gateways are left alone now, and why. */
function stoppedGateways(gateways: readonly Gateway[]): { detail?: string } {
  const stopped = gateways.flatMap(({ name, paused, held_until, hold_reason, hold_detail, circuit }) => {
    if (paused) return `${name}: paused`;
    if (held_until === null) return circuit === "closed" ? [] : `${name}: to be probed (${hold_detail})`;
    return `${name}: ${hold_reason} until ${held_until} (${hold_detail})`;
  });
  return stopped.length === 0 ? {} : { detail: stopped.join("; ") };
}
