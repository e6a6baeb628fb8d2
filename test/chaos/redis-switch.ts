import { type SpawnedRedis, spawnRedis } from "../support/redis.ts";
import type { Cleanup } from "./cleanup.ts";

/** A Redis that comes and goes, at one address. */
export interface ChaosRedis {
  readonly url: string;
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Undefined where no redis-server is installed: then the relayers have none. */
export async function startChaosRedis(cleanup: Cleanup): Promise<ChaosRedis | undefined> {
  let server: SpawnedRedis | undefined = await spawnRedis();
  if (server === undefined) return undefined;
  const { url, port } = server;
  cleanup.add(() => void server?.stop());
  return {
    url,
    async kill() {
      await server?.stop();
    },
    async start() {
      server = await spawnRedis({ port });
    },
  };
}
