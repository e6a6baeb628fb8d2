import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "pg";
import { now } from "./clock.ts";

const EVERY_MS = 10;

/**
 * Runs an INSERT that takes a number of rows ($1), about a hundred times a second, so that over time it is so many rows a
 * second: one that took long is made up for. Returns what ends it, and resolves when the last one is committed.
 */
export function produceSteadily(producer: Client, insert: string, perSecond: number): () => Promise<void> {
  let ended = false;
  async function produceAll(): Promise<void> {
    const start = now();
    for (let inserted = 0; !ended; await pause(EVERY_MS)) {
      const due = Math.floor(((now() - start) / 1_000) * perSecond);
      if (due > inserted) await producer.query(insert, [due - inserted]);
      inserted = due;
    }
  }
  const producing = produceAll();
  producing.catch(() => {}); // whoever ends it hears of it
  return async () => {
    ended = true;
    await producing;
  };
}
