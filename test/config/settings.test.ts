import { expect, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { PARTS } from "../../src/config/levels.ts";
import { settingPaths } from "../../src/config/schema.ts";
import { load, SECRET, yamlOf } from "./loading.ts";

/** path, text as YAML and environment give it, where it ends, what it is there */
type Row = readonly [path: string, given: string, where: (config: Config) => unknown, expected: unknown];

const ROWS: readonly Row[] = [
  ["host", "127.0.0.2", (c) => c.host, "127.0.0.2"],
  ["port", "0", (c) => c.port, 0],
  [
    "api.keys",
    `support:read+read_pii:${"A1".repeat(32)}`,
    (c) => c.api.keys,
    [{ name: "support", scopes: ["read", "read_pii"], sha256: "a1".repeat(32), expiresAt: undefined }],
  ],
  ["api.cors_origins", "https://desk.example", (c) => c.api.corsOrigins, ["https://desk.example"]],
  ["database_url", "postgresql://u:p@db/x", (c) => c.databaseUrl, "postgresql://u:p@db/x"],
  ["postgres.host", "db.internal", (c) => c.databaseUrl, "postgres://postgres@db.internal:5432/postgres"],
  ["postgres.port", "6543", (c) => c.databaseUrl, "postgres://postgres@localhost:6543/postgres"],
  ["postgres.user", "app", (c) => c.databaseUrl, "postgres://app@localhost:5432/app"],
  ["postgres.password", "p@ss", (c) => c.databaseUrl, "postgres://postgres:p%40ss@localhost:5432/postgres"],
  ["postgres.db", "sms", (c) => c.databaseUrl, "postgres://postgres@localhost:5432/sms"],
  ["query_database_url", "postgres://u:p@r/x", (c) => c.queryDatabaseUrl, "postgres://u:p@r/x"],
  ["query_store.max_lag", "1s", (c) => c.queryStore.maxLagMs, 1_000],
  ["query_store.when_away", "unavailable", (c) => c.queryStore.whenAway, "unavailable"],
  ["query_store.primary_url", "postgres://s:p@db/x", (c) => c.queryStore.primaryUrl, "postgres://s:p@db/x"],
  ["query_store.retention.sent", "1095d", (c) => c.queryStore.retention.sentMs, 94_608_000_000],
  ["query_store.retention.attempts", "1d", (c) => c.queryStore.retention.attemptsMs, 86_400_000],
  ["query_store.retention.dead_letters", "2d", (c) => c.queryStore.retention.deadLettersMs, 172_800_000],
  ["query_store.retention.audit", "3d", (c) => c.queryStore.retention.auditMs, 259_200_000],
  ["query_store.retention.events", "4d", (c) => c.queryStore.retention.eventsMs, 345_600_000],
  ["embedded_postgres.port", "55555", (c) => c.embeddedPostgres.port, 55_555],
  ["embedded_postgres.data_dir", "/tmp/pg", (c) => c.embeddedPostgres.dataDir, "/tmp/pg"],
  ["redis.url", "rediss://r:1/2", (c) => c.redis, { url: "rediss://r:1/2", ttlMs: 86_400_000 }],
  ["redis.host", "cache", (c) => c.redis, { url: "redis://cache:6379/0", ttlMs: 86_400_000 }],
  ["relay.mode", "scheduled", (c) => c.relay.mode, "scheduled"],
  ["relay.batch_size", "2", (c) => c.relay.batchSize, 2],
  ["relay.poll_interval", "50ms", (c) => c.relay.pollIntervalMs, 50],
  ["relay.dead_after", "1m", (c) => c.relay.deadAfterMs, 60_000],
  ["relay.concurrency", "7", (c) => c.gateways.default, { concurrency: 7 }],
  ["retry.max_attempts", "9", (c) => c.gateways.default, { maxAttempts: 9 }],
  ["retry.base_delay", "3s", (c) => c.gateways.default, { baseDelayMs: 3_000 }],
  ["retry.max_delay", "1h", (c) => c.gateways.default, { maxDelayMs: 3_600_000 }],
  ["retry.jitter", "0.5", (c) => c.gateways.default, { jitter: 0.5 }],
  ["circuit.failures", "9", (c) => c.gateways.default, { circuitFailures: 9 }],
  ["circuit.ratio", "0.25", (c) => c.gateways.default, { circuitRatio: 0.25 }],
  ["circuit.window", "1m", (c) => c.gateways.default, { circuitWindowMs: 60_000 }],
  ["circuit.pause", "3s", (c) => c.gateways.default, { circuitPauseMs: 3_000 }],
  ["circuit.max_pause", "2m", (c) => c.gateways.default, { circuitMaxPauseMs: 120_000 }],
  ["circuit.probes", "1", (c) => c.gateways.default, { circuitProbes: 1 }],
  [
    "webhook.url",
    "https://sms.example/x?y=1",
    (c) => c.gateways.default,
    { url: "https://sms.example/x?y=1" },
  ],
  ["webhook.auth_key", "key 1", (c) => c.gateways.default, { authKey: "key 1" }],
  ["webhook.secret", SECRET, (c) => c.gateways.default, { secret: SECRET }],
  ["webhook.timeout", "250ms", (c) => c.gateways.default, { timeoutMs: 250 }],
  ["webhook.on_unknown", "park", (c) => c.gateways.default, { onUnknown: "park" }],
  ["webhook.hold_for", "2m", (c) => c.gateways.default, { holdForMs: 120_000 }],
  ["webhook.rate_per_second", "0.5", (c) => c.gateways.default, { ratePerSecond: 0.5 }],
  ["webhook.burst", "20", (c) => c.gateways.default, { burst: 20 }],
  ["gateways.*.url", "http://127.0.0.1:1/", (c) => c.gateways["bulk-1"], { url: "http://127.0.0.1:1/" }],
  ["gateways.*.auth_key", "k", (c) => c.gateways["bulk-1"], { authKey: "k" }],
  ["gateways.*.secret", SECRET.slice(6), (c) => c.gateways["bulk-1"], { secret: SECRET.slice(6) }],
  ["gateways.*.timeout", "10m", (c) => c.gateways["bulk-1"], { timeoutMs: 600_000 }],
  ["gateways.*.concurrency", "4096", (c) => c.gateways["bulk-1"], { concurrency: 4_096 }],
  ["gateways.*.on_unknown", "retry", (c) => c.gateways["bulk-1"], { onUnknown: "retry" }],
  ["gateways.*.hold_for", "1s", (c) => c.gateways["bulk-1"], { holdForMs: 1_000 }],
  ["gateways.*.rate_per_second", "100", (c) => c.gateways["bulk-1"], { ratePerSecond: 100 }],
  ["gateways.*.burst", "1", (c) => c.gateways["bulk-1"], { burst: 1 }],
  ["gateways.*.circuit.failures", "9", (c) => c.gateways["bulk-1"], { circuitFailures: 9 }],
  ["gateways.*.circuit.ratio", "0.25", (c) => c.gateways["bulk-1"], { circuitRatio: 0.25 }],
  ["gateways.*.circuit.window", "1m", (c) => c.gateways["bulk-1"], { circuitWindowMs: 60_000 }],
  ["gateways.*.circuit.pause", "3s", (c) => c.gateways["bulk-1"], { circuitPauseMs: 3_000 }],
  ["gateways.*.circuit.max_pause", "2m", (c) => c.gateways["bulk-1"], { circuitMaxPauseMs: 120_000 }],
  ["gateways.*.circuit.probes", "1", (c) => c.gateways["bulk-1"], { circuitProbes: 1 }],
  ["gateways.*.retry.max_attempts", "1", (c) => c.gateways["bulk-1"], { maxAttempts: 1 }],
  ["gateways.*.retry.base_delay", "10ms", (c) => c.gateways["bulk-1"], { baseDelayMs: 10 }],
  ["gateways.*.retry.max_delay", "20ms", (c) => c.gateways["bulk-1"], { maxDelayMs: 20 }],
  ["gateways.*.retry.jitter", "0", (c) => c.gateways["bulk-1"], { jitter: 0 }],
  ["retention.sent", "1d", (c) => c.retention.sentMs, 86_400_000],
  ["retention.attempts", "2d", (c) => c.retention.attemptsMs, 172_800_000],
  ["retention.dead_letters", "3d", (c) => c.retention.deadLettersMs, 259_200_000],
  ["retention.audit", "4d", (c) => c.retention.auditMs, 345_600_000],
  ["retention.events", "5d", (c) => c.retention.eventsMs, 432_000_000],
  ["alerts.new_dead_letters", "5", (c) => c.alerts.thresholds.newDeadLetters, 5],
  ["alerts.dead_letters", "1000", (c) => c.alerts.thresholds.deadLetters, 1_000],
  ["alerts.oldest_due_age", "1m", (c) => c.alerts.thresholds.oldestDueAgeMs, 60_000],
  ["alerts.gateway_held", "2m", (c) => c.alerts.thresholds.gatewayHeldMs, 120_000],
  ["alerts.scheduler_stopped", "1h", (c) => c.alerts.thresholds.schedulerStoppedMs, 3_600_000],
  ["alerts.no_relayer", "3m", (c) => c.alerts.thresholds.noRelayerMs, 180_000],
  ["alerts.query_store_lag", "4m", (c) => c.alerts.thresholds.queryStoreLagMs, 240_000],
  ["alerts.slot_wal", "500MB", (c) => c.alerts.thresholds.slotWalBytes, 524_288_000],
  ["alerts.repeat", "1d", (c) => c.alerts.repeatMs, 86_400_000],
  ["alerts.recover_after", "10m", (c) => c.alerts.recoverAfterMs, 600_000],
  ["alerts.name", "staging", (c) => c.alerts.name, "staging"],
  ["alerts.link_url", "https://sms.example/", (c) => c.alerts.linkUrl, "https://sms.example"],
  ["alerts.slack_url", "https://hooks.example/T0", (c) => c.alerts.slackUrl, "https://hooks.example/T0"],
  [
    "tracing.endpoint",
    "http://otel:4318/v1/traces",
    (c) => c.tracing?.endpoint,
    "http://otel:4318/v1/traces",
  ],
  ["shutdown.grace", "0s", (c) => c.shutdown.graceMs, 0],
  ["metrics.port", "9464", (c) => c.metrics.ownPort, { host: "127.0.0.1", port: 9_464, loopbackOnly: true }],
  ["metrics.token", "0123456789abcdef", (c) => c.metrics.token, "0123456789abcdef"],
  ["log.level", "debug", (c) => c.log.level, "debug"],
  ...PARTS.map(
    (part): Row => [
      `log.levels.${part}`,
      "trace",
      (c) => c.log,
      { level: "info", levels: { [part]: "trace" } },
    ],
  ),
];

/** Settings that show only beside another. */
const BESIDE_REDIS_HOST: readonly Row[] = [
  ["redis.port", "6380", (c) => c.redis?.url, "redis://cache:6380/0"],
  ["redis.password", "s/e", (c) => c.redis?.url, "redis://:s%2Fe@cache:6379/0"],
  ["redis.db", "3", (c) => c.redis?.url, "redis://cache:6379/3"],
  ["redis.ttl", "30m", (c) => c.redis?.ttlMs, 1_800_000],
];

const EMAIL = {
  ALERTS_SMTP_URL: "smtp://u@mail.example",
  ALERTS_EMAIL_FROM: "a@example.com",
  ALERTS_EMAIL_TO: "b@example.com",
};

/** Settings that show only where e-mail is whole. */
const BESIDE_EMAIL: readonly Row[] = [
  ["alerts.smtp_url", "smtps://mail.example:466", (c) => c.alerts.email?.port, 466],
  ["alerts.smtp_password", "s/e", (c) => c.alerts.email?.password, "s/e"],
  ["alerts.smtp_tls", "optional", (c) => c.alerts.email?.requireTls, false],
  ["alerts.email_from", "c@example.com", (c) => c.alerts.email?.from, "c@example.com"],
  ["alerts.email_to", "d@example.com", (c) => c.alerts.email?.to.join(), "d@example.com"],
];

const BESIDE_METRICS_PORT: readonly Row[] = [
  [
    "metrics.host",
    "0.0.0.0",
    (c) => c.metrics.ownPort,
    { host: "0.0.0.0", port: 9_464, loopbackOnly: false },
  ],
];

const BESIDE_AN_ENDPOINT: readonly Row[] = [
  ["tracing.sample_ratio", "0.25", (c) => c.tracing?.sampleRatio, 0.25],
  ["tracing.service_name", "sms", (c) => c.tracing?.serviceName, "sms"],
  ["tracing.headers", "a=b c, x-d = e%2Cf%3D", (c) => c.tracing?.headers, { a: "b c", "x-d": "e,f=" }],
];

test("the rows below are all settings", () => {
  const tested = [
    ...ROWS,
    ...BESIDE_REDIS_HOST,
    ...BESIDE_EMAIL,
    ...BESIDE_AN_ENDPOINT,
    ...BESIDE_METRICS_PORT,
  ].map(([path]) => path);
  expect(tested.sort()).toEqual(
    settingPaths()
      .map((path) => path.join("."))
      .sort(),
  );
});

test.each(ROWS)("%s from YAML", (path, given, where, expected) => {
  expect(where(load(yamlOf(path.replace("*", "bulk-1").split("."), given)))).toStrictEqual(expected);
});

test.each(ROWS)("%s from the environment", (path, given, where, expected) => {
  const name = path.replace("*", "BULK_1").replaceAll(".", "_").toUpperCase();
  const yaml = path.includes("*") ? "gateways:\n  bulk-1:\n" : undefined;
  expect(where(load(yaml, { [name]: given }))).toStrictEqual(expected);
});

test.each(BESIDE_REDIS_HOST)("%s from YAML and from the environment", (path, given, where, expected) => {
  const name = path.replaceAll(".", "_").toUpperCase();
  expect(where(load(yamlOf(path.split("."), given), { REDIS_HOST: "cache" }))).toBe(expected);
  expect(where(load(undefined, { REDIS_HOST: "cache", [name]: given }))).toBe(expected);
});

test.each(BESIDE_EMAIL)("%s from YAML and from the environment", (path, given, where, expected) => {
  const name = path.replaceAll(".", "_").toUpperCase();
  const yaml = yamlOf(path.split("."), given);
  expect(where(load(yaml, { ...EMAIL, [name]: undefined }))).toBe(expected);
  expect(where(load(undefined, { ...EMAIL, [name]: given }))).toBe(expected);
});

test.each(BESIDE_METRICS_PORT)("%s from YAML and from the environment", (path, given, where, expected) => {
  const name = path.replaceAll(".", "_").toUpperCase();
  expect(where(load(yamlOf(path.split("."), given), { METRICS_PORT: "9464" }))).toStrictEqual(expected);
  expect(where(load(undefined, { METRICS_PORT: "9464", [name]: given }))).toStrictEqual(expected);
});

test.each(BESIDE_AN_ENDPOINT)("%s from YAML and from the environment", (path, given, where, expected) => {
  const name = path.replaceAll(".", "_").toUpperCase();
  const env = { TRACING_ENDPOINT: "http://otel:4318/v1/traces" };
  expect(where(load(yamlOf(path.split("."), given), env))).toEqual(expected);
  expect(where(load(undefined, { ...env, [name]: given }))).toEqual(expected);
});

test("the environment wins over YAML, also where YAML is at fault", () => {
  expect(load("port: 1\n", { PORT: "2" }).port).toBe(2);
  expect(load("port: nonsense\n", { PORT: "2" }).port).toBe(2);
});

test("an empty variable is an unset one", () => {
  expect(load("port: 1\n", { PORT: "", DATABASE_URL: "", POSTGRES_HOST: "" })).toMatchObject({
    port: 1,
    databaseUrl: undefined,
  });
});

test("POSTGRES_DATABASE stands in for POSTGRES_DB", () => {
  expect(load(undefined, { POSTGRES_DATABASE: "a" }).databaseUrl).toMatch(/\/a$/);
  expect(load(undefined, { POSTGRES_DATABASE: "a", POSTGRES_DB: "b" }).databaseUrl).toMatch(/\/b$/);
});

test("OpenTelemetry's own variables stand in for tracing.*", () => {
  const base = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://otel:4318/" };
  expect(load(undefined, base).tracing).toEqual({
    endpoint: "http://otel:4318/v1/traces",
    headers: {},
    sampleRatio: 1,
    serviceName: "outbox-relayer",
  });
  const traces = { ...base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://otel/traces" };
  expect(load(undefined, traces).tracing?.endpoint).toBe("https://otel/traces");
  expect(load(undefined, { ...traces, TRACING_ENDPOINT: "http://x/" }).tracing?.endpoint).toBe("http://x/");
  const named = {
    ...base,
    OTEL_SERVICE_NAME: "sms",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Basic%20eA==",
  };
  expect(load("tracing: { service_name: other }", named).tracing).toMatchObject({
    headers: { authorization: "Basic eA==" },
    serviceName: "sms",
  });
  const headers = { ...named, OTEL_EXPORTER_OTLP_TRACES_HEADERS: "a=b" };
  expect(load(undefined, headers).tracing?.headers).toEqual({ a: "b" });
});

test("database_url wins over the parts", () => {
  const env = { DATABASE_URL: "postgres://one/x", POSTGRES_HOST: "two" };
  expect(load(undefined, env).databaseUrl).toBe("postgres://one/x");
});

test("redis.url wins over the parts, which alone do not switch Redis on", () => {
  const parts = { REDIS_PORT: "1", REDIS_DB: "2", REDIS_PASSWORD: "p", REDIS_TTL: "1h" };
  expect(load(undefined, parts).redis).toBeUndefined();
  expect(load(undefined, { ...parts, REDIS_URL: "redis://x", REDIS_HOST: "y" }).redis?.url).toBe("redis://x");
});

test.each([
  ["redis:\n  host: h\n  ttl: 90\n", {}],
  ["redis:\n  host: h\n", { REDIS_TTL: "90" }],
])("a bare redis.ttl is seconds (%j)", (yaml, env) => {
  expect(load(yaml, env).redis?.ttlMs).toBe(90_000);
});

test("retry and relay.concurrency hold for every gateway that does not have its own", () => {
  const { gateways } = load(`
relay: { concurrency: 8 }
retry: { max_attempts: 3, jitter: 0.1 }
webhook: { url: "http://one/" }
gateways:
  bulk: { concurrency: 1, retry: { jitter: 0 } }
  codes:
`);
  expect(gateways).toStrictEqual({
    default: { url: "http://one/", concurrency: 8, maxAttempts: 3, jitter: 0.1 },
    bulk: { concurrency: 1, maxAttempts: 3, jitter: 0 },
    codes: { concurrency: 8, maxAttempts: 3, jitter: 0.1 },
  });
});

test("webhook and gateways.default describe one gateway together", () => {
  const yaml =
    "webhook: { url: 'http://one/' }\ngateways: { default: { timeout: 1s, retry: { jitter: 1 } } }\n";
  expect(load(yaml, { GATEWAYS_DEFAULT_CONCURRENCY: "5" }).gateways).toStrictEqual({
    default: { url: "http://one/", timeoutMs: 1_000, concurrency: 5, jitter: 1 },
  });
});

test("the result is frozen in depth", () => {
  const config = load("gateways:\n  bulk:\n");
  expect(Object.isFrozen(config)).toBe(true);
  expect(Object.isFrozen(config.relay)).toBe(true);
  expect(Object.isFrozen(config.gateways)).toBe(true);
  expect(Object.isFrozen(config.gateways.bulk)).toBe(true);
});
