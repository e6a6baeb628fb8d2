import { onConnection, patient } from "./connection.ts";
import type { Position } from "./cursor.ts";
import type { ApiDependencies } from "./dependencies.ts";
import { MESSAGE_COLUMNS } from "./message.ts";

export interface SentFilters {
  readonly gateway?: string | undefined;
  readonly recipient?: string | undefined;
  /** Exclusive, as RFC 3339 text: a JavaScript Date would lose the microseconds. */
  readonly after?: string | undefined;
  readonly before?: string | undefined;
  readonly order: "asc" | "desc";
}

export interface SentRow {
  readonly id: number;
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
  readonly sent_at: string;
  readonly gateway_message_id: string;
  readonly duration_ms: number;
  readonly last_error: string | null;
}

const COLUMNS = `${MESSAGE_COLUMNS}, sent_at, gateway_message_id, duration_ms`;

const PATIENT = patient("Narrow it with after and before.");

/**
 * Up to `count` rows of the sent folder, beyond `from`.
 *
 * Rows are answered only below the horizon: settles that run side by side commit in any order, and a row that
 * appears behind a position already handed out would never be seen. The horizon has a statement of its own,
 * because one statement sees one snapshot: rows that were committed between snapshot and horizon would be missed.
 */
export function readSent(
  pool: ApiDependencies["pool"],
  filters: SentFilters,
  from: Position | undefined,
  count: number,
): Promise<SentRow[]> {
  return onConnection(pool, async (query) => {
    const [row] = await query<{ horizon: string }>("select outbox.sent_horizon() as horizon", []);
    if (row === undefined) throw new Error("outbox.sent_horizon() answered nothing");
    const { text, values } = pageQuery(filters, from, count, row.horizon);
    return query<SentRow>(text, values, PATIENT);
  });
}

/**
 * Only the conditions that are asked for: `$1 is null or …` would keep Postgres from its index ranges.
 *
 * The position stands first. Postgres cannot tell which of a row comparison and a plain one is the narrower, and
 * starts its index scan at the one written first: starting at the horizon, a deep page reads all that it skips.
 */
export function pageQuery(filters: SentFilters, from: Position | undefined, count: number, horizon: string) {
  const values: (string | number)[] = [];
  const $ = (value: string | number) => `$${values.push(value)}`;
  const conditions: string[] = [];

  if (from !== undefined) {
    const beyond = filters.order === "asc" ? ">" : "<";
    const at = $(from.at ?? "");
    conditions.push(`(sent_at, id) ${beyond} (${at}, ${$(from.id)})`);
    // Says nothing new, but a comparison of rows does not prune partitions, and this does.
    conditions.push(`sent_at ${beyond}= ${at}`);
  }
  if (filters.after !== undefined) conditions.push(`sent_at > ${$(filters.after)}`);
  if (filters.before !== undefined) conditions.push(`sent_at < ${$(filters.before)}`);
  conditions.push(`sent_at < ${$(horizon)}`);
  if (filters.gateway !== undefined) conditions.push(`gateway = ${$(filters.gateway)}`);
  if (filters.recipient !== undefined) conditions.push(`recipient = ${$(filters.recipient)}`);

  const text = `
    select ${COLUMNS}
    from outbox.sent
    where ${conditions.join("\n      and ")}
    order by sent_at ${filters.order}, id ${filters.order}
    limit ${$(count)}`;
  return { text, values };
}
