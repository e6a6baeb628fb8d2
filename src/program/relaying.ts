import type { Config } from "../config/config.ts";
import { createListener } from "../db/listener.ts";
import { isOutage } from "../db/outage.ts";
import type { Outbox } from "../db/outbox.ts";
import type { RelayerRole } from "../db/relayer-role.ts";
import { createDeadlineWheel } from "../gateway/deadline-wheel.ts";
import { createWebhook } from "../gateway/webhook.ts";
import type { Logger } from "../ops/log.ts";
import type { Metrics } from "../ops/metrics.ts";
import type { RelayEvents } from "../relay/events.ts";
import { createRelay } from "../relay/relay.ts";
import { createSession } from "../relay/session.ts";
import type { Tracer } from "../relay/tracer.ts";
import { gatewayAddress } from "./gateway-address.ts";

export interface RelayingOptions {
  readonly config: Config;
  readonly connectionString: string;
  readonly role: RelayerRole;
  readonly outbox: Outbox;
  readonly events: RelayEvents;
  readonly tracer: Tracer | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Host and process, for people. */
  readonly name: string;
  readonly version: string;
  /** The name under which our Graphile Worker locks jobs; undefined before it has started. */
  readonly workerId: () => string | undefined;
  /** Where messages of the default gateway go that has no address. */
  readonly fallbackUrl: () => string | undefined;
}

/** The relay, the session that gives it its number, and the listener that wakes it: none of them started. */
export function createRelaying(options: RelayingOptions) {
  const { config, connectionString, role, metrics, log, version } = options;
  const session = createSession({
    connectionString,
    onConnect: role.become,
    name: options.name,
    version,
    worker: options.workerId,
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
    outbox: options.outbox,
    events: options.events,
    tracer: options.tracer,
    isOutage,
    relayer: () => session.number(),
    aliveUntilMs: () => session.aliveUntilMs(),
    continuous: config.relay.mode === "continuous",
    batchSize: config.relay.batchSize,
    pollIntervalMs: config.relay.pollIntervalMs,
    createWebhook(gateway, installation) {
      const url = gatewayAddress(gateway, options.fallbackUrl());
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
  const listener = createListener({
    connectionString,
    channel: "outbox",
    log: (message) => log.warn(message),
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
  });
  return { session, relay, listener };
}
