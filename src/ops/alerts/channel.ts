import type { Notice } from "../../db/alerts.ts";

export const CHANNELS = ["slack", "email"] as const;

export type ChannelName = (typeof CHANNELS)[number];

/** What became of a notice. Expected failures are values: who sends decides whether to try again. */
export type Delivery =
  /** `remark`: what a person should know all the same, such as an address that was refused. */
  | { readonly sent: true; readonly remark?: string }
  /** `retryAfterMs`: the other side asks for so much patience. */
  | { readonly sent: false; readonly reason: string; readonly retryAfterMs?: number };

/** A way to tell people. */
export interface Channel {
  readonly name: ChannelName;
  /** Sends one notice; `signal` gives it up. Never throws for what the other side does. */
  send(notice: Notice, signal?: AbortSignal): Promise<Delivery>;
}
