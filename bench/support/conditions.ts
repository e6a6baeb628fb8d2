import { cpus, loadavg, totalmem } from "node:os";
import type { Pool } from "pg";

/** What figures depend on. */
export interface Conditions {
  readonly at: string;
  readonly cpus: number;
  readonly cpu: string;
  readonly memory_gb: number;
  /** Of the minute before the bench: who else uses the machine. */
  readonly load: number;
  readonly node: string;
  readonly postgres: string;
  readonly scale: number;
}

export async function conditions(pool: Pool, scale: number): Promise<Conditions> {
  const { rows } = await pool.query<{ server_version: string }>("show server_version");
  return {
    at: new Date().toISOString(),
    cpus: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    memory_gb: Math.round(totalmem() / 2 ** 30),
    load: Math.round((loadavg()[0] as number) * 100) / 100,
    node: process.version,
    postgres: rows[0]?.server_version ?? "unknown",
    scale,
  };
}
