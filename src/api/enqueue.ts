import type { Query } from "./connection.ts";
import { brokenRule } from "./error-to-problem.ts";
import { brokenForm, type NewMessages } from "./new-message.ts";
import { ProblemError } from "./problem.ts";
import { COLUMNS, type Message } from "./whole-message.ts";

export interface Enqueued {
  /** In the order of the request. */
  readonly messages: readonly Message[];
  readonly created: number;
  /** The Idempotency-Key came before, with the same request. */
  readonly replayed: boolean;
}

interface Put {
  readonly id: number;
  readonly created: boolean;
  readonly replayed: boolean;
}

export interface EnqueueOptions {
  /** The Idempotency-Key. */
  readonly key: string | undefined;
  readonly actor: string;
  /** Of the request, for messages that name none. */
  readonly traceparent: string | undefined;
}

/** Puts all of them in, or none. In a transaction. */
export async function enqueue(query: Query, messages: NewMessages, once: EnqueueOptions): Promise<Enqueued> {
  const json = JSON.stringify(messages);
  // Not in the JSON: with the same Idempotency-Key that has to be the same, and each try of a client has another span.
  if (once.traceparent !== undefined)
    await query("select set_config('outbox.traceparent', $1, true)", [once.traceparent]);
  const put =
    once.key === undefined
      ? await query<Put>("select id, created, false as replayed from outbox.enqueue_batch($1)", [json])
      : await query<Put>("select id, created, replayed from outbox.enqueue_once($1, $2, $3)", [
          once.key,
          json,
          once.actor,
        ]);
  refuseBrokenForms(messages, put);
  return {
    messages: await read(query, put),
    created: put.filter(({ created }) => created).length,
    replayed: put.some(({ replayed }) => replayed),
  };
}

/** Of those whose dedupe_key was used: the table has checked the others. */
function refuseBrokenForms(messages: NewMessages, put: readonly Put[]): void {
  const all = [messages].flat();
  const faults = put.flatMap(({ created, replayed }, n) => {
    const message = all[n];
    if (created || replayed || message === undefined) return [];
    const pointer = Array.isArray(messages) ? `#/${n}` : "#";
    return brokenForm(message).map((rule) => brokenRule(rule, pointer));
  });
  if (faults.length > 0) throw new ProblemError("refused-message", undefined, faults);
}

/** What this transaction has put in is in outbox.messages, and need not be looked for in a hundred partitions of outbox.sent. */
async function read(query: Query, put: readonly Put[]): Promise<Message[]> {
  const isNew = ({ created, replayed }: Put) => created && !replayed;
  const found = new Map<number, Message>();
  for (const [ids, where] of [
    [put.filter(isNew).map(({ id }) => id), "sent_at is null and died_at is null and id = any ($1)"],
    [put.filter((one) => !isNew(one)).map(({ id }) => id), "id = any ($1)"],
  ] as const) {
    if (ids.length === 0) continue;
    const rows = await query<Message>(`select ${COLUMNS} from outbox.all_messages where ${where}`, [ids]);
    for (const message of rows) found.set(message.id, message);
  }
  return put.map(({ id }) => {
    const message = found.get(id);
    if (message === undefined)
      throw new ProblemError("unknown-message", `Message ${id} was put in before, and is no longer kept.`);
    return message;
  });
}
