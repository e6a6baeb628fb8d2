import type { Pool } from "pg";
import { createQueryStore, type QueryStore } from "../api/query-store/query-store.ts";
import { obstacleIn } from "../api/query-store/reads.ts";
import type { Config } from "../config/config.ts";
import { createPool } from "../db/pool.ts";
import type { Logger } from "../ops/log.ts";

const CONNECT_TIMEOUT_MS = 2_000;
const STATEMENT_TIMEOUT_MS = 10_000;

export interface ConfiguredStore {
  readonly store: QueryStore;
  readonly pool: Pool;
}

export interface ConfiguredStoreOptions {
  readonly config: Config;
  readonly primary: Pool;
  readonly log: Logger;
  /** See QueryStoreOptions. */
  readonly onLag?: (seconds: number | undefined) => void;
}

/** The query store of the configuration, not started; undefined without one. */
export function configuredStore(options: ConfiguredStoreOptions): ConfiguredStore | undefined {
  const { config, primary, log, onLag } = options;
  if (config.queryDatabaseUrl === undefined) return undefined;
  const pool = createPool({
    connectionString: config.queryDatabaseUrl,
    max: 8,
    applicationName: "outbox-query",
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    log: (message) => log.warn(message),
  });
  const store = createQueryStore({
    primary,
    pool,
    whenAway: config.queryStore.whenAway,
    maxLagMs: config.queryStore.maxLagMs,
    log: (level, fields, message) => log[level](fields, message),
    ...(onLag && { onLag }),
  });
  return { store, pool };
}

/** A part of the readiness: only reads suffer without it, so it takes no relayer away. */
export function storePart(store: QueryStore): { ok: true; detail?: string } {
  const condition = store.condition();
  const obstacle = obstacleIn(condition);
  if (obstacle === undefined) return { ok: true };
  const instead = store.whenAway === "primary" ? "reads go to the primary" : "reads are refused";
  return { ok: true, detail: `${obstacle} Since ${condition.since.toISOString()} ${instead}.` };
}

/** For alerts: how far behind it is, or why it cannot be told. */
export async function storeLag(
  store: QueryStore,
): Promise<{ readonly lagMs: number } | { readonly away: string }> {
  const { state, lagMs, reason } = store.condition();
  if (state === "away" || lagMs === undefined)
    return { away: reason ?? "it has never followed the primary yet" };
  return { lagMs };
}
