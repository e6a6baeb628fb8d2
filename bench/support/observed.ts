import { setTimeout as pause } from "node:timers/promises";
import { now } from "./clock.ts";
import type { ScriptedGateway } from "./gateway.ts";

export interface System {
  readonly name: string;
  readonly gateway: ScriptedGateway;
  /** Commits a message; resolves to its number. */
  readonly insert: () => Promise<number>;
}

export interface Observed {
  readonly name: string;
  readonly insert: () => Promise<void>;
  /** Of all that were inserted, in milliseconds; waits until the last one has arrived. */
  readonly latencies: () => Promise<number[]>;
}

/**
 * From now on: how long it takes until the POST of each message arrives, from when this process knows of its commit. (A POST
 * that was faster than that counts as 0.)
 */
export async function observe({ name, gateway, insert }: System): Promise<Observed> {
  const commits = new Map<number, number>();
  const before = await gateway.received();
  gateway.watch();
  return {
    name,
    async insert() {
      const id = await insert();
      commits.set(id, now());
    },
    async latencies() {
      while ((await gateway.received()) - before < commits.size) await pause(10);
      const arrivals = new Map(await gateway.arrivals());
      return [...commits].map(([id, at]) => Math.max(0, (arrivals.get(id) ?? Number.NaN) - at));
    },
  };
}

/** The systems take turns, message by message, so that what disturbs one disturbs the others. */
export async function insertInTurn(
  observed: readonly Observed[],
  count: number,
  [shortest, longest]: readonly [shortestMs: number, longestMs: number],
): Promise<void> {
  for (let message = 0; message < count; message++) {
    for (const { insert } of observed) {
      await pause(shortest + Math.random() * (longest - shortest));
      await insert();
    }
  }
}
