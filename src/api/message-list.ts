import { onConnection, patient } from "./connection.ts";
import type { Position } from "./cursor.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { searchCondition } from "./search.ts";
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
  /** Words to look for. */
  readonly q?: string | undefined;
}

/**
 * The three tables behind the view, told apart by columns that are never null in one and always null in the others: Postgres then
 * knows which of them cannot hold, and reads no table for nothing.
 */
const PLACES: readonly Place[] = [
  {
    where: "sent_at is null and died_at is null",
    statuses: { pending: "claimed_by is null", sending: "claimed_by is not null" },
  },
  { where: "sent_at is not null", endedAt: "sent_at", statuses: { sent: "sent_at is not null" } },
  {
    where: "sent_at is null and died_at is not null",
    endedAt: "died_at",
    statuses: {
      failed: "reason not in ('expired', 'cancelled')",
      expired: "reason = 'expired'",
      cancelled: "reason = 'cancelled'",
    },
  },
];

interface Place {
  readonly where: string;
  readonly endedAt?: string;
  readonly statuses: Readonly<Partial<Record<Status, string>>>;
}

/** Most filters have no index of their own, and may look through much history. */
const PATIENT = patient("Narrow it with status and created_after.");

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
 * By id, which is the order of their coming: it is the one thing a message keeps as it moves from table to table, so that a reader
 * who pages through sees each of them once. From each place come the first `count`, along its indexes on id (of outbox.sent, one
 * for each day): a page costs a few probes of each, wherever it begins. One statement, for it has one snapshot, in which each
 * message is in one place.
 *
 * Only the conditions that are asked for: `$1 is null or …` would keep Postgres from its index ranges.
 */
export function listQuery(filters: MessageFilters, from: Position | undefined, count: number) {
  const values: unknown[] = [];
  const $ = (value: unknown) => `$${values.push(value)}`;
  const end = `order by id desc limit ${$(count)}`;
  const conditions: string[] = [];

  if (from !== undefined) conditions.push(`id < ${$(from.id)}`);
  if (filters.gateway !== undefined) conditions.push(`gateway = ${$(filters.gateway)}`);
  if (filters.recipient !== undefined) conditions.push(`recipient = ${$(filters.recipient)}`);
  if (filters.priority !== undefined) conditions.push(`priority = ${$(filters.priority)}`);
  const after = filters.created_after === undefined ? undefined : `${$(filters.created_after)}::timestamptz`;
  if (after !== undefined) conditions.push(`created_at > ${after}`);
  if (filters.created_before !== undefined) conditions.push(`created_at < ${$(filters.created_before)}`);
  if (filters.metadata !== undefined)
    conditions.push(`metadata @> ${$(JSON.stringify(filters.metadata))}::jsonb`);
  if (filters.q !== undefined) conditions.push(searchCondition($(filters.q)));

  const branches = PLACES.flatMap(({ where, endedAt, statuses }) => {
    const asked = Object.entries(statuses).filter(
      ([status]) => filters.status?.includes(status as Status) ?? true,
    );
    if (asked.length === 0) return [];
    const all = [where, `(${asked.map(([, condition]) => condition).join(" or ")})`, ...conditions];
    // Says nothing new, for it ended after it was created, and spares the days before. The hour is for a clock that was set back.
    if (after !== undefined && endedAt !== undefined) all.push(`${endedAt} > ${after} - interval '1 hour'`);
    return [`(select ${COLUMNS} from outbox.all_messages where ${all.join(" and ")} ${end})`];
  });
  return { text: `select * from (\n${branches.join("\nunion all\n")}\n) as found ${end}`, values };
}
