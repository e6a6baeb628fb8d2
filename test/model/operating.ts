import { expect } from "vitest";
import { instant } from "./calendar.ts";
import { count } from "./coverage.ts";
import * as sql from "./database.ts";
import { after, endAfter, type Play, touch } from "./play.ts";
import { expire as expireInModel } from "./rules/claims.ts";
import type { Change } from "./rules/operators.ts";
import * as model from "./rules/operators.ts";
import type { Message } from "./rules/world.ts";
import type { Do, Target, Wish } from "./step.ts";

export async function pause({ ask, world }: Play, { gateway }: Do<"pause">): Promise<void> {
  expect(await ask(sql.PAUSE, [gateway])).toBe(model.pause(world, gateway));
}

export async function resume({ ask, world }: Play, { gateway }: Do<"resume">): Promise<void> {
  const changed = model.resume(world, gateway);
  expect(await ask(sql.RESUME, [gateway])).toBe(changed);
  if (changed && gateway !== null) await ask(sql.INTO_CALENDAR, [instant(world.now)]);
}

export async function toggle({ ask, world }: Play): Promise<void> {
  expect(await ask(sql.TOGGLE)).toBe(model.toggle(world));
}

export async function expire({ ask, world }: Play, { gateway, limit }: Do<"expire">): Promise<void> {
  const expired = expireInModel(world, gateway, limit);
  expect(await ask(sql.EXPIRE, [gateway, limit, instant(world.now)])).toBe(expired);
}

export async function maintain({ ask, world }: Play): Promise<void> {
  const { expired, forgot } = model.maintain(world);
  const lines = [
    ...(expired > 0 ? [`expired ${expired} messages`] : []),
    ...(forgot > 0 ? [`forgot ${forgot} dedupe keys`] : []),
  ];
  expect(await ask(sql.MAINTAIN, [instant(world.now)])).toEqual(lines);
}

export async function cancel(play: Play, { target }: Do<"cancel">): Promise<void> {
  const id = find(play, target);
  const found = await play.ask(sql.CANCEL, [id, instant(play.world.now)]);
  answers(play, "cancel", found, model.cancel(play.world, id));
}

export async function edit(play: Play, { target, wish }: Do<"edit">): Promise<void> {
  const id = find(play, target);
  const change = changed(play, wish);
  const { recipient, content, priority } = change;
  const [availableAt, expiresAt] = [time(change.availableAt), time(change.expiresAt)];
  const now = instant(play.world.now);
  const found = await play.ask(sql.EDIT, [id, recipient, content, availableAt, expiresAt, priority, now]);
  answers(play, "edit", found, model.edit(play.world, id, change));
}

export async function replay(play: Play, { target, wish, force }: Do<"replay">): Promise<void> {
  const id = find(play, target);
  const change = changed(play, wish);
  const { recipient, content, expiresAt } = change;
  const now = instant(play.world.now);
  const found = await play.ask(sql.REPLAY, [id, recipient, content, time(expiresAt), force, now]);
  answers(play, "replay", found, model.replay(play.world, id, change, force));
}

function answers({ coverage }: Play, step: string, found: unknown, expected: string | boolean | null): void {
  expect(found).toBe(expected);
  if (typeof expected === "string") count(coverage, `${step}: ${expected}`);
}

/** Of those in that place, or of all if there are none, the nth counted from what was touched last: so much happens to few. */
function find(play: Play, { among, nth }: Target): number {
  const { messages } = play.world;
  const lately = new Set([...[...play.touched].reverse(), ...messages.keys()]);
  const all = [...lately].map((id) => messages.get(id) as Message);
  const there = all.filter(({ place }) => place === among);
  const from = there.length > 0 || among === "nowhere" ? there : all;
  const id = from[nth % from.length]?.id;
  if (id !== undefined) touch(play, id);
  return id ?? 1_000_000;
}

const changed = (play: Play, { recipient, content, priority, schedule, end }: Wish): Change => ({
  recipient,
  content,
  priority,
  availableAt: schedule === undefined ? undefined : after(play, schedule),
  expiresAt: typeof end === "number" ? endAfter(play, end) : end,
});

const time = (at: number | "never" | undefined): string | undefined =>
  typeof at === "number" ? instant(at) : at && "infinity";
