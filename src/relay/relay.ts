import type { Gateway, Outbox, State } from "../db/outbox.ts";
import type { Webhook } from "../gateway/webhook.ts";
import { createAwake } from "./awake.ts";
import type { RelayEvents } from "./events.ts";
import { createRoute, type Route } from "./route.ts";
import type { Tracer } from "./tracer.ts";

export interface RelayOptions {
  readonly outbox: Outbox;
  /** This relayer's number; undefined while it has none. */
  readonly relayer: () => number | undefined;
  /** Until when nobody takes this relayer for dead, on the clock of `performance.now()`. */
  readonly aliveUntilMs: () => number;
  /** Undefined for a gateway that has no address: its messages wait. */
  readonly createWebhook: (gateway: Gateway, installation: string) => Webhook | undefined;
  /** false: messages are claimed by tick() alone (relay.mode: scheduled). */
  readonly continuous: boolean;
  /** The most messages of one claim; in scheduled mode of one tick, for the whole cluster. */
  readonly batchSize: number;
  readonly pollIntervalMs: number;
  readonly isOutage: (error: unknown) => boolean;
  readonly events: RelayEvents;
  /** undefined: nobody follows the messages. */
  readonly tracer?: Tracer | undefined;
}

export interface Relay {
  /** Reads the gateways and begins; from then on it follows what changes in the database. */
  start(): Promise<void>;
  /** Look now: something may be due. */
  wake(): void;
  /** Reads the switch and the gateways again, now. */
  refresh(): Promise<void>;
  /** Relays for one tick of the crontab, unless that was done; `tick` is its time. Returns how many it claimed. Throws when it could not. */
  tick(tick: string): Promise<number>;
  /** Gives back what is claimed and not yet sent. */
  drop(): Promise<void>;
  /** Is there a claim not yet ended that was made under an earlier number of this process? */
  holdsClaimsBefore(relayer: number): boolean;
  /** How long ago the loop last turned, whatever Postgres answered. */
  lastTurnMsAgo(): number;
  /** Did Postgres answer when it was last asked, and soon? */
  reachable(): boolean;
  /** As they were when last read. */
  gateways(): readonly Gateway[];
  /** Stops claiming; lets sends finish until `graceMs` have passed, then ends them; settles; gives the rest back. */
  stop(graceMs: number): Promise<void>;
}

const REFRESH_MS = 1_000;
const SILENT_MS = 5_000;

export function createRelay(options: RelayOptions): Relay {
  const { outbox, events } = options;
  const routes = new Map<string, Route>();
  const retiring = new Set<Promise<void>>();
  const awake = createAwake({
    promise: (leaseMs) => outbox.stayAwake(leaseMs),
    onAwake: wakeRoutes,
    onError: (error) => events.error("stay_awake", error),
  });
  let state: State | undefined;
  let reading: Promise<void> = Promise.resolve();
  let readNext: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let lastTurn = performance.now();
  let reachable = false;
  let lastAnswer = Number.NEGATIVE_INFINITY;
  let stopped = false;

  function wakeRoutes(): void {
    for (const route of routes.values()) route.wake();
  }

  async function read(): Promise<void> {
    lastTurn = performance.now();
    try {
      const before = state;
      state = await outbox.state();
      reachable = true;
      lastAnswer = performance.now();
      if (stopped) return;
      follow(state);
      await dropWhatMayNotGo(state);
      events.state(state, before);
    } catch (error) {
      reachable = false;
      events.error("state", error);
    }
  }

  /** One read at a time; asked for during one, another follows it, for the first may have missed the reason. */
  function refresh(): Promise<void> {
    readNext ??= reading.then(() => {
      readNext = undefined;
      reading = read();
      return reading;
    });
    return readNext;
  }

  /** A route for each gateway that has an address, made anew when what it was made of changes. */
  function follow({ gateways, installation }: State): void {
    const wanted = new Map(gateways.map((gateway) => [gateway.name, gateway]));
    for (const [name, route] of routes) {
      const gateway = wanted.get(name);
      if (gateway !== undefined && sameRoute(gateway, route.gateway)) continue;
      routes.delete(name);
      const end = route.stop(route.gateway.timeout_ms).finally(() => retiring.delete(end));
      retiring.add(end);
    }
    for (const gateway of gateways) {
      const webhook = routes.has(gateway.name) ? undefined : options.createWebhook(gateway, installation);
      if (webhook === undefined) continue;
      const route = createRoute({ ...options, gateway, webhook, awake });
      routes.set(gateway.name, route);
      route.wake();
    }
  }

  async function dropWhatMayNotGo({ running, gateways }: State): Promise<void> {
    const stops = gateways.filter(
      // A probe is sent while its gateway is held for everything else.
      ({ paused, held_until, circuit }) =>
        !running || paused || (held_until !== null && circuit !== "half_open"),
    );
    await Promise.all(stops.map(({ name }) => routes.get(name)?.drop()));
  }

  async function turn(): Promise<void> {
    await refresh();
    if (!stopped) timer = setTimeout(turn, REFRESH_MS);
  }

  return {
    start: turn,
    refresh,
    wake() {
      awake.told();
      wakeRoutes();
    },
    async tick(tick) {
      await refresh();
      if (stopped || options.relayer() === undefined) throw new Error("not registered as a relayer just now");
      if (!(await outbox.takeTick(tick))) return 0;
      let left = options.batchSize;
      // First a fair share each, then what others left.
      for (const share of [(routesLeft: number) => Math.ceil(left / routesLeft), () => left]) {
        let routesLeft = routes.size;
        for (const route of routes.values()) {
          const size = share(routesLeft--);
          if (size > 0) left -= await route.take(size);
        }
      }
      return options.batchSize - left;
    },
    async drop() {
      await Promise.all([...routes.values()].map((route) => route.drop()));
    },
    holdsClaimsBefore: (relayer) => routes.values().some((route) => route.holdsClaimsBefore(relayer)),
    lastTurnMsAgo: () => performance.now() - lastTurn,
    // A frozen server fails nothing for long.
    reachable: () => reachable && performance.now() - lastAnswer < SILENT_MS,
    gateways: () => state?.gateways ?? [],
    async stop(graceMs) {
      stopped = true;
      clearTimeout(timer);
      await Promise.all([...retiring, ...[...routes.values()].map((route) => route.stop(graceMs))]);
      await reading;
    },
  };
}

function sameRoute(a: Gateway, b: Gateway): boolean {
  return a.url === b.url && a.timeout_ms === b.timeout_ms && a.concurrency === b.concurrency;
}
