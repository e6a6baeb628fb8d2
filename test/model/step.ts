import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import type { Policy } from "./rules/gateway.ts";

/** Which message: the nth of those in that place, the one touched last first; or one that there is not. */
export interface Target {
  readonly among: "messages" | "sent" | "dead_letters" | "nowhere";
  readonly nth: number;
}

/** What a person changes; undefined stays. Times are ticks from now. */
export interface Wish {
  readonly recipient?: string | undefined;
  readonly content?: string | undefined;
  readonly priority?: number | undefined;
  readonly schedule?: number | undefined;
  readonly end?: number | "never" | undefined;
}

export interface Told {
  readonly outcome: OutcomeKind;
  readonly retryAfter: number | null;
  readonly moot: boolean;
}

/** One thing that somebody does. A relayer is named by its slot, 0 or 1: it takes a new number when it was taken for dead. */
export type Step =
  | {
      readonly do: "enqueue";
      readonly how: "enqueue" | "insert" | "rolled back";
      readonly gateway: string;
      readonly many: number;
      readonly key: string | null;
      readonly priority: number;
      readonly schedule: number | null;
      readonly end: number | null;
    }
  | { readonly do: "claim"; readonly slot: number; readonly gateway: string; readonly batch: number }
  | {
      readonly do: "settle";
      /** Which of the claims that relayers believe to have: some of the relayer that has the nth. */
      readonly from: number;
      readonly many: number;
      /** Their outcomes, over and over. */
      readonly told: readonly Told[];
      /** Whether claimed_at is part of the fence. */
      readonly fenced: boolean;
      /** The relayer does not learn that it is recorded, and will settle it again. */
      readonly again: boolean;
    }
  | { readonly do: "release"; readonly from: number; readonly many: number }
  | { readonly do: "crash"; readonly slot: number; readonly how: "process" | "host" }
  | { readonly do: "rescue" }
  | { readonly do: "pause"; readonly gateway: string | null }
  | { readonly do: "resume"; readonly gateway: string | null }
  | { readonly do: "toggle" }
  | { readonly do: "wait"; readonly ticks: number }
  | { readonly do: "expire"; readonly gateway: string; readonly limit: number }
  | { readonly do: "maintain" }
  | { readonly do: "cancel"; readonly target: Target }
  | { readonly do: "edit"; readonly target: Target; readonly wish: Wish }
  | { readonly do: "replay"; readonly target: Target; readonly wish: Wish; readonly force: boolean };

export type Do<Name extends Step["do"]> = Extract<Step, { readonly do: Name }>;

/** One try of the model: what the gateways' policies are, what waits for each of them when it begins, and what happens. */
export interface Run {
  readonly policies: Readonly<Record<string, Policy>>;
  readonly backlog: number;
  /** The message that is held whenever it is sent, for it is at fault itself. */
  readonly atFault: number | null;
  readonly steps: readonly Step[];
}
