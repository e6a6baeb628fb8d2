import { setTimeout as pause } from "node:timers/promises";
import type { Pool } from "pg";
import { relayed } from "./messages.ts";

/**
 * The id of what was sent last: about how far the relaying has come. It costs next to nothing, where every look at
 * outbox.messages walks over the dead rows of all that has left it.
 */
export async function lastSent(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ id: string }>(
    "select id from outbox.sent order by sent_at desc, id desc limit 1",
  );
  return Number(rows[0]?.id ?? 0);
}

/** The id of the message that was inserted last. */
export async function lastInserted(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ id: string }>("select last_value as id from outbox.messages_id_seq");
  return Number(rows[0]?.id);
}

/** What was sent last may be so far ahead of what is still in flight, or behind it. */
const SPREAD = 10_000;

/** `relayed()` for so many messages that it would be a load of its own. All of them have to be accepted. */
export async function allSent(pool: Pool): Promise<void> {
  const last = await lastInserted(pool);
  while ((await lastSent(pool)) < last - SPREAD) await pause(100);
  await relayed(pool);
}

/**
 * Relays what waits, and pauses again. Returns when each of these shares (0 to 1) of it was recorded as sent, in seconds
 * since the resume: read from what is stored, so that nobody looks while it happens.
 */
export async function relayTimed(pool: Pool, shares: readonly number[]): Promise<readonly number[]> {
  const waiting = await pool.query<{ first: string }>("select min(id) as first from outbox.messages");
  await pool.query("select outbox.resume()");
  await allSent(pool);
  const { rows } = await pool.query<{ seconds: readonly number[] }>(
    `select percentile_disc($2::float8[]) within group (
       order by extract(epoch from sent.sent_at - scheduler.changed_at)::float8
     ) as seconds
     from outbox.sent
     cross join outbox.scheduler
     where sent.id >= $1`,
    [waiting.rows[0]?.first, shares],
  );
  await pool.query("select outbox.pause()");
  return rows[0]?.seconds ?? [];
}
