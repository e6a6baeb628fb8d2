import type { Pool } from "pg";

/** Messages that ended without an attempt of a relayer that could tell of it. */
export interface UntoldEnding {
  readonly gateway: string;
  readonly reason: "expired" | "cancelled" | "exhausted" | "unknown_outcome";
  readonly count: number;
}

export interface ClosedMinutes {
  /** How many; 0 when none is left, or another relayer is at it. */
  readonly closed: number;
  /** Of what was closed. */
  readonly untold: readonly UntoldEnding[];
}

/**
 * Counts minutes that are over, at most one of them busy, see outbox.close_minutes(). As each minute is closed once in the whole
 * cluster, whoever closes it learns of the endings that nobody was told of: by SQL alone (expired, cancelled), or by a rescue.
 */
export async function closeMinutes(pool: Pool): Promise<ClosedMinutes> {
  const client = await pool.connect();
  try {
    // The lock on the minutes is held until the commit: the last minute is the one that was closed here.
    await client.query("begin");
    const { rows } = await client.query<{ closed: number }>({
      name: "close_minutes",
      text: "select outbox.close_minutes() as closed",
    });
    const closed = rows[0]?.closed ?? 0;
    const untold = closed === 0 ? [] : (await client.query<UntoldEnding>(UNTOLD)).rows;
    await client.query("commit");
    client.release();
    return { closed, untold };
  } catch (error) {
    client.release(true);
    throw error;
  }
}

const UNTOLD = {
  name: "untold_endings",
  text: `
    select dead_letters.gateway, dead_letters.reason::text as reason, count(*)::int as count
    from outbox.dead_letters
    where dead_letters.died_at >= (select max(minutes.minute) from outbox.minutes)
      and dead_letters.died_at < (select max(minutes.minute) + interval '1 minute' from outbox.minutes)
      and (
        dead_letters.reason in ('expired', 'cancelled')
        -- As rescue() says it.
        or dead_letters.error like 'claimed by relayer % which died; outcome unknown'
      )
    group by dead_letters.gateway, dead_letters.reason`,
};
