import type { Berth, Cluster } from "./cluster.ts";
import type { Fault } from "./faults.ts";
import { DEAD_AFTER_MS } from "./relayer-settings.ts";
import type { Seed } from "./seed.ts";

/** Mostly one that is at work; one that is still starting is hit as well. */
function choose(cluster: Cluster, seed: Seed): Berth | undefined {
  const free = cluster.berths.filter(({ taken, process }) => !taken && process.endedAt() === undefined);
  const working = free.filter(({ process }) => process.numbers.size > 0);
  const candidates = working.length > 0 && seed.chance(0.85) ? working : free;
  // One is always left alone, to take over.
  const others = cluster.berths.filter(({ taken }) => !taken).length;
  return candidates.length === 0 || others < 2 ? undefined : seed.pick(candidates);
}

export const RELAYER_FAULTS: readonly Fault[] = [
  {
    name: "kill -9",
    weight: 4,
    blame: "its relayer",
    prepare({ cluster, recovery }, seed) {
      const berth = choose(cluster, seed);
      if (berth === undefined) return undefined;
      const { process } = berth;
      berth.taken = true;
      return {
        relayer: process,
        lastsMs: seed.between(50, 1_500),
        async do() {
          await recovery.watch("kill -9", process, () => process.kill("SIGKILL"));
          await process.end;
        },
        async undo() {
          cluster.restart(berth);
          berth.taken = false;
        },
      };
    },
  },
  {
    name: "SIGTERM",
    weight: 2,
    blame: "no one",
    prepare({ cluster, shutdowns }, seed) {
      const berth = choose(cluster, seed);
      if (berth === undefined) return undefined;
      berth.taken = true;
      return {
        relayer: berth.process,
        lastsMs: seed.between(50, 1_000),
        do: () => shutdowns.terminate(berth.process),
        async undo() {
          cluster.restart(berth);
          berth.taken = false;
        },
      };
    },
  },
  {
    name: "SIGSTOP",
    weight: 3,
    blame: "its relayer",
    prepare({ cluster, recovery }, seed) {
      const berth = choose(cluster, seed);
      if (berth === undefined) return undefined;
      const { process } = berth;
      berth.taken = true;
      const asDead = seed.chance(0.75);
      return {
        relayer: process,
        lastsMs: asDead ? DEAD_AFTER_MS + seed.between(2_200, 4_000) : seed.between(300, DEAD_AFTER_MS),
        async do() {
          if (asDead) await recovery.watch("SIGSTOP", process, () => process.kill("SIGSTOP"));
          else process.kill("SIGSTOP");
        },
        async undo() {
          process.kill("SIGCONT");
          berth.taken = false;
          if (process.endedAt() !== undefined) cluster.restart(berth);
        },
      };
    },
  },
];
