import { expect } from "vitest";
import { instant, LONG_AGO } from "./calendar.ts";
import { count } from "./coverage.ts";
import { ENQUEUE, INSERT } from "./database.ts";
import { after, endAfter, type Play } from "./play.ts";
import { insert, seen } from "./rules/world.ts";
import type { Do } from "./step.ts";

/** By enqueue(), by a plain INSERT, or in a transaction that is rolled back. */
export async function enqueue(play: Play, step: Do<"enqueue">): Promise<void> {
  const { ask, world, coverage } = play;
  const { how, gateway, many, key, priority } = step;
  const schedule = step.schedule === null ? null : after(play, step.schedule);
  const ends = Array.from({ length: many }, () => (step.end === null ? null : endAfter(play, step.end)));
  const time = (at: number | null) => (at === null ? null : instant(at));

  if (how === "rolled back") await ask("begin");
  const found = await ask(how === "insert" ? INSERT : ENQUEUE, [
    gateway,
    priority,
    time(schedule),
    key,
    ends.map(time),
  ]);
  if (how === "rolled back") return void (await ask("rollback"));

  const owner = seen(world, key);
  if (owner !== undefined) {
    count(coverage, `${how}: a key seen before`);
    return expect(found).toEqual(how === "insert" ? "23505 dedupe_key_seen_before" : [owner]);
  }
  expect(found).toHaveLength(many);
  for (const [i, id] of (found as number[]).entries()) {
    expect(world.messages.has(id)).toBe(false);
    insert(world, {
      ...{ id, gateway, key, priority, recipient: "+905551234567", content: "hi" },
      ...{ place: "messages", reason: null, attempts: 0, owner: null, claimedAt: null, endedAt: null },
      ...{ availableAt: schedule ?? LONG_AGO, expiresAt: ends[i] ?? null, revision: 0 },
    });
  }
}
