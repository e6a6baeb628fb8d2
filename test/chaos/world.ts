import { migrate } from "../../src/db/migrate.ts";
import type { Cleanup } from "./cleanup.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { type LedgerGateway, startLedgerGateway } from "./gateway-ledger.ts";
import { createPauseLog, type PauseLog } from "./pauses.ts";
import { queryOnce } from "./persistent-query.ts";
import { type ChaosPostgres, startChaosPostgres } from "./private-postgres.ts";
import { createRecoveryWatch, type RecoveryWatch } from "./recovery-watch.ts";
import { type ChaosRedis, startChaosRedis } from "./redis-switch.ts";
import { relayerSettings, SHORT_CIRCUIT } from "./relayer-settings.ts";
import type { Seed } from "./seed.ts";
import { createShutdowns, type Shutdowns } from "./shutdowns.ts";

/** What faults are done to, and what they tell. */
export interface World {
  readonly cluster: Cluster;
  readonly postgres: ChaosPostgres;
  readonly gateway: LedgerGateway;
  readonly redis: ChaosRedis | undefined;
  readonly recovery: RecoveryWatch;
  readonly pauses: PauseLog;
  readonly shutdowns: Shutdowns;
}

export interface WorldOptions {
  readonly relayers: number;
  readonly seed: Seed;
  /** For the database. */
  readonly folder: string;
  readonly logFolder: string;
  readonly cleanup: Cleanup;
}

/** Starts everything; resolves when every relayer is at work. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const { relayers, seed, folder, logFolder, cleanup } = options;
  const postgres = await startChaosPostgres(folder, cleanup);
  const { url } = postgres;
  await migrate({ connectionString: url, log: () => {} });
  await queryOnce(url, SHORT_CIRCUIT);
  const redis = await startChaosRedis(cleanup);
  const gateway = await startLedgerGateway(seed.fork("gateway"));
  cleanup.add(() => void gateway.close());
  const env = relayerSettings({ database: url, gateway: gateway.url, redis: redis?.url });
  const cluster = startCluster({ relayers, env, logFolder, seed: seed.fork("clocks"), cleanup });
  await cluster.ready();
  return {
    cluster,
    postgres,
    gateway,
    redis,
    recovery: createRecoveryWatch(url),
    pauses: createPauseLog(url),
    shutdowns: createShutdowns(),
  };
}
