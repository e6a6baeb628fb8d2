/** Another way from a table to the gateway, for the same messages as the relayer's. */
export interface Peer {
  /** Puts in so many messages that are due at once. Nothing relays them yet. */
  insert(count: number): Promise<void>;
  /** Relays what `insert` put in; resolves when the last of them is recorded as done. */
  relay(count: number): Promise<void>;
}

export interface Message {
  readonly id: number;
  readonly recipient: string;
  readonly content: string;
}

/** So many ($1) messages, in SQL. */
export const MESSAGES = `
  select n as id, '+90555' || lpad((n % 10000000)::text, 7, '0') as recipient, 'Your code is ' || n as content
  from generate_series(1, $1::int) as n`;

/** POSTs a message. Resolves to the id that the gateway gave it; rejects when it is not accepted. */
export type Post = (message: Message) => Promise<string>;
