import type { OutcomeKind } from "../../../src/gateway/outcome.ts";
import { type Gateway, newGateway, type Policy } from "./gateway.ts";

/** A message as the model has it. Times are milliseconds of the run's own calendar. */
export interface Message {
  readonly id: number;
  readonly gateway: string;
  readonly key: string | null;
  priority: number;
  recipient: string;
  content: string;
  place: "messages" | "sent" | "dead_letters";
  reason: "rejected" | "exhausted" | "expired" | "cancelled" | "unknown_outcome" | null;
  attempts: number;
  /** The relayer that has it, or had it when it ended. */
  owner: number | null;
  claimedAt: number | null;
  /** When it was sent, or died. */
  endedAt: number | null;
  availableAt: number;
  expiresAt: number | null;
  revision: number;
}

export interface Attempt {
  readonly id: number;
  readonly attempt: number;
  readonly outcome: OutcomeKind;
  readonly relayer: number;
  readonly endedAt: number;
}

export interface Relayer {
  /** Its process lives: it holds its lock. */
  locked: boolean;
  heardAt: number;
}

export interface World {
  now: number;
  running: boolean;
  readonly gateways: ReadonlyMap<string, Gateway>;
  readonly messages: Map<number, Message>;
  /** Keys seen, with the message that has each. */
  readonly keys: Map<string, number>;
  readonly relayers: Map<number, Relayer>;
  readonly attempts: Attempt[];
  readonly audit: Map<string, number>;
}

/** An error: its SQLSTATE, and the constraint where it names one. */
export type Refusal = string;

export const DEAD_AFTER = 5_000;
/** The gateway whose keys are forgotten by the first maintain(); those of the others are kept for ever. */
export const FORGETFUL = "second";

/** What a gateway says of itself, not of the message. */
export const ASKS_FOR_REST: readonly OutcomeKind[] = ["throttled", "hold"];

export const newWorld = (policies: Readonly<Record<string, Policy>>): World => ({
  now: 0,
  running: true,
  gateways: new Map(Object.entries(policies).map(([name, policy]) => [name, newGateway(policy)])),
  messages: new Map(),
  keys: new Map(),
  relayers: new Map(),
  attempts: [],
  audit: new Map(),
});

export function status({ place, owner, reason }: Message): string {
  if (place === "messages") return owner === null ? "pending" : "sending";
  if (place === "sent") return "sent";
  return reason === "expired" || reason === "cancelled" ? reason : "failed";
}

export const gatewayOf = (world: World, name: string): Gateway => world.gateways.get(name) as Gateway;
export const all = (world: World): Message[] => [...world.messages.values()];
export const waiting = (world: World, gateway: string): Message[] =>
  all(world).filter((one) => one.gateway === gateway && status(one) === "pending");
export const isExpired = ({ expiresAt }: Message, now: number): boolean =>
  expiresAt !== null && expiresAt <= now;
export const record = (world: World, action: string): void => {
  world.audit.set(action, (world.audit.get(action) ?? 0) + 1);
};

export function bury(message: Message, reason: NonNullable<Message["reason"]>, endedAt: number): void {
  Object.assign(message, { place: "dead_letters", reason, endedAt });
}

export function giveBack(message: Message): void {
  message.owner = null;
  message.claimedAt = null;
}

/** The id of the message that has this key, if the key was seen; an INSERT is refused then, enqueue() returns it. */
export const seen = (world: World, key: string | null): number | undefined =>
  key === null ? undefined : world.keys.get(key);

export function insert(world: World, message: Message): void {
  world.messages.set(message.id, message);
  if (message.key !== null) world.keys.set(message.key, message.id);
}
