import { z } from "zod";
import { emailAddress } from "./email-address.ts";
import { level, levelsOfParts } from "./levels.ts";
import { apiKeys, emailAddresses, headerLines, webOrigins } from "./lists.ts";
import { countOrOff, durationOrOff, sizeOrOff } from "./thresholds.ts";
import { collectorUrl, pageUrl, postgresUrl, redisUrl, slackUrl, smtpUrl, webhookUrl } from "./urls.ts";
import {
  bearerToken,
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

const alerts = z.object({
  new_dead_letters: countOrOff(1, 10_000).prefault(1),
  dead_letters: countOrOff(1, 9_999).prefault(100),
  oldest_due_age: durationOrOff("1s", "7d").prefault("5m"),
  gateway_held: durationOrOff("1s", "7d").prefault("5m"),
  scheduler_stopped: durationOrOff("1s", "7d").prefault("15m"),
  no_relayer: durationOrOff("1s", "7d").prefault("1m"),
  query_store_lag: durationOrOff("1s", "7d").prefault("1m"),
  slot_wal: sizeOrOff("1MB", "100TB").prefault("1GB"),
  repeat: duration("1m", "30d").prefault("4h"),
  recover_after: duration("1m", "1d").prefault("5m"),
  name: text().prefault("outbox"),
  link_url: pageUrl().optional(),
  slack_url: slackUrl().optional(),
  smtp_url: smtpUrl().optional(),
  smtp_password: password().optional(),
  smtp_tls: oneOf("required", "optional").prefault("required"),
  email_from: emailAddress().optional(),
  email_to: emailAddresses().prefault([]),
});
/** Of the API. */
export const DEFAULT_HOST = "127.0.0.1";
export const DEFAULT_PORT = 8_080;

const concurrency = integer(1, 4_096).optional();

const gateway = z.object({ ...webhook.shape, concurrency, retry, circuit });

/**
 * Every setting, as config.yaml writes it. A default here is the process's; what is a column of `outbox.gateways` has
 * none, so that a configuration that does not name it never writes over what the DBA set there.
 */
export const schema = z.object({
  host: text().prefault(DEFAULT_HOST),
  port: integer(0, 65_535).prefault(DEFAULT_PORT),
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
  alerts,
  metrics: z.object({
    port: integer(0, 65_535).optional(),
    host: text().optional(),
    token: bearerToken().optional(),
  }),
  tracing: z.object({
    endpoint: collectorUrl().optional(),
    sample_ratio: fraction().prefault(1),
    service_name: text().prefault("outbox-relayer"),
    headers: headerLines().prefault([]),
  }),
  shutdown: z.object({ grace: duration("0s", "1h").prefault("10s") }),
  log: z.object({ level: level().prefault("info"), levels: z.object(levelsOfParts()) }),
});

export type Settings = z.output<typeof schema>;

/** The path of every setting; a gateway's name is `*`. */
export function settingPaths(of: z.ZodType = schema, path: readonly string[] = []): (readonly string[])[] {
  if (of instanceof z.ZodRecord) return settingPaths(gateway, [...path, "*"]);
  if (!(of instanceof z.ZodObject)) return [path];
  return Object.entries<z.ZodType>(of.shape).flatMap(([key, child]) => settingPaths(child, [...path, key]));
}
