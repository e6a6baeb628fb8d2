import type { Cleanup } from "./cleanup.ts";
import { type RelayerProcess, startRelayerProcess } from "./relayer-process.ts";
import type { Seed } from "./seed.ts";

/** A place for a relayer: when its process is gone, another one takes it. */
export interface Berth {
  readonly nth: number;
  process: RelayerProcess;
  /** A fault is at it; no other may be. */
  taken: boolean;
}

export interface Cluster {
  readonly berths: readonly Berth[];
  /** All there have been. */
  readonly processes: readonly RelayerProcess[];
  /** A new process in the place of one that has ended. */
  restart(berth: Berth): RelayerProcess;
}

export interface ClusterOptions {
  readonly relayers: number;
  readonly env: Readonly<Record<string, string>>;
  readonly logFolder: string;
  readonly seed: Seed;
  readonly cleanup: Cleanup;
}

const HOUR_MS = 3_600_000;

/** Several relayers; all but the first with a clock that is hours wrong. */
export function startCluster({ relayers, env, logFolder, seed, cleanup }: ClusterOptions): Cluster {
  const processes: RelayerProcess[] = [];
  const starts = new Map<number, number>();
  const shifts = Array.from({ length: relayers }, (_, i) =>
    i === 0 ? 0 : (i % 2 === 0 ? 1 : -1) * seed.between(1, 12) * HOUR_MS,
  );

  function start(nth: number): RelayerProcess {
    const start = (starts.get(nth) ?? 0) + 1;
    starts.set(nth, start);
    const relayer = startRelayerProcess({
      name: `relayer ${nth} start ${start}`,
      env,
      clockShiftMs: shifts[nth - 1] ?? 0,
      logFolder,
      cleanup,
    });
    processes.push(relayer);
    return relayer;
  }

  const berths = shifts.map((_, i): Berth => ({ nth: i + 1, process: start(i + 1), taken: false }));
  return {
    berths,
    processes,
    restart(berth) {
      berth.process = start(berth.nth);
      return berth.process;
    },
  };
}
