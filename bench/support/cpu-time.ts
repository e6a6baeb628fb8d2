import { readdirSync, readFileSync } from "node:fs";

/** CPU time that a process has taken so far, with all its threads. */
export interface CpuTime {
  readonly userUs: number;
  readonly systemUs: number;
}

/** Linux counts in hundredths of a second, whatever its clock does. */
const TICK_US = 10_000;

/** Linux only. */
export function cpuTime(pid: number): CpuTime {
  const { own } = stat(pid);
  return own;
}

/** Of a server and all the processes that it ever started, those that have ended included. Linux only. */
export function cpuTimeOfServer(pid: number): CpuTime {
  const { own, ended } = stat(pid);
  return sum([own, ended, ...childrenOf(pid).map(cpuTimeOrNone)]);
}

export function parentOf(pid: number): number {
  return stat(pid).parent;
}

export function sum(times: readonly CpuTime[]): CpuTime {
  return {
    userUs: times.reduce((total, { userUs }) => total + userUs, 0),
    systemUs: times.reduce((total, { systemUs }) => total + systemUs, 0),
  };
}

/** A process that ends while we look at it is among those that have ended at the next look. Linux only. */
export function cpuTimeOrNone(pid: number): CpuTime {
  try {
    return cpuTime(pid);
  } catch {
    return { userUs: 0, systemUs: 0 };
  }
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.filter((pid) => {
    try {
      return stat(pid).parent === parent;
    } catch {
      return false;
    }
  });
}

/** proc_pid_stat(5). The name before the last parenthesis may have spaces and parentheses of its own. */
function stat(pid: number) {
  const line = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map((ticks) => Number(ticks) * TICK_US) as [
    number,
    number,
    number,
    number,
  ];
  return {
    parent: Number(fields[1]),
    own: { userUs: utime, systemUs: stime },
    ended: { userUs: cutime, systemUs: cstime },
  };
}
