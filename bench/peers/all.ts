import { startClassic } from "./classic.ts";
import { startGraphileWorker } from "./graphile-worker.ts";
import type { Peer } from "./peer.ts";
import { startPgBoss, startPgBossWithOutput } from "./pg-boss.ts";
import { createPost } from "./post.ts";

interface Entry {
  /** What it relays in a round, as a share of the relayer's: a slow one would take long, and only rates are compared. */
  readonly share: number;
  start(databaseUrl: string, gatewayUrl: string): Promise<Peer>;
}

/** POSTs in flight; as many as the relayer's. */
const CONCURRENCY = 64;
const BATCHED = {
  concurrentJobs: 256,
  maxPoolSize: 10,
  localQueue: { size: 1_000 },
  completeJobBatchDelay: 10,
  failJobBatchDelay: 10,
};

export const PEERS: Readonly<Record<string, Entry>> = {
  "graphile-worker, plain": {
    share: 0.1,
    start: (database, gateway) =>
      startGraphileWorker(database, createPost(gateway, CONCURRENCY), {
        concurrentJobs: 24,
        maxPoolSize: 26,
      }),
  },
  "graphile-worker, batched": {
    share: 1,
    start: (database, gateway) => startGraphileWorker(database, createPost(gateway, CONCURRENCY), BATCHED),
  },
  "graphile-worker, batched, ids kept": {
    share: 1,
    start: (database, gateway) =>
      startGraphileWorker(database, createPost(gateway, CONCURRENCY), BATCHED, true),
  },
  "pg-boss, batched": {
    share: 1,
    start: (database, gateway) =>
      startPgBoss(database, createPost(gateway, CONCURRENCY), { batchSize: 1_000, localConcurrency: 3 }),
  },
  "pg-boss, batched, ids kept": {
    share: 1,
    start: (database, gateway) =>
      startPgBossWithOutput(database, createPost(gateway, CONCURRENCY), {
        batchSize: 1_000,
        localConcurrency: 3,
      }),
  },
  "one transaction a message": {
    share: 0.1,
    start: (database, gateway) => startClassic(database, gateway, 16),
  },
};
