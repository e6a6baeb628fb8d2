import type pg from "pg";

export interface Dead {
  readonly id: number;
  readonly died_at?: string;
  readonly reason?: string;
  readonly gateway?: string;
  readonly recipient?: string;
  readonly error?: string | null;
  readonly expires_at?: string;
}

export const DIED_AT = "2026-01-01T08:00:00.000000Z";

export async function bury(pool: pg.Pool, rows: readonly Dead[]): Promise<void> {
  await pool.query(
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, expires_at,
       attempts, created_at, died_at, reason, error)
     select id, coalesce(gateway, 'default'), 1, coalesce(recipient, '+905551234567'), 'text ' || id, '{"order": 7}',
       '2026-01-01T07:00:00Z', expires_at, 5, '2026-01-01T07:00:00Z', coalesce(died_at, $2), coalesce(reason, 'exhausted'),
       error
     from jsonb_to_recordset($1) as row (
       id bigint, died_at timestamptz, reason text, gateway text, recipient text, error text, expires_at timestamptz
     )`,
    [JSON.stringify(rows), DIED_AT],
  );
}

/** So many, with the ids 1, 2, 3, …, which died in that order. */
export async function buryMany(pool: pg.Pool, count: number): Promise<void> {
  const died = (n: number) => new Date(Date.parse(DIED_AT) + n).toISOString();
  await bury(
    pool,
    Array.from({ length: count }, (_, n) => ({ id: n + 1, died_at: died(n), error: "HTTP 503" })),
  );
}
