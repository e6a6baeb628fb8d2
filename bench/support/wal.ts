import type { Client, Pool } from "pg";

/** A place in the write-ahead log. */
export type Lsn = string;

export interface Written {
  readonly bytes: number;
  /** Of these, images of whole pages: the first change of a page after a checkpoint brings one along. */
  readonly pageImageBytes: number;
  /** Rows that were changed or deleted, and so left a dead row, in whatever table. */
  readonly deadRows: number;
}

export async function walNow(pool: Pool): Promise<Lsn> {
  const { rows } = await pool.query<{ lsn: Lsn }>("select pg_current_wal_insert_lsn() as lsn");
  return (rows[0] as { lsn: Lsn }).lsn;
}

/** What stands in the log between two places. The server must have kept it (wal_keep_size). */
export async function written(pool: Pool, from: Lsn, to: Lsn): Promise<Written> {
  await pool.query("create extension if not exists pg_walinspect");
  const { rows } = await pool.query<Written>(
    `select
       ($2::pg_lsn - $1::pg_lsn)::float8 as bytes,
       sum(fpi_size)::float8 as "pageImageBytes",
       coalesce(sum(count) filter (where "resource_manager/record_type" ~ '^Heap/(HOT_)?(UPDATE|DELETE)'), 0)::float8 as "deadRows"
     from pg_get_wal_stats($1, $2, per_record => true)`,
    [from, to],
  );
  return rows[0] as Written;
}

/** What one session has written to the log so far, in bytes. From PostgreSQL 18 on. */
export async function bytesWrittenBy(session: Client): Promise<number> {
  await session.query("select pg_stat_force_next_flush()");
  const { rows } = await session.query<{ bytes: number }>(
    "select wal_bytes::float8 as bytes from pg_stat_get_backend_wal(pg_backend_pid())",
  );
  return (rows[0] as { bytes: number }).bytes;
}
