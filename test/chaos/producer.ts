import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { isOutage } from "../../src/db/outage.ts";
import type { Book, Fate } from "./book.ts";
import { createOrders, type Draft, type Order } from "./orders.ts";
import type { Seed } from "./seed.ts";

export const PRODUCER_NAME = "chaos producer";

export interface ProducerOptions {
  readonly url: string;
  readonly nth: number;
  /** Messages a second, while Postgres is there. */
  readonly rate: number;
  readonly keys: string[];
  readonly book: Book;
  readonly seed: Seed;
  readonly signal: AbortSignal;
}

/** Longer than most freezes of Postgres; then the connection is given up, and what it was doing may be done or not. */
const PATIENCE_MS = 4_000;

const INSERT = `
  insert into outbox.messages (recipient, content, priority, available_at, expires_at, dedupe_key)
  select
    recipient, content, priority,
    clock_timestamp() + make_interval(secs => delay_ms / 1000.0),
    clock_timestamp() + make_interval(secs => lives_ms / 1000.0),
    dedupe_key
  from jsonb_to_recordset($1) as draft
    (recipient text, content text, priority smallint, delay_ms int, lives_ms int, dedupe_key text)
  returning id::float8 as id, content`;

const ENQUEUE = `
  select
    outbox.enqueue(
      recipient, content, priority => priority, dedupe_key => dedupe_key,
      available_at => clock_timestamp() + make_interval(secs => delay_ms / 1000.0),
      expires_at => clock_timestamp() + make_interval(secs => lives_ms / 1000.0)
    )::float8 as id,
    content
  from jsonb_to_recordset($1) as draft
    (recipient text, content text, priority int, delay_ms int, lives_ms int, dedupe_key text)`;

interface Stored {
  readonly id: number;
  readonly content: string;
}

/** An application that inserts messages, on a connection of its own, until the signal. */
export async function produce(options: ProducerOptions): Promise<void> {
  const { url, rate, book, seed, signal } = options;
  const nextOrder = createOrders(seed, options.nth, options.keys);
  let client: Client | undefined;

  async function connected(): Promise<Client> {
    for (;;) {
      client ??= new Client({
        connectionString: url,
        application_name: PRODUCER_NAME,
        query_timeout: PATIENCE_MS,
        connectionTimeoutMillis: PATIENCE_MS,
      }).on("error", () => {});
      try {
        await client.connect();
        return client;
      } catch (error) {
        drop();
        if (!isOutage(error)) throw error;
        await delay(50);
      }
    }
  }

  function drop(): void {
    void client?.end().catch(() => {});
    client = undefined;
  }

  while (!signal.aborted) {
    const order = nextOrder();
    client ??= await connected();
    const { stored, fate, note, lost } = await place(order, client);
    for (const { way, drafts } of order.statements) {
      for (const { content, dedupe_key: dedupeKey } of drafts) {
        const id = stored.get(content) ?? null;
        book.write({ content, fate, note, dedupeKey, enqueued: way === "enqueue", id });
      }
    }
    if (lost) drop();
    const messages = order.statements.reduce((sum, { drafts }) => sum + drafts.length, 0);
    await delay((messages / rate) * 1_000 * (0.5 + seed.fraction()), undefined, { signal }).catch(() => {});
  }
  await client?.end().catch(() => {});
}

interface Placed {
  readonly stored: ReadonlyMap<string, number>;
  readonly fate: Fate;
  readonly note: string;
  /** The connection is of no use any more. */
  readonly lost: boolean;
}

async function place({ statements, end }: Order, client: Client): Promise<Placed> {
  const stored = new Map<string, number>();
  // Without a transaction the one statement is also the commit.
  let committing = end === "alone";
  try {
    if (end !== "alone") await client.query("begin");
    for (const { way, drafts } of statements) await put(way, drafts);
    if (end !== "alone") {
      committing = end === "commit";
      await client.query(end);
    }
    return { stored, fate: end === "rollback" ? "refused" : "acknowledged", note: end, lost: false };
  } catch (error) {
    const note = (error as Error).message;
    if (isOutage(error)) return { stored, fate: committing ? "unknown" : "refused", note, lost: true };
    if (!("code" in (error as Error))) throw error;
    if (end !== "alone") await client.query("rollback").catch(() => {});
    return { stored, fate: "refused", note, lost: end !== "alone" };
  }

  async function put(way: "insert" | "enqueue", drafts: readonly Draft[]): Promise<void> {
    const { rows } = await client.query<Stored>({
      name: way,
      text: way === "insert" ? INSERT : ENQUEUE,
      values: [JSON.stringify(drafts)],
    });
    for (const { id, content } of rows) stored.set(content, id);
  }
}
