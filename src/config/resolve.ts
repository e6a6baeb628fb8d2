import { resolveAlerts } from "./alerts.ts";
import type { Config, GatewaySettings } from "./config.ts";
import { isLoopback } from "./loopback.ts";
import type { Settings } from "./schema.ts";
import { composeUrl } from "./urls.ts";

/** The settings as the program uses them: units in names, sections merged, URLs composed. */
export function resolve(settings: Settings): Config {
  const { embedded_postgres, query_store, relay, retention, shutdown, log } = settings;
  return {
    host: settings.host,
    port: settings.port,
    loopbackOnly: isLoopback(settings.host),
    api: { keys: settings.api.keys, corsOrigins: settings.api.cors_origins },
    databaseUrl: settings.database_url ?? postgresFromParts(settings.postgres),
    queryDatabaseUrl: settings.query_database_url,
    queryStore: {
      maxLagMs: query_store.max_lag,
      whenAway: query_store.when_away,
      primaryUrl: query_store.primary_url,
      retention: {
        sentMs: query_store.retention.sent,
        attemptsMs: query_store.retention.attempts,
        deadLettersMs: query_store.retention.dead_letters,
        auditMs: query_store.retention.audit,
        eventsMs: query_store.retention.events,
      },
    },
    embeddedPostgres: { port: embedded_postgres.port, dataDir: embedded_postgres.data_dir },
    redis: redis(settings.redis),
    relay: {
      mode: relay.mode,
      batchSize: relay.batch_size,
      pollIntervalMs: relay.poll_interval,
      deadAfterMs: relay.dead_after,
    },
    gateways: gateways(settings),
    retention: {
      sentMs: retention.sent,
      attemptsMs: retention.attempts,
      deadLettersMs: retention.dead_letters,
      auditMs: retention.audit,
      eventsMs: retention.events,
    },
    alerts: resolveAlerts(settings.alerts),
    tracing: tracing(settings.tracing),
    shutdown: { graceMs: shutdown.grace },
    metrics: metrics(settings),
    log: { level: log.level, levels: onlyNamed(log.levels) },
  };
}

function metrics({ host: apiHost, metrics }: Settings): Config["metrics"] {
  const { host = apiHost, port, token } = metrics;
  return {
    ownPort: port === undefined ? undefined : { host, port, loopbackOnly: isLoopback(host) },
    token,
  };
}

function postgresFromParts(postgres: Settings["postgres"]): string | undefined {
  if (Object.keys(postgres).length === 0) return undefined;
  const { host = "localhost", port = 5_432, user = "postgres", password = "", db = user } = postgres;
  return composeUrl("postgres", { host, port, user, password, database: db });
}

function redis({ url, host, port, password = "", db, ttl }: Settings["redis"]): Config["redis"] {
  if (url !== undefined) return { url, ttlMs: ttl };
  if (host === undefined) return undefined;
  return { url: composeUrl("redis", { host, port, user: "", password, database: String(db) }), ttlMs: ttl };
}

function tracing({ endpoint, headers, sample_ratio, service_name }: Settings["tracing"]): Config["tracing"] {
  if (endpoint === undefined) return undefined;
  const named = Object.fromEntries(headers.map(({ name, value }) => [name, value]));
  return { endpoint, headers: named, sampleRatio: sample_ratio, serviceName: service_name };
}

function gateways({ gateways, webhook, retry, circuit, relay }: Settings): Config["gateways"] {
  const named = Object.entries({
    ...gateways,
    default: { retry: {}, circuit: {}, ...webhook, ...gateways.default },
  });
  return Object.fromEntries(
    named.map(([name, its]) => [
      name,
      gateway({
        ...its,
        concurrency: its.concurrency ?? relay.concurrency,
        retry: { ...retry, ...its.retry },
        circuit: { ...circuit, ...its.circuit },
      }),
    ]),
  );
}

function gateway(its: Settings["gateways"][string]): GatewaySettings {
  return onlyNamed({
    url: its.url,
    authKey: its.auth_key,
    secret: its.secret,
    timeoutMs: its.timeout,
    concurrency: its.concurrency,
    onUnknown: its.on_unknown,
    holdForMs: its.hold_for,
    maxAttempts: its.retry.max_attempts,
    baseDelayMs: its.retry.base_delay,
    maxDelayMs: its.retry.max_delay,
    jitter: its.retry.jitter,
    ratePerSecond: its.rate_per_second,
    burst: its.burst,
    circuitFailures: its.circuit.failures,
    circuitRatio: its.circuit.ratio,
    circuitWindowMs: its.circuit.window,
    circuitPauseMs: its.circuit.pause,
    circuitMaxPauseMs: its.circuit.max_pause,
    circuitProbes: its.circuit.probes,
  });
}

type Named<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function onlyNamed<T extends object>(values: T): Named<T> {
  const named: Named<T> = { ...values } as Named<T>;
  for (const key of Object.keys(values) as (keyof T)[]) {
    if (values[key] === undefined) delete named[key];
  }
  return named;
}
