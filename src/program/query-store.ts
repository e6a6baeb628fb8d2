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

/** The query store of the configuration, not started; undefined without one. */
export function configuredStore(config: Config, primary: Pool, log: Logger): ConfiguredStore | undefined {
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
    ...config.queryStore,
    log: (level, fields, message) => log[level](fields, message),
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

/** For alerts. */
export interface StoreFinding {
  /** It does not answer, or is no query store. */
  readonly away: boolean;
  /** Since when it is as it is. */
  readonly since: Date;
  /** Undefined: it was never seen to follow. */
  readonly lagMs: number | undefined;
}

export function storeFinding(store: QueryStore): StoreFinding {
  const { state, since, lagMs } = store.condition();
  return { away: state === "away", since, lagMs };
}
