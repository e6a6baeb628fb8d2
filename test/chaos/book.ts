/**
 * What a producer knows of a message it wanted to insert. acknowledged: Postgres said that it is committed. refused: it never was
 * (an error, a rollback, or a connection lost before the commit was asked for). unknown: the answer to the commit was lost.
 */
export type Fate = "acknowledged" | "refused" | "unknown";

export interface Entry {
  /** Its own: no other message has it. */
  readonly content: string;
  readonly fate: Fate;
  /** Why, for people. */
  readonly note: string;
  readonly dedupeKey: string | null;
  /** Inserted by outbox.enqueue(), which answers with the id of the message that has the key, maybe another one. */
  readonly enqueued: boolean;
  /** As Postgres answered; null without an answer. */
  readonly id: number | null;
}

/** Everything the producers did. */
export interface Book {
  readonly entries: ReadonlyMap<string, Entry>;
  write(entry: Entry): void;
}

export function createBook(): Book {
  const entries = new Map<string, Entry>();
  return {
    entries,
    write(entry) {
      entries.set(entry.content, entry);
    },
  };
}
