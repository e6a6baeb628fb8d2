import { setTimeout as pause } from "node:timers/promises";
import type { Pool } from "pg";

/** Puts in so many messages that are due at once, and lets the planner know of them. */
export async function insertMessages(pool: Pool, count: number): Promise<void> {
  await pool.query(
    "insert into outbox.messages (recipient, content) select '+90555' || lpad((n % 10000000)::text, 7, '0'), 'Your code is ' || n from generate_series(1, $1::int) as n",
    [count],
  );
  await pool.query("vacuum analyze outbox.messages");
}

/** Resolves when the outbox is empty. */
export async function relayed(pool: Pool): Promise<void> {
  while ((await pool.query("select from outbox.messages order by id desc limit 1")).rowCount !== 0)
    await pause(20);
}

/** Puts in so many messages while the scheduler is paused, relays them, and leaves it paused. Returns messages a second. */
export async function insertAndRelay(pool: Pool, count: number): Promise<number> {
  await insertMessages(pool, count);
  const perSecond = await relayPaused(pool, count);
  await pool.query("select outbox.pause()");
  return perSecond;
}

/** Relays what waits, from the resume to the last settle. Returns messages a second. */
export async function relayPaused(pool: Pool, count: number): Promise<number> {
  const start = performance.now();
  await pool.query("select outbox.resume()");
  await relayed(pool);
  return (count / (performance.now() - start)) * 1_000;
}
