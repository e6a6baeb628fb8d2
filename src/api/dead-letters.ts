import type { DeadReason } from "../db/outbox.ts";
import { onConnection, patient } from "./connection.ts";
import type { Position } from "./cursor.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { keysetQuery } from "./keyset.ts";
import { MESSAGE_COLUMNS } from "./message.ts";

export const DEAD_REASONS = [
  "rejected",
  "exhausted",
  "expired",
  "cancelled",
  "unknown_outcome",
] as const satisfies readonly DeadReason[];

export interface DeadLetterFilters {
  readonly reason?: DeadReason | undefined;
  readonly gateway?: string | undefined;
  readonly recipient?: string | undefined;
  /** Exclusive, as RFC 3339 text: a JavaScript Date would lose the microseconds. */
  readonly died_after?: string | undefined;
  readonly died_before?: string | undefined;
  readonly order: "asc" | "desc";
}

export interface DeadLetterRow {
  readonly id: number;
  /** As in outbox.all_messages. */
  readonly status: "failed" | "expired" | "cancelled";
  readonly gateway: string;
  readonly priority: number;
  readonly recipient: string;
  readonly content: string;
  readonly metadata: Record<string, unknown>;
  readonly dedupe_key: string | null;
  readonly attempts: number;
  readonly available_at: string;
  readonly expires_at: string | null;
  readonly created_at: string;
  readonly last_error: string | null;
  readonly claimed_by: number | null;
  readonly claimed_at: string | null;
  readonly traceparent: string | null;
  readonly revision: number;
  readonly died_at: string;
  readonly reason: DeadReason;
  readonly http_status: number | null;
  readonly error: string | null;
}

const SELECT = `
    select
      ${MESSAGE_COLUMNS}, claimed_by, claimed_at, traceparent, revision, died_at, reason, http_status, error,
      case when reason in ('expired', 'cancelled') then reason::text else 'failed' end as status
    from outbox.dead_letters`;

const PATIENT = patient("Narrow it with died_after and died_before.");

export function deadLettersQuery(filters: DeadLetterFilters, from: Position | undefined, count: number) {
  return keysetQuery({
    select: SELECT,
    time: "died_at",
    order: filters.order,
    from,
    conditions: [
      ["died_at >", filters.died_after],
      ["died_at <", filters.died_before],
      ["reason =", filters.reason],
      ["gateway =", filters.gateway],
      ["recipient =", filters.recipient],
    ],
    count,
  });
}

/** Up to `count` dead letters beyond `from`. */
export function readDeadLetters(
  pool: ApiDependencies["pool"],
  filters: DeadLetterFilters,
  from: Position | undefined,
  count: number,
): Promise<DeadLetterRow[]> {
  const { text, values } = deadLettersQuery(filters, from, count);
  return onConnection(pool, (query) => query<DeadLetterRow>(text, values, PATIENT));
}
