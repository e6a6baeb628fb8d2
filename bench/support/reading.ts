/* Single rows by their number: `node reading.ts DATABASE_URL QUERY ROWS PER_SECOND`. Told a time in ms, it reads for so long and tells how long each read took. */
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { now } from "./clock.ts";
import type { FromReader } from "./reader.ts";

const [connectionString, text, rows, perSecond] = process.argv.slice(2) as [string, string, string, string];
const client = new Client({ connectionString });
await client.connect();

async function readFor(forMs: number): Promise<FromReader> {
  const reads: Promise<number>[] = [];
  let last: Promise<unknown> = Promise.resolve();
  const start = now();
  for (let due = start; due < start + forMs; due += 1_000 / Number(perSecond)) {
    if (due > now()) await pause(Math.ceil(due - now()));
    const read = readAfter(last);
    reads.push(read);
    last = read;
  }
  return await Promise.all(reads);
}

/** From when it is asked for (how late a timer is would be more than all of it), the wait for the one before it included. */
async function readAfter(last: Promise<unknown>): Promise<number> {
  const id = 1 + Math.floor(Math.random() * Number(rows));
  const start = now();
  await last;
  await client.query({ name: "read", text, values: [id] });
  return now() - start;
}

process.on("message", async (forMs: number) => process.send?.(await readFor(forMs)));
process.on("disconnect", () => process.exit());
process.send?.("ready");
