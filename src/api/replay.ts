import { z } from "@hono/zod-openapi";
import type { Query } from "./connection.ts";
import { DEAD_REASONS } from "./dead-letters.ts";
import { id, time } from "./message.ts";
import { maskNumbersIn } from "./pii.ts";

export const REPLAY_STATUSES = ["running", "done", "cancelled"] as const;

/** A row of outbox.replays. */
export const Replay = z
  .object({
    id,
    status: z.enum(REPLAY_STATUSES).openapi({ description: "A running one goes on by itself." }),
    actor: z.string().openapi({ description: "Who asked for it." }),
    reason: z.enum(DEAD_REASONS).nullable().openapi({ description: "Null: of any." }),
    gateway: z.string().nullable().openapi({ description: "Null: of any." }),
    since: time.nullable().openapi({ description: "Null: from the first." }),
    until: time.openapi({
      description: "At the latest the time it was asked for: what dies again is not replayed again.",
    }),
    error_like: z
      .string()
      .nullable()
      .openapi({ description: "Null: any. Without the scope read_pii numbers in it are masked." }),
    max_messages: z.int().nullable().openapi({ description: "Null: all." }),
    expires_at: time.nullable().optional().openapi({
      description: "The new end of what is replayed; null: it never expires. Left out: each keeps its own.",
    }),
    force: z.boolean(),
    matched: z.int().openapi({ description: "How many there were when it was asked for." }),
    replayed: z.int().openapi({ description: "How many are back in the outbox." }),
    skipped: z.int().openapi({
      description:
        "How many were left: of unknown_outcome without force, expired without a new end, their gateway gone, their " +
        "dedupe_key used again, being changed at that moment, or refused by the outbox.",
    }),
    reached_at: time.nullable().openapi({
      description: "How far it is: `died_at` of the last one looked at. Null: none yet.",
    }),
    reached_id: id.nullable().openapi({ description: "And its id." }),
    created_at: time,
    finished_at: time.nullable(),
  })
  .openapi("Replay");

export type Replay = z.infer<typeof Replay>;

export const REPLAY_EXAMPLE: Replay = {
  id: 7,
  status: "running",
  actor: "night-shift",
  reason: "exhausted",
  gateway: "default",
  since: "2026-11-23T00:00:00.000000Z",
  until: "2026-11-23T09:30:00.000000Z",
  error_like: "%HTTP 503%",
  max_messages: null,
  expires_at: null,
  force: false,
  matched: 5_000,
  replayed: 1_000,
  skipped: 2,
  reached_at: "2026-11-23T04:11:00.123456Z",
  reached_id: 1_734,
  created_at: "2026-11-23T09:30:00.000000Z",
  finished_at: null,
};

/** As in the table: `expires_at` may be "infinity", and null means that each keeps its own. */
export type ReplayRow = Omit<Replay, "expires_at"> & { readonly expires_at: string | null };

// Before a replay has looked at anything, reached_at is where it begins: since, or -infinity.
export const SELECT_REPLAYS = `
    select
      id, status, actor, reason, gateway, case when isfinite(since) then since end as since, until, error_like, max_messages,
      expires_at, force, matched, replayed, skipped, case when reached_id > 0 then reached_at end as reached_at,
      nullif(reached_id, 0) as reached_id, created_at, finished_at
    from outbox.replays`;

export async function readReplay(query: Query, replay: number): Promise<ReplayRow | undefined> {
  const [row] = await query<ReplayRow>(`${SELECT_REPLAYS} where id = $1`, [replay]);
  return row;
}

/** As its reader may see it: error_like may hold a number that somebody looked for. */
export function shownReplay({ expires_at, ...row }: ReplayRow, mayReadPii: boolean): Replay {
  return {
    ...row,
    error_like: mayReadPii ? row.error_like : maskNumbersIn(row.error_like),
    ...(expires_at === null ? {} : { expires_at: expires_at === "infinity" ? null : expires_at }),
  };
}
