import type { OutcomeKind } from "../../../src/gateway/outcome.ts";
import * as gateways from "./gateway.ts";
import { doubling } from "./gateway.ts";
import {
  all,
  bury,
  DEAD_AFTER,
  gatewayOf,
  giveBack,
  isExpired,
  type Message,
  type Refusal,
  type World,
  waiting,
} from "./world.ts";

/** The result of an attempt as the relayer hands it in. */
export interface Result {
  readonly id: number;
  readonly attempt: number;
  readonly outcome: OutcomeKind;
  readonly retryAfter: number | null;
  /** Null is not compared. */
  readonly claimedAt: number | null;
  /** The relayer cut the attempt short. */
  readonly moot: boolean;
}

export interface Settled {
  readonly sent: number;
  /** Of which nothing was recorded. */
  readonly stale: readonly number[];
  readonly dead: readonly (readonly [id: number, reason: string])[];
  readonly held: readonly string[];
}

/** Ends what waits past its time, what expired first first. Returns how many. */
export function expire(world: World, gateway: string, limit: number): number {
  const expired = waiting(world, gateway)
    .filter((one) => isExpired(one, world.now))
    .sort((a, b) => (a.expiresAt as number) - (b.expiresAt as number))
    .slice(0, limit);
  for (const one of expired) bury(one, "expired", world.now);
  return expired.length;
}

/** How many a claim gets, and of each priority what is due, in the order in which it has to come. */
export function claimable(
  world: World,
  relayer: number,
  gateway: string,
  batch: number,
): Refusal | { readonly count: number; readonly due: readonly (readonly Message[])[] } {
  if (!world.relayers.has(relayer)) return "OB002";
  const it = gatewayOf(world, gateway);
  if (!world.running || !gateways.isClaimedFor(it, world.now)) return { count: 0, due: [[], [], []] };
  expire(world, gateway, batch);
  const due = waiting(world, gateway)
    .filter((one) => one.availableAt <= world.now && !isExpired(one, world.now))
    .sort((a, b) => a.availableAt - b.availableAt || a.id - b.id);
  return {
    count: Math.min(due.length, batch, gateways.room(it, world.now)),
    due: [0, 1, 2].map((priority) => due.filter((one) => one.priority === priority)),
  };
}

/** These were claimed; the attempt is counted. */
export function take(world: World, relayer: number, gateway: string, messages: readonly Message[]): void {
  for (const one of messages)
    Object.assign(one, { owner: relayer, claimedAt: world.now, attempts: one.attempts + 1 });
  gateways.claimed(gatewayOf(world, gateway), messages.length, world.now);
}

/** Is this result of the claim that stands? */
function isLive(world: World, relayer: number, { id, attempt, claimedAt }: Result): boolean {
  const it = world.messages.get(id);
  return (
    it?.place === "messages" &&
    it.owner === relayer &&
    it.attempts === attempt &&
    (claimedAt === null || it.claimedAt === claimedAt)
  );
}

/** Ends the attempts that still are this relayer's; what they show of their gateways, and of their messages. */
export function settle(world: World, relayer: number, results: readonly Result[]): Settled {
  const live = results
    .filter((result) => isLive(world, relayer, result))
    .map((result) => ({ ...result, message: world.messages.get(result.id) as Message }));
  // What they say of their gateways comes first: a gateway that fails costs no attempts.
  const held = [...Map.groupBy(live, ({ message }) => message.gateway)]
    .filter(([name, group]) =>
      gateways.judge(
        gatewayOf(world, name),
        group.map((one) => ({
          ...one,
          claimedAt: one.message.claimedAt as number,
          isOwnFault: isOwnFault(world, one.message),
        })),
        world.now,
      ),
    )
    .map(([name]) => name);
  for (const { message, ...result } of live) end(world, message, result);

  return {
    sent: live.filter(({ outcome }) => outcome === "accepted").length,
    stale: [...new Set(results.map(({ id }) => id))].filter((id) => live.every((one) => one.id !== id)),
    dead: live
      .filter(({ message }) => message.place === "dead_letters")
      .map(({ id, message }) => [id, message.reason as string] as const),
    held: held.sort(),
  };
}

/** A message that found the account or the URL at fault, before others passed, and does again. */
export function isOwnFault(world: World, { id, gateway }: Message): boolean {
  const { provedAt } = gatewayOf(world, gateway);
  return world.attempts.some(
    ({ id: of, outcome, endedAt }) => of === id && outcome === "hold" && endedAt <= provedAt,
  );
}

/** Ends one attempt, and the message with it where that is the rule. */
function end(world: World, message: Message, { outcome, retryAfter, moot }: Result): void {
  const { now } = world;
  const { policy, circuit } = gatewayOf(world, message.gateway);
  const { id, attempts: attempt, owner } = message;
  const isBlameless =
    circuit !== "closed" ||
    outcome === "throttled" ||
    (outcome === "hold" && !isOwnFault(world, message)) ||
    (outcome === "retry" && moot);
  if (outcome !== "accepted" || policy.keep_attempts === "all")
    world.attempts.push({ id, attempt, outcome, relayer: owner as number, endedAt: now });

  if (outcome === "accepted") Object.assign(message, { place: "sent", endedAt: now });
  else if (outcome === "rejected") bury(message, "rejected", now);
  else if (outcome === "unknown" && policy.on_unknown === "park") bury(message, "unknown_outcome", now);
  else if (!isBlameless && attempt >= policy.max_attempts) bury(message, "exhausted", now);
  else {
    giveBack(message);
    if (isBlameless) message.attempts--;
    const delay = doubling(gateways.BASE_DELAY, gateways.MAX_DELAY, attempt);
    // After a hold that is not its fault, it goes behind what was due before.
    if (outcome === "hold" && isBlameless) message.availableAt = now;
    else if (outcome !== "throttled") message.availableAt = now + Math.max(delay, retryAfter ?? 0);
  }
}

/** Gives back claims that were never sent, uncounted. Returns how many were still the relayer's. */
export function release(world: World, relayer: number, ids: readonly number[]): number {
  const own = all(world).filter(
    (one) => ids.includes(one.id) && one.place === "messages" && one.owner === relayer,
  );
  for (const one of own) {
    gateways.refund(gatewayOf(world, one.gateway), one.claimedAt as number, world.now);
    giveBack(one);
    one.attempts--;
  }
  return own.length;
}

/** Frees the claims of relayers that are gone, counted and on record, and forgets those relayers. */
export function rescue(world: World): { relayer: number; rescued: number }[] {
  const { now } = world;
  const gone = [...world.relayers]
    .filter(([, { locked, heardAt }]) => !locked || heardAt <= now - DEAD_AFTER)
    .map(([relayer]) => relayer)
    .sort((a, b) => a - b);
  return gone.map((relayer) => {
    world.relayers.delete(relayer);
    const lost = all(world).filter((one) => one.place === "messages" && one.owner === relayer);
    for (const one of lost) {
      const { policy, circuit } = gatewayOf(world, one.gateway);
      world.attempts.push({ id: one.id, attempt: one.attempts, outcome: "unknown", relayer, endedAt: now });
      if (policy.on_unknown === "park") bury(one, "unknown_outcome", now);
      else if (circuit === "closed" && one.attempts >= policy.max_attempts) bury(one, "exhausted", now);
      else {
        giveBack(one);
        // While its gateway fails, nothing costs an attempt.
        if (circuit !== "closed") one.attempts--;
      }
    }
    return { relayer, rescued: lost.length };
  });
}
