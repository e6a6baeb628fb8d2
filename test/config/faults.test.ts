import { expect, test } from "vitest";
import { ConfigError } from "../../src/config/config-error.ts";
import { loadConfig } from "../../src/config/load.ts";
import { faultsOf, load, SECRET, yamlOf } from "./loading.ts";

test("all faults are told at once, each with its place, its value and what is allowed", () => {
  const yaml = `
relay:
  batch_size: 0
  mod: scheduled
retry:
  base_delay: 20m
  max_delay: 10m
webhook:
  url: ftp://sms.example
gateways:
  Bulk:
    timeout: 10
retention: 90d
`;
  const faults = faultsOf(yaml, { PORT: "http", LOG_LEVEL: "loud", NODE_ENV: "production" });
  const told = [
    "relay.mod (config.yaml:4): unknown; did you mean relay.mode?",
    "retention (config.yaml:13): text is not a section (settings, each on a line as name: value)",
    'PORT (environment): "http" is not a whole number from 0 to 65535',
    "relay.batch_size (config.yaml:3): 0 is not a whole number from 1 to 10000",
    'webhook.url (config.yaml:9): "ftp://sms.example" is not an http:// or https:// URL without user:password@',
    "gateways.Bulk.timeout (config.yaml:12): 10 is not a duration from 100ms to 10m, such as 500ms",
    'LOG_LEVEL (environment): "loud" is not one of trace, debug, info, warn, error, fatal',
    'gateways.Bulk (config.yaml:11): "Bulk" is not a gateway\'s name',
    "retry.base_delay (config.yaml:6): 20m is longer than the 10m of retry.max_delay (config.yaml:7)",
    "No database is configured, and NODE_ENV is production: set DATABASE_URL, or POSTGRES_HOST",
  ];
  expect(faults).toEqual(told.map((start) => expect.stringContaining(start)));
});

test.each([
  ["PORT", "0x50"],
  ["PORT", " 80"],
  ["PORT", "1e3"],
  ["RETRY_JITTER", "Infinity"],
  ["REDIS_TTL", "-1"],
])("%s=%j is a fault", (name, value) => {
  expect(faultsOf(undefined, { [name]: value })).toEqual([
    expect.stringContaining(`${name} (environment): ${JSON.stringify(value)} is not`),
  ]);
});

test("the error's message is its faults, a line each", () => {
  expect(() => load("port: -1\nhost: 5\n")).toThrow(ConfigError);
  expect(() => load("port: -1\nhost: 5\n")).toThrow(
    /^The configuration has 2 faults:\n {2}- host \(config\.yaml:2\): .*\n {2}- port \(config\.yaml:1\): .*$/,
  );
});

test.each([
  ["port", "65536"],
  ["port", "80.5"],
  ["port", "[80]"],
  ["port", "true"],
  ["host", "127"],
  ["host", '""'],
  ["postgres.port", "0"],
  ["database_url", "mysql://localhost/x"],
  ["database_url", "postgres:localhost"],
  ["database_url", "localhost:5432/x"],
  ["query_database_url", "mysql://localhost/x"],
  ["query_store.max_lag", "999ms"],
  ["query_store.when_away", "503"],
  ["query_store.primary_url", "localhost"],
  ["query_store.retention.sent", "23h"],
  ["redis.url", "http://localhost"],
  ["redis.ttl", "0"],
  ["redis.ttl", "1.5"],
  ["relay.mode", "Continuous"],
  ["relay.batch_size", "10001"],
  ["relay.poll_interval", "49ms"],
  ["relay.poll_interval", "61s"],
  ["relay.dead_after", "4s"],
  ["relay.concurrency", "0"],
  ["relay.concurrency", "4097"],
  ["retry.max_attempts", "0"],
  ["retry.max_attempts", "1001"],
  ["retry.jitter", "1.1"],
  ["retry.jitter", "-0.1"],
  ["webhook.url", "sms.example/v1"],
  ["webhook.url", "https://user:pw@sms.example/"],
  ["webhook.url", "https://user@sms.example/"],
  ["webhook.url", "http://@/v1"],
  ["webhook.url", "http:///v1"],
  ["webhook.url", "http://a:port/"],
  ["webhook.url", "http://a/#top"],
  ["webhook.url", '"http://a/ "'],
  ["webhook.url", "[http://a/]"],
  ["database_url", "[postgres://a/b]"],
  ["redis.url", "redis:cache"],
  ["webhook.auth_key", '"line\\nbreak"'],
  ["webhook.auth_key", "schlüssel"],
  ["webhook.secret", "whsec_c2hvcnQ="],
  ["webhook.secret", Buffer.alloc(65).toString("base64")],
  ["webhook.secret", `${SECRET}!`],
  ["webhook.secret", SECRET.replace("=", "")],
  ["webhook.timeout", "99ms"],
  ["webhook.timeout", "11m"],
  ["webhook.timeout", "10"],
  ["webhook.on_unknown", "drop"],
  ["tracing.endpoint", "localhost:4318"],
  ["tracing.endpoint", "http://user:pw@otel/v1/traces"],
  ["tracing.endpoint", "http://otel/#traces"],
  ["tracing.sample_ratio", "1.5"],
  ["tracing.service_name", '""'],
  ["tracing.headers", "{ a: b }"],
  ["tracing.headers", "Authorization"],
  ["tracing.headers", "with space=b"],
  ["tracing.headers", "a=%zz"],
  ["tracing.headers", "a=b%0Ac"],
  ["retention.sent", "23h"],
  ["retention.audit", "0d"],
  ["log.level", "verbose"],
])("%s: %s is a fault, and the only one", (path, given) => {
  const faults = faultsOf(yamlOf(path.split("."), given));
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(new RegExp(`^${path} \\(config\\.yaml:\\d\\): .+ is not .+`));
});

test.each([
  ["WEBHOOK_AUTH_KEY", "hunter2\n"],
  ["WEBHOOK_SECRET", "hunter2"],
  ["GATEWAYS_BULK_AUTH_KEY", "hunter2\n"],
  ["GATEWAYS_BULK_SECRET", "hunter2"],
  ["WEBHOOK_URL", "https://user:hunter2@sms.example/"],
  ["WEBHOOK_URL", "https://hunter2@sms.example/"],
  ["WEBHOOK_URL", "ftp://sms.example/?key=hunter2"],
  ["DATABASE_URL", "mysql://user:hunter2@db/x"],
  ["DATABASE_URL", "postgres://user:p#hunter2@db/x"],
  ["DATABASE_URL", "mysql://user:1/hunter2@db/x"],
  ["DATABASE_URL", "mysql://user:1?hunter2@db/x"],
  ["DATABASE_URL", "user:hunter2@db/x"],
  ["DATABASE_URL", "mysql://db/x?password=a@hunter2"],
  ["QUERY_DATABASE_URL", "mysql://user:hunter2@db/x"],
  ["QUERY_STORE_PRIMARY_URL", "mysql://user:hunter2@db/x"],
  ["REDIS_URL", "http://:hunter2@cache"],
  ["TRACING_HEADERS", "hunter2"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@otel"],
])("%s=%j is told without the secret", (name, value) => {
  const faults = faultsOf("gateways:\n  bulk:\n", { [name]: value });
  expect(faults).toHaveLength(1);
  expect(faults[0]).toContain(`${name} (environment)`);
  expect(faults[0]).not.toContain("hunter2");
});

test.each([
  "postgres: { password: 2222222 }",
  "postgres: { passwrod: 2222222 }",
  "redis: redis://:2222222@cache",
  "webhook: { auth_key: [2222222] }",
  "password: 2222222",
  "postgres:\n  password: *2222222",
  "postgres:\n  password: !2222222",
  "postgres:\n  password: | 2222222",
  'postgres:\n  password: "2222222',
  'postgres:\n  password: "\\x2222222"\n  - 2222222',
  "postgres:\n  password: @2222222",
  "postgres:\n  password: >2222222\n",
  "postgres:\n  password: '2222222' 2222222\n",
  "postgres:\n  password: 2222222: 2222222\n",
])("%j is told without the secret", (yaml) => {
  const faults = faultsOf(yaml);
  expect(faults).toHaveLength(1);
  expect(faults[0]).not.toContain("2222222");
});

test.each([
  ["relay:\n  batch_size: 5\n bad: 1\n", 3],
  ["port: 1\nport: 2\n", 2],
  ["host: 'open\nport: 1\n", 3],
  ["port: 1\nhost: *nobody\n", 2],
  ["port: 1\n---\nport: 2\n", 2],
])("malformed YAML is one fault with its line (%j)", (yaml, line) => {
  const faults = faultsOf(yaml, { PORT: "also wrong" });
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(new RegExp(`^config\\.yaml:${line}: .+`));
});

test.each([
  ["relay:\n  batchSize: 5\n", "relay.batchSize (config.yaml:2): unknown; did you mean relay.batch_size?"],
  ["batch_size: 5\n", "batch_size (config.yaml:1): unknown; did you mean batch_size in the section relay?"],
  ["relay.mode: scheduled\n", "relay.mode (config.yaml:1): unknown; did you mean mode in the section relay?"],
  ["wehbook:\n", "wehbook (config.yaml:1): unknown; did you mean webhook?"],
  [
    "gateways:\n  bulk:\n    retry:\n      max_atempts: 1\n",
    "gateways.bulk.retry.max_atempts (config.yaml:4): unknown; did you mean gateways.bulk.retry.max_attempts?",
  ],
  ["log:\n  colour: red\n", "log.colour (config.yaml:2): unknown; known here are level, levels"],
  [
    "__proto__: 1\n",
    expect.stringContaining("__proto__ (config.yaml:1): unknown; known here are host, port"),
  ],
])("%j is unknown, and the nearest known is told", (yaml, fault) => {
  expect(faultsOf(yaml)).toEqual([fault]);
});

test.each(["- a\n- b\n", "just text\n"])("a file that is no mapping (%j)", (yaml) => {
  expect(faultsOf(yaml)).toEqual([expect.stringMatching(/^config\.yaml: .* is not a section/)]);
});

test("a setting of webhook may not also stand in gateways.default", () => {
  const yaml = "webhook:\n  url: http://a/\ngateways:\n  default:\n    url: http://b/\n";
  expect(faultsOf(yaml)).toEqual([
    "webhook.url (config.yaml:2): also given as gateways.default.url (config.yaml:5); give it once",
  ]);
  expect(faultsOf("webhook:\n  url: http://a/\n", { GATEWAYS_DEFAULT_URL: "http://b/" })).toHaveLength(1);
});

test("two gateways may not share the names of their variables", () => {
  expect(faultsOf("gateways:\n  a-b:\n  a_b:\n")).toEqual([
    "gateways.a_b (config.yaml:3): shares its environment variables (GATEWAYS_A_B_…) with gateways.a-b",
  ]);
});

test("a gateway's own delay is checked against the one it takes from retry", () => {
  const yaml = "retry:\n  max_delay: 1m\ngateways:\n  bulk:\n    retry:\n      base_delay: 2m\n  codes:\n";
  expect(faultsOf(yaml)).toEqual([
    "gateways.bulk.retry.base_delay (config.yaml:6): 2m is longer than the 1m of retry.max_delay (config.yaml:2)",
  ]);
  expect(faultsOf(undefined, { RETRY_BASE_DELAY: "2s", RETRY_MAX_DELAY: "1s" })).toEqual([
    "RETRY_BASE_DELAY (environment): 2s is longer than the 1s of RETRY_MAX_DELAY (environment)",
  ]);
  expect(load("retry: { base_delay: 1m, max_delay: 1m }\n").gateways.default?.maxDelayMs).toBe(60_000);
});

test("production wants a database and a gateway's URL", () => {
  const production = { NODE_ENV: "production" };
  const faults = faultsOf(undefined, production);
  expect(faults).toHaveLength(2);
  expect(faults[0]).toContain("DATABASE_URL");
  expect(faults[1]).toContain("WEBHOOK_URL");

  const database = { ...production, POSTGRES_HOST: "db" };
  expect(faultsOf(undefined, database)).toHaveLength(1);
  expect(load(undefined, { ...database, WEBHOOK_URL: "https://sms.example" }).port).toBe(8_080);
  expect(load("gateways: { bulk: { url: https://sms.example } }", database).port).toBe(8_080);
  // Who only migrates sends nothing.
  expect(loadConfig({ yaml: undefined, yamlPath: "config.yaml", env: database, relays: false }).port).toBe(
    8_080,
  );
});

test("a host for metrics alone, and a port that is the API's, are faults", () => {
  expect(faultsOf(undefined, { METRICS_HOST: "0.0.0.0" })).toEqual([
    "METRICS_HOST (environment): is for a port of its own; set metrics.port (METRICS_PORT), too",
  ]);
  expect(faultsOf("metrics:\n  port: 8080\n")).toEqual([
    "metrics.port (config.yaml:2): is the API's port; give it another, or leave it out, for /metrics is there anyway",
  ]);
  expect(load("metrics:\n  port: 8080\n", { METRICS_HOST: "127.0.0.2" }).metrics.ownPort?.port).toBe(8_080);
  expect(load("metrics:\n  port: 0\n", { PORT: "0" }).metrics.ownPort?.port).toBe(0);
});

test.each(["short", "with a blank in it", "0123456789abcde", "=0123456789abcdef"])(
  "the token %s is a fault, and not shown",
  (token) => {
    const [fault] = faultsOf(undefined, { METRICS_TOKEN: token });
    expect(fault).toMatch(/^METRICS_TOKEN \(environment\): the value \(not shown\) is not at least 16 of/);
  },
);

test("a part that there is not has no level", () => {
  expect(faultsOf("log:\n  levels:\n    relays: debug\n")).toEqual([
    "log.levels.relays (config.yaml:3): unknown; did you mean log.levels.relay?",
  ]);
});
