import type pg from "pg";

export interface Sent {
  readonly id: number;
  /** Days with partitions of their own: 2026-01-01 and 2026-01-02. */
  readonly sent_at: string;
  readonly gateway?: string;
  readonly recipient?: string;
  readonly last_error?: string;
}

export async function makePastDays(pool: pg.Pool): Promise<void> {
  for (const [first, last] of [
    ["2026-01-01", "2026-01-02"],
    ["2026-01-02", "2026-01-03"],
  ]) {
    await pool.query(
      `create table outbox.sent_${first?.replaceAll("-", "")} partition of outbox.sent
       for values from ('${first}T00:00:00Z') to ('${last}T00:00:00Z')`,
    );
  }
}

export async function insertSent(pool: pg.Pool, rows: readonly Sent[]): Promise<void> {
  await pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms, last_error)
     select id, coalesce(gateway, 'default'), 1, coalesce(recipient, '+905551234567'), 'text ' || id,
       '{"order": 7}', sent_at, 1, 1, sent_at, sent_at, sent_at, 'gw-' || id, 12, last_error
     from jsonb_to_recordset($1) as row (id bigint, sent_at timestamptz, gateway text, recipient text, last_error text)`,
    [JSON.stringify(rows)],
  );
}
