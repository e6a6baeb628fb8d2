import { createQueryStore, type QueryStore } from "../api/query-store/query-store.ts";
import { obstacleIn } from "../api/query-store/reads.ts";
import type { Config } from "../config/config.ts";
import { createPool } from "../db/pool.ts";
import type { RelayerRole } from "../db/relayer-role.ts";
import type { FurtherFindings } from "../ops/alerts/further-findings.ts";
import { queryStoreLag } from "../ops/alerts/query-store-lag.ts";
import type { Logger } from "../ops/log.ts";
import type { Metrics } from "../ops/metrics.ts";

const CONNECT_TIMEOUT_MS = 2_000;
const STATEMENT_TIMEOUT_MS = 10_000;

export interface ConfiguredStore {
  readonly store: QueryStore;
  /** Stopped after it. */
  readonly pools: { stop(): Promise<void> };
  /** For alerts. */
  readonly findings: FurtherFindings;
}

export interface ConfiguredStoreOptions {
  readonly config: Config;
  readonly databaseUrl: string;
  readonly role: RelayerRole;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "queryStoreLag">;
}

/** The query store of the configuration, not started; undefined without one. */
export function configuredStore(options: ConfiguredStoreOptions): ConfiguredStore | undefined {
  const { config, databaseUrl, role, log, metrics } = options;
  if (config.queryDatabaseUrl === undefined) return undefined;
  const common = {
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    log: (message: string) => log.warn(message),
  };
  const { queryDatabaseUrl } = config;
  const pool = createPool({
    ...common,
    connectionString: queryDatabaseUrl,
    max: 8,
    applicationName: "outbox-query",
  });
  // Of their own, so that slow questions do not look like a store, or a primary, that is away.
  const looks = createPool({
    ...common,
    connectionString: queryDatabaseUrl,
    max: 1,
    applicationName: "outbox-query-look",
  });
  const beats = createPool({
    ...common,
    connectionString: databaseUrl,
    onConnect: role.become,
    max: 1,
    applicationName: "outbox-beat",
  });
  const store = createQueryStore({
    primary: beats,
    pool,
    looks,
    whenAway: config.queryStore.whenAway,
    maxLagMs: config.queryStore.maxLagMs,
    log: (level, fields, message) => log[level](fields, message),
    onLag: (seconds) => metrics.queryStoreLag(seconds),
  });
  const findings = queryStoreLag({
    thresholdMs: config.alerts.thresholds.queryStoreLagMs,
    lag: () => storeLag(store),
  });
  const pools = [pool, looks, beats];
  return {
    store,
    pools: { stop: async () => void (await Promise.all(pools.map((one) => one.end()))) },
    findings,
  };
}

/** A part of the readiness: only reads suffer without it, so it takes no relayer away. */
export function storePart(store: QueryStore): { ok: true; detail?: string } {
  const condition = store.condition();
  const obstacle = obstacleIn(condition);
  if (obstacle === undefined) return { ok: true };
  const instead = store.whenAway === "primary" ? "reads go to the primary" : "reads are refused";
  return { ok: true, detail: `${obstacle} Since ${condition.since.toISOString()} ${instead}.` };
}

/** How far behind it is, or why it cannot be told. */
export async function storeLag(
  store: QueryStore,
): Promise<{ readonly lagMs: number } | { readonly away: string }> {
  const { state, lagMs, reason } = store.condition();
  if (state === "away" || lagMs === undefined)
    return { away: reason ?? "it has never followed the primary yet" };
  return { lagMs };
}
