import { onConnection } from "./connection.ts";
import type { Position } from "./cursor.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { ProblemError } from "./problem.ts";
import { COLUMNS, type Message, type Status } from "./whole-message.ts";

export interface MessageFilters {
  readonly status?: readonly Status[] | undefined;
  readonly gateway?: string | undefined;
  readonly recipient?: string | undefined;
  readonly priority?: number | undefined;
  /** Exclusive, as RFC 3339 text: a JavaScript Date would lose the microseconds. */
  readonly created_after?: string | undefined;
  readonly created_before?: string | undefined;
  readonly metadata?: Record<string, unknown> | undefined;
}

/**
 * Said by the columns of the tables rather than by the view's `status`: in the branch of each table Postgres then knows which of
 * them cannot hold, reads no table for nothing, and finds an index for the rest.
 */
const WHERE: Readonly<Record<Status, string>> = {
  pending: "sent_at is null and died_at is null and claimed_by is null",
  sending: "sent_at is null and died_at is null and claimed_by is not null",
  sent: "sent_at is not null",
  failed: "reason not in ('expired', 'cancelled')",
  expired: "reason = 'expired'",
  cancelled: "reason = 'cancelled'",
};

/** Most filters have no index of their own, and may look through much history. */
const PATIENT = {
  ms: 10_000,
  missed: () =>
    new ProblemError("query-too-slow", "It took longer than 10 s. Narrow it with status and created_after."),
};

/** Up to `count` messages beyond `from`, the newest first. */
export function readMessages(
  pool: ApiDependencies["pool"],
  filters: MessageFilters,
  from: Position | undefined,
  count: number,
): Promise<Message[]> {
  const { text, values } = listQuery(filters, from, count);
  return onConnection(pool, (query) => query<Message>(text, values, PATIENT));
}

/**
 * By id, which is the order of their coming: it is one thing a message keeps as it moves from table to table, so that a reader who
 * pages through sees each of them once. The view is a union, of whose tables (each partition too) Postgres merges the indexes on
 * id: a page costs a few probes of each, wherever it begins.
 *
 * Only the conditions that are asked for: `$1 is null or …` would keep Postgres from that.
 */
export function listQuery(filters: MessageFilters, from: Position | undefined, count: number) {
  const values: unknown[] = [];
  const $ = (value: unknown) => `$${values.push(value)}`;
  const conditions: string[] = [];

  if (from !== undefined) conditions.push(`id < ${$(from.id)}`);
  if (filters.status !== undefined)
    conditions.push(`(${filters.status.map((status) => `(${WHERE[status]})`).join(" or ")})`);
  if (filters.gateway !== undefined) conditions.push(`gateway = ${$(filters.gateway)}`);
  if (filters.recipient !== undefined) conditions.push(`recipient = ${$(filters.recipient)}`);
  if (filters.priority !== undefined) conditions.push(`priority = ${$(filters.priority)}`);
  if (filters.created_after !== undefined) {
    const after = $(filters.created_after);
    conditions.push(`created_at > ${after}`);
    // Says nothing new, for what is sent was created before, and spares the partitions of earlier days. The hour is for a clock
    // that was set back.
    for (const end of ["sent_at", "died_at"])
      conditions.push(`(${end} > ${after}::timestamptz - interval '1 hour' or ${end} is null)`);
  }
  if (filters.created_before !== undefined) conditions.push(`created_at < ${$(filters.created_before)}`);
  if (filters.metadata !== undefined)
    conditions.push(`metadata @> ${$(JSON.stringify(filters.metadata))}::jsonb`);

  const text = `
    select ${COLUMNS}
    from outbox.all_messages
    ${conditions.length === 0 ? "" : `where ${conditions.join("\n      and ")}`}
    order by id desc
    limit ${$(count)}`;
  return { text, values };
}
