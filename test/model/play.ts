import { TICK } from "./calendar.ts";
import type { Coverage } from "./coverage.ts";
import type { Ask } from "./database.ts";
import { newWorld, type World } from "./rules/world.ts";
import type { Run } from "./step.ts";

/** What a relayer believes to have claimed; it may be wrong, as a zombie is. */
export interface Held {
  readonly id: number;
  readonly attempt: number;
  readonly claimedAt: number;
  readonly relayer: number;
}

/** A run under way: the database, the model beside it, and what the relayers know. */
export interface Play {
  readonly ask: Ask;
  readonly world: World;
  readonly coverage: Coverage;
  readonly atFault: number | null;
  /** The two relayers' numbers. */
  readonly slots: number[];
  /** Numbers that are not heard of any more. */
  readonly silent: Set<number>;
  held: Held[];
  /** Messages that something happened to, the last one last. */
  readonly touched: Set<number>;
  /** How many ends were given to messages. */
  ends: number;
}

export const newPlay = ({ policies, atFault }: Run, ask: Ask, coverage: Coverage): Play => ({
  ask,
  world: newWorld(policies),
  coverage,
  atFault,
  slots: [],
  silent: new Set(),
  held: [],
  touched: new Set(),
  ends: 0,
});

export const after = ({ world }: Play, ticks: number): number => world.now + ticks * TICK;

/** No two ends are the same, so that it is clear what expires first. */
export const endAfter = (play: Play, ticks: number): number => after(play, ticks) + (++play.ends % TICK);

export function touch({ touched }: Play, id: number): void {
  touched.delete(id);
  touched.add(id);
}
