import type { Fault } from "./faults.ts";
import type { Mood } from "./gateway-ledger.ts";

function outage(name: string, mood: Mood): Fault {
  return {
    name,
    weight: 1,
    blame: "no one",
    prepare: ({ gateway }, seed) => ({
      lastsMs: seed.between(1_000, 3_000),
      do: async () => gateway.setMood(mood),
      undo: async () => gateway.setMood("weather"),
    }),
  };
}

function paused(name: string, gateway: "default" | null): Fault {
  return {
    name,
    weight: 1,
    blame: "no one",
    prepare: ({ pauses }, seed) => ({
      lastsMs: seed.between(300, 2_000),
      do: () => pauses.pause(gateway),
      undo: () => pauses.resume(),
    }),
  };
}

export const WORLD_FAULTS: readonly Fault[] = [
  outage("gateway unavailable", "unavailable"),
  outage("gateway hangs", "hanging"),
  {
    name: "gateway refuses connections",
    weight: 1,
    blame: "no one",
    prepare: ({ gateway }, seed) => ({
      lastsMs: seed.between(1_000, 3_000),
      do: gateway.close,
      undo: gateway.reopen,
    }),
  },
  paused("paused", null),
  paused("gateway paused", "default"),
  {
    name: "Redis killed",
    weight: 1,
    blame: "no one",
    prepare: ({ redis }, seed) =>
      redis && { lastsMs: seed.between(200, 3_000), do: redis.kill, undo: redis.start },
  },
];
