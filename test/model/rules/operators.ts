import { expire } from "./claims.ts";
import * as gateways from "./gateway.ts";
import {
  ASKS_FOR_REST,
  bury,
  FORGETFUL,
  gatewayOf,
  giveBack,
  isExpired,
  type Message,
  type Refusal,
  record,
  seen,
  status,
  type World,
} from "./world.ts";

const UNKNOWN_MESSAGE = "OB006";
const WRONG_STATE = "OB005";

/** What is changed; undefined stays, and an end may be "never". */
export interface Change {
  readonly recipient?: string | undefined;
  readonly content?: string | undefined;
  readonly priority?: number | undefined;
  readonly availableAt?: number | undefined;
  readonly expiresAt?: number | "never" | undefined;
}

/** Without a gateway: everything. Returns whether it changed anything. */
export function pause(world: World, gateway: string | null): boolean {
  record(world, "pause");
  const changed = gateway === null ? world.running : !gatewayOf(world, gateway).paused;
  if (gateway === null) world.running = false;
  else gatewayOf(world, gateway).paused = true;
  return changed;
}

export function resume(world: World, gateway: string | null): boolean {
  record(world, "resume");
  if (gateway !== null) return gateways.resume(gatewayOf(world, gateway), world.now);
  const changed = !world.running;
  world.running = true;
  return changed;
}

/** Returns whether it runs now. */
export function toggle(world: World): boolean {
  if (world.running) pause(world, null);
  else resume(world, null);
  return world.running;
}

/** Expires everywhere and forgets keys. Returns how many of each. */
export function maintain(world: World): { expired: number; forgot: number } {
  const expired = [...world.gateways.keys()]
    .map((name) => expire(world, name, Number.POSITIVE_INFINITY))
    .reduce((sum, many) => sum + many, 0);
  const old = [...world.keys].filter(([, id]) => world.messages.get(id)?.gateway === FORGETFUL);
  for (const [key] of old) world.keys.delete(key);
  return { expired, forgot: old.length };
}

export function cancel(world: World, id: number): Refusal | null {
  const it = world.messages.get(id);
  if (it === undefined) return UNKNOWN_MESSAGE;
  if (status(it) !== "pending") return WRONG_STATE;
  bury(it, "cancelled", world.now);
  record(world, "cancel");
  return null;
}

/** What a message becomes by a change. */
function amend(world: World, it: Message, change: Change): Refusal | Message {
  const { recipient = it.recipient, content = it.content, priority = it.priority } = change;
  const { availableAt = it.availableAt, expiresAt: end = it.expiresAt } = change;
  const expiresAt = end === "never" ? null : end;
  const becomes = { ...it, recipient, content, priority, availableAt, expiresAt };
  if (expiresAt !== it.expiresAt && isExpired(becomes, world.now)) return "23514 expires_at_in_the_past";
  if (hasOtherText(it, becomes) && isKnownAsRejected(world, it)) becomes.revision++;
  return becomes;
}

/** The gateway may remember that it rejected this key, wherever the message stands since; of other failures it should. */
function isKnownAsRejected(world: World, { id }: Message): boolean {
  const tries = world.attempts.filter((one) => one.id === id && !ASKS_FOR_REST.includes(one.outcome));
  return tries.at(-1)?.outcome === "rejected";
}

const hasOtherText = (a: Message, b: Message): boolean =>
  a.recipient !== b.recipient || a.content !== b.content;

/** Returns whether it changed anything. */
export function edit(world: World, id: number, change: Change): Refusal | boolean {
  const it = world.messages.get(id);
  if (it === undefined) return UNKNOWN_MESSAGE;
  if (["sending", "sent"].includes(status(it))) return WRONG_STATE;
  const becomes = amend(world, it, change);
  if (typeof becomes === "string") return becomes;
  if (JSON.stringify(becomes) === JSON.stringify(it)) return false;
  Object.assign(it, becomes);
  record(world, "edit");
  return true;
}

/** A dead letter goes back, or by force what was sent: same id, all attempts to go. */
export function replay(world: World, id: number, change: Change, force: boolean): Refusal | null {
  const { now } = world;
  const it = world.messages.get(id);
  if (it === undefined) return UNKNOWN_MESSAGE;
  if (it.place === "messages") return WRONG_STATE;
  const becomes = amend(world, it, change);
  if (typeof becomes === "string") return becomes;
  if (it.place === "sent" && hasOtherText(it, becomes)) return WRONG_STATE;
  if (!force && (it.place === "sent" || it.reason === "unknown_outcome")) return "OB007 replay_needs_force";
  if (isExpired(becomes, now)) return "OB007 replay_needs_expires_at";
  const owner = seen(world, it.key);
  if (owner !== undefined && owner !== id) return "23505 dedupe_key_seen_before";

  const wasSent = { id, attempt: it.attempts, relayer: it.owner as number, endedAt: it.endedAt as number };
  // Where only failed attempts are kept, the acceptance was on record as the row of sent.
  if (it.place === "sent" && gatewayOf(world, it.gateway).policy.keep_attempts === "failed")
    world.attempts.push({ ...wasSent, outcome: "accepted" });
  const availableAt = Math.max(it.availableAt, now);
  Object.assign(it, becomes, { place: "messages", reason: null, endedAt: null, attempts: 0, availableAt });
  giveBack(it);
  if (it.key !== null) world.keys.set(it.key, id);
  record(world, "replay");
  return null;
}
