import type { Pool } from "pg";
import { eventually } from "../support/eventually.ts";

export interface Row {
  readonly id: number;
  readonly status: string;
  readonly attempts: number;
  readonly reason: string | null;
  readonly http_status: number | null;
  readonly error: string | null;
  readonly last_error: string | null;
  readonly gateway_message_id: string | null;
}

/** Inserts as an application does. Returns the ids, in order. */
export async function insert(
  pool: Pool,
  count = 1,
  columns: Readonly<Record<string, unknown>> = {},
): Promise<number[]> {
  const names = Object.keys(columns);
  const { rows } = await pool.query<{ id: string }>(
    `insert into outbox.messages (recipient, content${names.map((name) => `, ${name}`).join("")})
     select '+905551234567', 'message ' || n${names.map((_, i) => `, $${i + 2}`).join("")}
     from generate_series(1, $1::int) as n
     returning id`,
    [count, ...Object.values(columns)],
  );
  return rows.map(({ id }) => Number(id));
}

export async function message(pool: Pool, id: number): Promise<Row> {
  const { rows } = await pool.query<Row>("select id::int, * from outbox.all_messages where id = $1", [id]);
  if (rows.length !== 1) throw new Error(`message ${id} is in ${rows.length} places`);
  return rows[0] as Row;
}

export function settled(pool: Pool, id: number, status: string): Promise<Row> {
  return eventually(
    () => message(pool, id),
    (row) => row.status === status,
  );
}

/** How many messages have each status. */
export async function tally(pool: Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ status: string; count: number }>(
    "select status, count(*)::int as count from outbox.all_messages group by status",
  );
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

export function allSent(pool: Pool, count: number): Promise<Record<string, number>> {
  return eventually(
    () => tally(pool),
    (counts) => counts.sent === count && Object.keys(counts).length === 1,
  );
}

export async function attempts(
  pool: Pool,
  id: number,
): Promise<{ attempt: number; outcome: string; error: string | null }[]> {
  const { rows } = await pool.query(
    "select attempt, outcome, error from outbox.attempts where message_id = $1 order by ended_at, attempt",
    [id],
  );
  return rows;
}
