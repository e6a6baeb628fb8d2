import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "pg";
import type { Message, Post } from "../peers/peer.ts";

const BATCH = 100;
const IDLE_MS = 10;

/** What many a program has in place of an outbox: one table, whose first rows are taken and deleted. */
export const QUEUE = `
  create table queue (
    id        bigint primary key generated always as identity,
    recipient text not null,
    content   text not null
  )`;

export const INSERT =
  "insert into queue (recipient, content) select '+905551234567', 'Your code is ' || n from generate_series(1, $1::int) as n";

/** Works the queue off, a batch a transaction. Returns what ends it. */
export function workOff(client: Client, post: Post): () => Promise<void> {
  let ended = false;
  async function workAll(): Promise<void> {
    while (!ended) {
      await client.query("begin");
      const { rows } = await client.query<Message>({
        name: "take",
        text: "delete from queue where id = any (array(select id from queue order by id limit $1 for update skip locked)) returning id, recipient, content",
        values: [BATCH],
      });
      await Promise.all(rows.map(post));
      await client.query("commit");
      if (rows.length === 0) await pause(IDLE_MS);
    }
  }
  const working = workAll();
  working.catch(() => {}); // whoever ends it hears of it
  return async () => {
    ended = true;
    await working;
  };
}
