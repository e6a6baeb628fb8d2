import type { Pool } from "pg";
import { type CpuTime, cpuTime, cpuTimeOfServer, cpuTimeOrNone, parentOf, sum } from "./cpu-time.ts";

/** Who takes CPU time while messages are relayed. */
export interface CpuOfRelaying {
  readonly gateway: CpuTime;
  readonly relayer: CpuTime;
  /** Postgres' processes that serve the relayer. */
  readonly sessions: CpuTime;
  /** Postgres' other processes, but for those that serve the bench. */
  readonly background: CpuTime;
}

/** So far. The relayer's sessions have names, the bench's own have none. Linux only. */
export async function cpuOfRelaying(pool: Pool, relayer: number, gateway: number): Promise<CpuOfRelaying> {
  const { rows } = await pool.query<{ pid: number; ours: boolean; asks: boolean }>(`
    select pid, application_name = '' as ours, pid = pg_backend_pid() as asks
    from pg_stat_activity
    where backend_type = 'client backend'`);
  // Of these only the one that asked is there for sure.
  const server = cpuTimeOfServer(parentOf(rows.find(({ asks }) => asks)?.pid as number));
  const sessions = sum(rows.filter(({ ours }) => !ours).map((row) => cpuTimeOrNone(row.pid)));
  const own = sum(rows.filter(({ ours }) => ours).map((row) => cpuTimeOrNone(row.pid)));
  return {
    gateway: cpuTime(gateway),
    relayer: cpuTime(relayer),
    sessions,
    background: difference(server, sum([sessions, own])),
  };
}

/** What was taken between two looks. */
export function taken(before: CpuOfRelaying, after: CpuOfRelaying): CpuOfRelaying {
  return {
    gateway: difference(after.gateway, before.gateway),
    relayer: difference(after.relayer, before.relayer),
    sessions: difference(after.sessions, before.sessions),
    background: difference(after.background, before.background),
  };
}

function difference(whole: CpuTime, part: CpuTime): CpuTime {
  return { userUs: whole.userUs - part.userUs, systemUs: whole.systemUs - part.systemUs };
}
