/** What `relay.dead_after` is: the least that is allowed. */
export const DEAD_AFTER_MS = 5_000;
/** What `shutdown.grace` is: more than an attempt may take. */
export const GRACE_MS = 2_000;

export interface Addresses {
  readonly database: string;
  readonly gateway: string;
  readonly redis: string | undefined;
}

/** The environment of the relayers: everything that takes long by default is made short, and no message runs out of attempts. */
export function relayerSettings({ database, gateway, redis }: Addresses): Record<string, string> {
  return {
    DATABASE_URL: database,
    WEBHOOK_URL: gateway,
    WEBHOOK_TIMEOUT: "1s",
    WEBHOOK_HOLD_FOR: "1s",
    // So few that messages have to wait, in the outbox and in a relayer.
    RELAY_CONCURRENCY: "16",
    RELAY_DEAD_AFTER: `${DEAD_AFTER_MS}ms`,
    RETRY_BASE_DELAY: "50ms",
    RETRY_MAX_DELAY: "500ms",
    RETRY_MAX_ATTEMPTS: "50",
    SHUTDOWN_GRACE: `${GRACE_MS}ms`,
    ...(redis !== undefined && { REDIS_URL: redis }),
  };
}

/** What has no place in a relayer's environment. */
export const SHORT_CIRCUIT =
  "update outbox.gateways set circuit_pause = '200 milliseconds', circuit_max_pause = '1 second'";
