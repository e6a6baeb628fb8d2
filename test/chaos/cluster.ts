import { setTimeout as delay } from "node:timers/promises";
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
  /** Resolves when each berth has a relayer that has come to work. */
  ready(): Promise<void>;
  /** A new process in the place of one that has ended. */
  restart(berth: Berth): void;
}

export interface ClusterOptions {
  readonly relayers: number;
  readonly env: Readonly<Record<string, string>>;
  readonly logFolder: string;
  readonly seed: Seed;
  readonly cleanup: Cleanup;
}

const HOUR_MS = 3_600_000;
const RESTART_MS = 300;
/** One that gives up so often at the beginning will never start. */
const STARTS = 5;

/** Several relayers; all but the first with a clock that is hours wrong. One that gives up by itself is started again. */
export function startCluster({ relayers, env, logFolder, seed, cleanup }: ClusterOptions): Cluster {
  const processes: RelayerProcess[] = [];
  const starts = new Map<number, number>();
  const shifts = Array.from({ length: relayers }, (_, i) =>
    i === 0 ? 0 : (i % 2 === 0 ? 1 : -1) * seed.between(1, 12) * HOUR_MS,
  );

  function start(nth: number): RelayerProcess {
    const start = (starts.get(nth) ?? 0) + 1;
    starts.set(nth, start);
    const name = `relayer ${nth} start ${start}`;
    const clockShiftMs = shifts[nth - 1] ?? 0;
    const relayer = startRelayerProcess({ name, env, clockShiftMs, logFolder, cleanup });
    processes.push(relayer);
    return relayer;
  }

  function put(berth: Berth, process: RelayerProcess): void {
    berth.process = process;
    void process.end.then(async () => {
      if (process.gaveUp() === undefined) return;
      await delay(RESTART_MS);
      // A fault that found it gone has seen to it.
      if (berth.process === process && !berth.taken) put(berth, start(berth.nth));
    });
  }

  const berths = shifts.map((_, i): Berth => {
    const berth = { nth: i + 1, process: start(i + 1), taken: false };
    put(berth, berth.process);
    return berth;
  });
  return {
    berths,
    processes,
    async ready() {
      for (const berth of berths) {
        while (!(await berth.process.ready())) {
          const words = berth.process.gaveUp();
          if ((starts.get(berth.nth) ?? 0) >= STARTS) throw new Error(`no relayer comes to work: ${words}`);
          await delay(2 * RESTART_MS);
        }
      }
    },
    restart: (berth) => put(berth, start(berth.nth)),
  };
}
