import type { ParsedCronItem } from "graphile-worker";
import { createApp } from "./api/app.ts";
import type { ApiDependencies } from "./api/dependencies.ts";
import { startServer } from "./api/server.ts";
import type { Addresses } from "./banner.ts";
import type { Config } from "./config/config.ts";
import { gatewayColumns } from "./config/gateway-columns.ts";
import { withoutCredentials } from "./config/shown.ts";
import { createAlerts } from "./db/alerts.ts";
import { migrate } from "./db/migrate.ts";
import { closeMinutes } from "./db/minutes.ts";
import { isOutage } from "./db/outage.ts";
import { createOutbox, type Gateway } from "./db/outbox.ts";
import { mustBePrimary } from "./db/primary.ts";
import { createRelayerRole } from "./db/relayer-role.ts";
import { throughOutages } from "./db/wait-for-database.ts";
import type { Logs } from "./ops/log.ts";
import { createMetrics } from "./ops/metrics.ts";
import { createMinutes } from "./ops/minutes.ts";
import { createReceipts } from "./ops/receipts.ts";
import { createReporter } from "./ops/reporter.ts";
import type { Worker } from "./ops/worker.ts";
import { tellClock } from "./program/clock.ts";
import { figuresOf } from "./program/figures.ts";
import { gatewayAddress } from "./program/gateway-address.ts";
import { createJobs } from "./program/jobs.ts";
import { startMetricsServer } from "./program/metrics-server.ts";
import { createPools } from "./program/pools.ts";
import { liveness, readiness, type Stage } from "./program/probes.ts";
import { configuredStore } from "./program/query-store.ts";
import { createRelaying } from "./program/relaying.ts";
import { startTracing } from "./program/tracing.ts";
import { createUpkeep } from "./query-store/upkeep.ts";
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
  readonly logs: Logs;
  readonly services: Services;
  readonly signal: AbortSignal;
}

/** A twentieth of the time is enough for rendering metrics. */
const SCRAPES_REST = 20;

/** Starts everything, each part in `services`; resolves when messages are relayed. */
export async function startProgram(options: ProgramOptions): Promise<Addresses> {
  const { config, databaseUrl: connectionString, name, version, logs, services, signal } = options;
  const [databaseLog, relayLog, apiLog] = [logs.part("database"), logs.part("relay"), logs.part("api")];
  const queryStoreLog = logs.part("query_store");
  const warn = (message: string) => databaseLog.warn(message);
  const waiting = { connectionString, log: warn, signal };
  const stage: Stage = { migrated: false, relaying: false, draining: false };
  let fallbackUrl: string | undefined;

  const tracer = await startTracing(options);

  const role = createRelayerRole(connectionString, warn);
  const pools = createPools(connectionString, role, warn);
  const metrics = createMetrics({
    version,
    figures: figuresOf(pools.metrics, stage, () => relay.reachable(), logs.part("metrics")),
    rest: SCRAPES_REST,
  });
  await services.start("relay pool", { stop: () => pools.relay.end() });
  const outbox = createOutbox(pools.relay);
  const receipts =
    config.redis &&
    createReceipts({ ...config.redis, onError: () => metrics.redisError(), log: logs.part("redis") });
  if (receipts) await services.start("receipts", receipts);
  const events = createReporter({
    log: relayLog,
    metrics,
    isOutage,
    onSent: (ids, sentAt) => receipts?.record(ids, sentAt),
  });
  const { session, relay, listener } = createRelaying({
    config,
    connectionString,
    role,
    outbox,
    events,
    tracer,
    metrics,
    log: relayLog,
    name,
    version,
    workerId: () => worker.id(),
    fallbackUrl: () => fallbackUrl,
  });
  const upkeep =
    config.queryDatabaseUrl === undefined
      ? undefined
      : createUpkeep({
          databaseUrl: connectionString,
          queryDatabaseUrl: config.queryDatabaseUrl,
          kept: config.queryStore.retention,
          log: (message) => queryStoreLog.info(message),
          warn: (message) => queryStoreLog.warn(message),
        });
  const reading = configuredStore({
    config,
    databaseUrl: connectionString,
    role,
    log: queryStoreLog,
    metrics,
  });
  if (reading) await services.start("query pools", reading.pools);
  const worker: Worker = createJobs({
    config,
    crontab: options.crontab,
    pool: pools.worker,
    outbox,
    alerts: createAlerts(pools.relay),
    further: reading?.findings,
    relay,
    upkeep,
    metrics,
    log: logs.part("worker"),
    alertsLog: logs.part("alerts"),
  });

  // Before the database is there: probes want an answer while we wait for it, and a taken port is better known at once.
  await services.start("API pool", { stop: () => pools.api.end() });
  await services.start("metrics pool", { stop: () => pools.metrics.end() });
  const listeners = new AbortController();
  const operations = {
    log: (level, fields, message) => apiLog[level](fields, message),
    metrics: () => metrics.render(),
    metricsToken: config.metrics.token,
    alive: () => liveness(stage, relay),
    ready: () => readiness(stage, relay, session, reading?.store),
  } satisfies Partial<ApiDependencies>;
  const app = createApp({
    ...operations,
    metrics: config.metrics.ownPort === undefined ? operations.metrics : undefined,
    pool: pools.api,
    queryStore: reading?.store,
    version,
    keys: config.api.keys,
    corsOrigins: config.api.corsOrigins,
    loopbackOnly: config.loopbackOnly,
    stopping: listeners.signal,
    eventsKeptMs: Math.min(config.retention.eventsMs, config.retention.sentMs),
  });
  const server = await startServer({
    app,
    host: config.host,
    port: config.port,
    graceMs: 1_000,
    onError: (error) => apiLog.error({ err: error }, "the HTTP server cannot take a connection"),
  });
  await services.start("HTTP server", server);
  await startMetricsServer(config.metrics.ownPort, operations, services, logs.part("metrics"));
  // Before the server, which would wait for them.
  await services.start("event streams", { stop: () => listeners.abort() });

  const gateways = await throughOutages(waiting, async () => {
    await mustBePrimary(connectionString);
    await upkeep?.migrateStore();
    await migrate({ connectionString, log: (message) => databaseLog.info(message) });
    // It may have a large index to make there, for which no message waits.
    void upkeep?.refreshStore();
    await role.find();
    stage.migrated = true;
    for (const [gateway, settings] of Object.entries(config.gateways)) {
      await outbox.configureGateway(gateway, gatewayColumns(settings));
    }
    for (const done of await outbox.maintain(config.retention)) databaseLog.info(`maintenance: ${done}`);
    const { gateways: found, clock_ms } = await outbox.state();
    tellClock(Date.now() - clock_ms, warn);
    return found;
  });
  const defaultGateway = gateways.find((gateway) => gateway.name === "default") as Gateway;
  if (defaultGateway.url === null) fallbackUrl = await options.fallbackGateway?.();
  for (const gateway of gateways) {
    if (gatewayAddress(gateway, fallbackUrl) === undefined)
      relayLog.warn({ gateway: gateway.name }, "gateway without a url: its messages wait");
  }
  signal.throwIfAborted();

  if (reading) await services.start("query store", reading.store);
  await services.start("session", session);
  await services.start("relay", {
    async start() {
      await relay.start();
      stage.relaying = true;
    },
    stop: () => relay.stop(config.shutdown.graceMs),
  });
  await services.start("listener", listener);
  const minutes = createMinutes({
    async close() {
      const { closed, untold } = await closeMinutes(pools.relay);
      for (const ended of untold) events.endedUntold(ended);
      return closed;
    },
    onError: (error) => events.error("close_minutes", error),
  });
  await services.start("minutes", minutes);
  await services.start("worker", worker);
  // A replay may have been asked for before Graphile Worker had its queue, or have lost its job.
  await throughOutages(waiting, () => outbox.queueReplays());
  // Stopped first of all: from here on we are not ready.
  await services.start("readiness", {
    stop() {
      stage.draining = true;
    },
  });

  const address = gatewayAddress(defaultGateway, fallbackUrl);
  return {
    psql: connectionString,
    api: `${server.url}/api/v1`,
    swagger: `${server.url}/api/v1/swagger/index.html`,
    gateway:
      address === undefined
        ? "nowhere: set WEBHOOK_URL, or url in outbox.gateways"
        : withoutCredentials(address),
  };
}
