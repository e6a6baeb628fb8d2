import type { Pool } from "pg";
import { createPool, createWaitingPool } from "../db/pool.ts";
import type { RelayerRole } from "../db/relayer-role.ts";

export interface Pools {
  readonly relay: Pool;
  readonly worker: Pool;
  readonly api: Pool;
  readonly metrics: Pool;
}

const API_CONNECT_TIMEOUT_MS = 2_000;
const API_STATEMENT_TIMEOUT_MS = 10_000;
/** A scrape waits for 2 s. */
const METRICS_TIMEOUT_MS = 2_000;
const RELAY_QUERY_TIMEOUT_MS = 30_000;

/** One for each kind of work, so that none waits for another's connections. */
export function createPools(
  connectionString: string,
  role: RelayerRole,
  log: (message: string) => void,
): Pools {
  const common = { connectionString, onConnect: role.become, log };
  return {
    relay: createPool({
      ...common,
      max: 8,
      applicationName: "outbox-relay",
      queryTimeoutMs: RELAY_QUERY_TIMEOUT_MS,
    }),
    worker: createWaitingPool({ ...common, max: 4, applicationName: "outbox-worker" }),
    api: createPool({
      ...common,
      max: 8,
      applicationName: "outbox-api",
      // The API has shorter deadlines of its own, but only the server can end what nobody waits for any more.
      statementTimeoutMs: API_STATEMENT_TIMEOUT_MS,
      connectTimeoutMs: API_CONNECT_TIMEOUT_MS,
    }),
    metrics: createPool({
      ...common,
      max: 2,
      applicationName: "outbox-metrics",
      statementTimeoutMs: METRICS_TIMEOUT_MS,
      queryTimeoutMs: METRICS_TIMEOUT_MS,
      connectTimeoutMs: METRICS_TIMEOUT_MS,
    }),
  };
}
