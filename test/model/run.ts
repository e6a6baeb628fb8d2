import { TICK } from "./calendar.ts";
import { compare } from "./compare.ts";
import { type Coverage, count, countChanges, states } from "./coverage.ts";
import type { Ask } from "./database.ts";
import { enqueue } from "./enqueueing.ts";
import * as operating from "./operating.ts";
import { newPlay, type Play } from "./play.ts";
import * as relaying from "./relaying.ts";
import { FORGETFUL } from "./rules/world.ts";
import type { Run, Step } from "./step.ts";

/** Takes an empty outbox and the model through the steps, and compares what they answer, and now and then all that they hold. */
export async function go(run: Run, ask: Ask, coverage: Coverage): Promise<void> {
  const play = newPlay(run, ask, coverage);
  const { world } = play;
  world.now = TICK;
  for (const slot of [0, 1]) await relaying.register(play, slot);
  const waits = { how: "enqueue", priority: 1, schedule: null, end: null } as const;
  for (const gateway of world.gateways.keys())
    await enqueue(play, { do: "enqueue", gateway, many: run.backlog, key: null, ...waits });
  await enqueue(play, { do: "enqueue", gateway: FORGETFUL, many: 1, key: "a", ...waits });
  await operating.cancel(play, { do: "cancel", target: { among: "messages", nth: 2 * run.backlog } });

  for (const [nth, step] of run.steps.entries()) {
    world.now += TICK;
    count(coverage, step.do);
    const before = states(world);
    try {
      await take(play, step);
      if (nth % 6 === 5 || nth === run.steps.length - 1) await compare(ask, world);
    } catch (error) {
      (error as Error).message = `step ${nth}, ${JSON.stringify(step)}: ${(error as Error).message}`;
      throw error;
    }
    countChanges(coverage, step.do, before, states(world));
  }
}

async function take(play: Play, step: Step): Promise<void> {
  switch (step.do) {
    case "enqueue":
      return await enqueue(play, step);
    case "claim":
      return await relaying.claim(play, step);
    case "settle":
      return await relaying.settle(play, step);
    case "release":
      return await relaying.release(play, step);
    case "crash":
      return await relaying.crash(play, step);
    case "rescue":
      return await relaying.rescue(play);
    case "pause":
      return await operating.pause(play, step);
    case "resume":
      return await operating.resume(play, step);
    case "toggle":
      return await operating.toggle(play);
    case "expire":
      return await operating.expire(play, step);
    case "maintain":
      return await operating.maintain(play);
    case "cancel":
      return await operating.cancel(play, step);
    case "edit":
      return await operating.edit(play, step);
    case "replay":
      return await operating.replay(play, step);
    case "wait":
      play.world.now += step.ticks * TICK;
  }
}
