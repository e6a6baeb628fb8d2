import { z } from "zod";
import { apiKeys, headerLines, webOrigins } from "./lists.ts";
import { collectorUrl, postgresUrl, redisUrl, webhookUrl } from "./urls.ts";
import {
  duration,
  durationOrSeconds,
  fraction,
  headerValue,
  integer,
  oneOf,
  password,
  positive,
  signingSecret,
  text,
} from "./values.ts";

const retry = z.object({
  max_attempts: integer(1, 1_000).optional(),
  base_delay: duration("1ms", "7d").optional(),
  max_delay: duration("1ms", "7d").optional(),
  jitter: fraction().optional(),
});

const circuit = z.object({
  failures: integer(1, 1_000).optional(),
  ratio: positive(1).optional(),
  window: duration("1s", "1h").optional(),
  pause: duration("1ms", "7d").optional(),
  max_pause: duration("1ms", "7d").optional(),
  probes: integer(1, 100).optional(),
});

const webhook = z.object({
  url: webhookUrl().optional(),
  auth_key: headerValue().optional(),
  secret: signingSecret().optional(),
  timeout: duration("100ms", "10m").optional(),
  on_unknown: oneOf("retry", "park").optional(),
  hold_for: duration("1s", "7d").optional(),
  rate_per_second: positive(100_000).optional(),
  burst: integer(1, 100_000).optional(),
});

const concurrency = integer(1, 4_096).optional();

const gateway = z.object({ ...webhook.shape, concurrency, retry, circuit });

/**
 * Every setting, as config.yaml writes it. A default here is the process's; what is a column of `outbox.gateways` has
 * none, so that a configuration that does not name it never writes over what the DBA set there.
 */
export const schema = z.object({
  host: text().prefault("127.0.0.1"),
  port: integer(0, 65_535).prefault(8_080),
  api: z.object({
    keys: apiKeys().prefault([]),
    cors_origins: webOrigins().prefault([]),
  }),
  database_url: postgresUrl().optional(),
  postgres: z.object({
    host: text().optional(),
    port: integer(1, 65_535).optional(),
    user: text().optional(),
    password: password().optional(),
    db: text().optional(),
  }),
  query_database_url: postgresUrl().optional(),
  query_store: z.object({
    max_lag: duration("1s", "1d").prefault("30s"),
    when_away: oneOf("primary", "unavailable").prefault("primary"),
    primary_url: postgresUrl().optional(),
    retention: z.object({
      sent: duration("1d", "36500d").optional(),
      attempts: duration("1d", "36500d").optional(),
      dead_letters: duration("1d", "36500d").optional(),
      audit: duration("1d", "36500d").optional(),
      events: duration("1d", "36500d").optional(),
    }),
  }),
  embedded_postgres: z.object({
    port: integer(1, 65_535).prefault(54_329),
    data_dir: text().prefault(".data/postgres"),
  }),
  redis: z.object({
    url: redisUrl().optional(),
    host: text().optional(),
    port: integer(1, 65_535).prefault(6_379),
    password: password().optional(),
    db: integer(0, 65_535).prefault(0),
    ttl: durationOrSeconds("1s", "3650d").prefault("24h"),
  }),
  relay: z.object({
    mode: oneOf("continuous", "scheduled").prefault("continuous"),
    batch_size: integer(1, 10_000).prefault(500),
    poll_interval: duration("50ms", "1m").prefault("500ms"),
    dead_after: duration("5s", "1d").prefault("30s"),
    concurrency,
  }),
  retry,
  circuit,
  webhook,
  gateways: z.record(z.string(), gateway),
  retention: z.object({
    sent: duration("1d", "36500d").prefault("90d"),
    attempts: duration("1d", "36500d").prefault("30d"),
    dead_letters: duration("1d", "36500d").optional(),
    audit: duration("1d", "36500d").optional(),
    events: duration("1d", "36500d").prefault("7d"),
  }),
  tracing: z.object({
    endpoint: collectorUrl().optional(),
    sample_ratio: fraction().prefault(1),
    service_name: text().prefault("outbox-relayer"),
    headers: headerLines().prefault([]),
  }),
  shutdown: z.object({ grace: duration("0s", "1h").prefault("10s") }),
  log: z.object({ level: oneOf("trace", "debug", "info", "warn", "error", "fatal").prefault("info") }),
});

export type Settings = z.output<typeof schema>;

/** The path of every setting; a gateway's name is `*`. */
export function settingPaths(of: z.ZodType = schema, path: readonly string[] = []): (readonly string[])[] {
  if (of instanceof z.ZodRecord) return settingPaths(gateway, [...path, "*"]);
  if (!(of instanceof z.ZodObject)) return [path];
  return Object.entries<z.ZodType>(of.shape).flatMap(([key, child]) => settingPaths(child, [...path, key]));
}
