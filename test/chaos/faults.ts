import { setTimeout as delay } from "node:timers/promises";
import type { Blame, FaultLog } from "./fault-log.ts";
import type { RelayerProcess } from "./relayer-process.ts";
import type { Seed } from "./seed.ts";
import type { World } from "./world.ts";

export interface Fault {
  readonly name: string;
  /** How many times it is in the deck of its lane. */
  readonly weight: number;
  readonly blame: Blame;
  /** Undefined when there is nothing to do it to now. */
  prepare(world: World, seed: Seed): PreparedFault | undefined;
}

export interface PreparedFault {
  /** The one that suffers it, if it is one. */
  readonly relayer?: RelayerProcess;
  readonly lastsMs: number;
  do(): Promise<void>;
  undo(): Promise<void>;
}

export interface LaneOptions {
  readonly faults: readonly Fault[];
  readonly world: World;
  readonly log: FaultLog;
  readonly seed: Seed;
  /** Between the end of a fault and the next: the least and the most. */
  readonly pauseMs: readonly [number, number];
  /** Ends it; what has been done is undone first. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** One fault after the other; several lanes make several faults at a time. */
export async function runFaults({
  faults,
  world,
  log,
  seed,
  pauseMs,
  signal,
  say,
}: LaneOptions): Promise<void> {
  // A deck rather than dice: in a minute each fault has its turn.
  let deck: Fault[] = [];
  const sleep = (ms: number) => delay(ms, undefined, { signal }).catch(() => {});
  for (;;) {
    await sleep(seed.between(...pauseMs));
    if (signal.aborted) return;
    if (deck.length === 0) deck = seed.deck(faults);
    const fault = deck.pop() as Fault;
    const prepared = fault.prepare(world, seed);
    if (prepared === undefined) continue;
    const whom = prepared.relayer === undefined ? "" : ` of ${prepared.relayer.name}`;
    say(`${fault.name}${whom}`);
    const span = log.begin(fault.name, fault.blame, prepared.relayer);
    await prepared.do();
    await sleep(prepared.lastsMs);
    await prepared.undo();
    span.to = Date.now();
    if (prepared.lastsMs > 0) say(`end of: ${fault.name}${whom}, after ${span.to - span.from} ms`);
  }
}
