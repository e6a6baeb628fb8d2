import { expect } from "vitest";
import { instant } from "./calendar.ts";
import { count } from "./coverage.ts";
import * as sql from "./database.ts";
import { type Held, type Play, touch } from "./play.ts";
import type { Result } from "./rules/claims.ts";
import * as model from "./rules/claims.ts";
import { type Gateway, isClaimedFor, room } from "./rules/gateway.ts";
import type { Message } from "./rules/world.ts";
import type { Do, Told } from "./step.ts";

export async function register({ ask, world, slots }: Play, slot: number): Promise<void> {
  const number = await ask(sql.REGISTER, [instant(world.now)]);
  expect(world.relayers.has(number)).toBe(false);
  world.relayers.set(number, { locked: true, heardAt: world.now });
  slots[slot] = number;
}

export async function claim(play: Play, { slot, gateway, batch }: Do<"claim">): Promise<void> {
  const { ask, world, coverage, slots, held } = play;
  const relayer = slots[slot] as number;
  const it = world.gateways.get(gateway) as Gateway;
  const expected = model.claimable(world, relayer, gateway, batch);
  const found = await ask(sql.CLAIM, [relayer, gateway, batch, instant(world.now)]);
  if (typeof expected === "string") {
    count(coverage, "claim: taken for dead");
    expect(found).toBe(expected);
    return await register(play, slot);
  }
  if (!world.running || it.paused) count(coverage, "claim: paused");
  else if (!isClaimedFor(it, world.now)) count(coverage, `claim: held, ${it.hold?.reason}`);
  else if (expected.count === room(it, world.now) && expected.count < batch)
    count(coverage, `claim: no room for more, ${it.circuit === "closed" ? "tokens" : "probes"}`);

  expect(found).toHaveLength(expected.count);
  const ids: number[] = found.map(({ id }: { id: number }) => id);
  // How many of each priority is a matter of weights and chance; which ones is not, nor in what order they come.
  const taken = expected.due.flatMap((due) => due.slice(0, ids.filter(isOneOf(due)).length));
  model.take(world, relayer, gateway, taken);
  expect(found).toEqual(
    taken.map((one) => ({
      id: one.id,
      attempt: one.attempts,
      recipient: one.recipient,
      content: one.content,
      expires_in: one.expiresAt === null ? null : one.expiresAt - world.now,
      claimed_at: world.now,
      revision: one.revision,
    })),
  );
  for (const { id, attempts: attempt } of taken) held.push({ id, attempt, claimedAt: world.now, relayer });
}

const isOneOf = (messages: readonly Message[]) => (id: number) => messages.some((one) => one.id === id);

/** Some claims that one relayer believes to have. */
function some({ held }: Play, from: number, many: number): { relayer: number; mine: Held[] } | undefined {
  const relayer = held[from % held.length]?.relayer;
  if (relayer === undefined) return undefined;
  return { relayer, mine: held.filter((one) => one.relayer === relayer).slice(0, many) };
}

export async function settle(play: Play, step: Do<"settle">): Promise<void> {
  const { ask, world, coverage } = play;
  const { relayer, mine } = some(play, step.from, step.many) ?? {};
  if (relayer === undefined || mine === undefined) return;
  const tell = (id: number, i: number) =>
    (id === play.atFault ? AT_FAULT : step.told[i % step.told.length]) as Told;
  const moot = new Set(mine.filter(({ id }, i) => tell(id, i).moot).map(({ id }) => id));
  const results = mine
    .map(({ id, attempt, claimedAt }, i): Result => {
      const { outcome, retryAfter } = tell(id, i);
      return {
        id,
        attempt,
        outcome,
        retryAfter,
        claimedAt: step.fenced ? claimedAt : null,
        moot: moot.has(id),
      };
    })
    .filter((one, i, all) => all.findIndex((other) => isSame(one, other)) === i)
    .sort((a, b) => a.id - b.id);
  for (const result of results) {
    count(coverage, `settle: ${standing(play, relayer, result)}`);
    touch(play, result.id);
  }
  if (new Set(results.map(({ id }) => id)).size < results.length)
    count(coverage, "settle: two claims of one message");

  const found = await ask(sql.SETTLE, [
    relayer,
    results.map(({ id }) => id),
    results.map(({ attempt }) => attempt),
    results.map(({ outcome }) => outcome),
    results.map(({ id, outcome }) => (outcome === "accepted" ? `gw-${id}` : null)),
    results.map(({ retryAfter }) => retryAfter),
    step.fenced ? results.map(({ claimedAt }) => instant(claimedAt as number)) : null,
    [...moot],
    instant(world.now),
  ]);
  found.dead?.sort(([a]: [number], [b]: [number]) => a - b);
  expect(found).toEqual(model.settle(world, relayer, results));
  if (!step.again) play.held = play.held.filter((one) => !mine.includes(one));
}

const AT_FAULT: Told = { outcome: "hold", retryAfter: null, moot: false };

/** A claim settled twice in one batch would be no other than once; two claims of one message are two. */
const isSame = (a: Result, b: Result): boolean =>
  a.id === b.id && a.attempt === b.attempt && a.claimedAt === b.claimedAt;

/** Its outcome, or why it comes too late. */
function standing(
  { world }: Play,
  relayer: number,
  { id, attempt, outcome, claimedAt, moot }: Result,
): string {
  const it = world.messages.get(id) as Message;
  if (!world.relayers.has(relayer)) return "stale, its relayer was taken for dead";
  if (it.place !== "messages" || it.owner !== relayer || it.attempts !== attempt) return "stale";
  if (claimedAt !== null && it.claimedAt !== claimedAt) return "stale, given back and claimed again since";
  if (outcome === "hold" && model.isOwnFault(world, it)) return "hold, by its own fault";
  return moot ? `${outcome}, moot` : outcome;
}

export async function release(play: Play, { from, many }: Do<"release">): Promise<void> {
  const { relayer, mine } = some(play, from, many) ?? {};
  if (relayer === undefined || mine === undefined) return;
  const ids = mine.map(({ id }) => id).sort((a, b) => a - b);
  expect(await play.ask(sql.RELEASE, [relayer, ids])).toBe(model.release(play.world, relayer, ids));
  await play.ask(sql.INTO_CALENDAR, [instant(play.world.now)]);
}

/** A process that dies frees its lock; a host that is gone does not. Neither is heard of any more. */
export async function crash({ ask, world, slots, silent }: Play, step: Do<"crash">): Promise<void> {
  const number = slots[step.slot] as number;
  const relayer = world.relayers.get(number);
  silent.add(number);
  if (step.how === "host" || !relayer?.locked) return;
  relayer.locked = false;
  expect(await ask(sql.DIE, [number])).toBe(true);
}

export async function rescue({ ask, world, slots, silent, coverage }: Play): Promise<void> {
  for (const number of slots.filter((one) => world.relayers.has(one) && !silent.has(one))) {
    expect(await ask(sql.HEARTBEAT, [number, instant(world.now)])).toBe(true);
    Object.assign(world.relayers.get(number) as object, { heardAt: world.now });
  }
  const lived = new Map([...world.relayers].map(([number, { locked }]) => [number, locked]));
  const expected = model.rescue(world);
  expect(await ask(sql.RESCUE, [instant(world.now)])).toEqual(expected);
  for (const { relayer, rescued } of expected)
    if (rescued > 0) count(coverage, `rescue: ${lived.get(relayer) ? "a host" : "a process"} that is gone`);
}
