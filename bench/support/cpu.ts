import { readFileSync } from "node:fs";

/** Ticks of the kernel's accounting a second: USER_HZ, the same on every Linux that Node runs on. */
const TICKS = 100;

/** CPU time a process has used, in seconds, user and system (Linux only). */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may have spaces in it. utime and stime are the 14th and 15th field of all.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** CPU time that was left unused, over all cores, in seconds since the machine started (Linux only). */
export function idleCpuSeconds(): number {
  const [, , , , idle, iowait] = (readFileSync("/proc/stat", "utf8").split("\n")[0] as string).split(/\s+/);
  return (Number(idle) + Number(iowait)) / TICKS;
}
