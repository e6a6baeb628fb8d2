import { setTimeout as delay } from "node:timers/promises";
import type { Blame } from "./fault-log.ts";
import type { Fault } from "./faults.ts";
import { queryUntilAnswered } from "./persistent-query.ts";

/** Ends the sessions that the condition names, each with the given chance, again and again. */
function cut(name: string, weight: number, blame: Blame, which: string): Fault {
  return {
    name,
    weight,
    blame,
    prepare: ({ postgres }, seed) => {
      const share = seed.pick([0.3, 0.7, 1]);
      const pauses = Array.from({ length: seed.between(1, 12) }, () => seed.between(10, 100));
      return {
        lastsMs: 0,
        async do() {
          for (const ms of pauses) {
            await queryUntilAnswered(
              postgres.url,
              `select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and ${which} and random() < $1`,
              [share],
            );
            await delay(ms);
          }
        },
        undo: async () => {},
      };
    },
  };
}

export const POSTGRES_FAULTS: readonly Fault[] = [
  {
    name: "Postgres stopped (immediate)",
    weight: 2,
    blame: "everyone",
    prepare: ({ postgres }, seed) => ({
      lastsMs: seed.between(100, 2_500),
      do: postgres.stop,
      undo: postgres.start,
    }),
  },
  {
    name: "Postgres frozen",
    weight: 2,
    blame: "everyone",
    prepare: ({ postgres }, seed) => ({
      lastsMs: seed.chance(0.7) ? seed.between(200, 3_000) : seed.between(5_000, 8_000),
      do: postgres.freeze,
      undo: async () => postgres.thaw(),
    }),
  },
  cut("sessions cut", 1, "everyone", "application_name like 'outbox-relayer %'"),
  // Claims and settles may lose their answers; that is no reason to post anything twice.
  cut("queries cut", 2, "no one", "application_name = 'outbox-relay'"),
  cut("everything cut", 1, "everyone", "true"),
];
