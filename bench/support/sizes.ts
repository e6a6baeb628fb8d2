import type { Pool } from "pg";

/** In MB, with what belongs to a table: its map of free space, its long values. */
export interface Sizes {
  readonly messages: number;
  readonly messagesIndexes: number;
  readonly sent: number;
  readonly sentIndexes: number;
}

export async function sizesMb(pool: Pool): Promise<Sizes> {
  const { rows } = await pool.query<Sizes>(`
    select
      pg_table_size('outbox.messages') / 1048576.0::float8 as messages,
      pg_indexes_size('outbox.messages') / 1048576.0::float8 as "messagesIndexes",
      sum(pg_table_size(relid)) / 1048576.0::float8 as sent,
      sum(pg_indexes_size(relid)) / 1048576.0::float8 as "sentIndexes"
    from pg_partition_tree('outbox.sent')`);
  return rows[0] as Sizes;
}
