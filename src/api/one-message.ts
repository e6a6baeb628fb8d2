import type { Query } from "./connection.ts";
import { ProblemError } from "./problem.ts";
import { type Attempt, COLUMNS, type MessageWithHistory } from "./whole-message.ts";

const LONGEST_HISTORY = 100;

/** One statement, for it has one snapshot: an attempt that ends meanwhile is in the message and in its history, or in neither. */
const READ = `
  select ${COLUMNS}, (
    select coalesce(jsonb_agg(
      to_jsonb(recent) || jsonb_build_object(
        'ended_at', to_char(recent.ended_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
      )
      order by recent.ended_at, recent.attempt
    ), '[]')
    from (
      select attempt, gateway, relayer, outcome, http_status, gateway_message_id, error, duration_ms, ended_at
      from outbox.attempts
      where message_id = $1
      order by ended_at desc, attempt desc
      limit ${LONGEST_HISTORY}
    ) as recent
  ) as history
  from outbox.all_messages
  where id = $1`;

/** The message as it is now, wherever it stands. Throws unknown-message. */
export async function readMessage(query: Query, id: number): Promise<MessageWithHistory> {
  const [message] = await query<MessageWithHistory>(READ, [id]);
  if (message === undefined) throw new ProblemError("unknown-message", `There is no message ${id}.`);
  return { ...message, history: withAcceptance(message) };
}

/** Unless the gateway keeps all attempts, the row of outbox.sent is the record of the one that was accepted. */
function withAcceptance(message: MessageWithHistory): Attempt[] {
  const { history, sent_at, claimed_by } = message;
  const recorded = history.some(({ outcome, ended_at }) => outcome === "accepted" && ended_at === sent_at);
  if (sent_at === null || claimed_by === null || recorded) return history;
  const accepted: Attempt = {
    attempt: message.attempts,
    gateway: message.gateway,
    relayer: claimed_by,
    outcome: "accepted",
    http_status: null,
    gateway_message_id: message.gateway_message_id,
    error: null,
    duration_ms: message.duration_ms,
    ended_at: sent_at,
  };
  return [...history, accepted].slice(-LONGEST_HISTORY);
}
