import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "pg";

const CHUNK = 5_000;

/** Inserts so many messages in transactions of 5,000, each as soon as `hasRoom` says so. */
export async function produce(
  producer: Client,
  count: number,
  hasRoom: (inserted: number) => Promise<boolean>,
): Promise<void> {
  for (let inserted = 0; inserted < count; inserted += CHUNK) {
    while (!(await hasRoom(inserted))) await pause(20);
    await producer.query(
      "insert into outbox.messages (recipient, content) select '+90555' || lpad((n % 10000000)::text, 7, '0'), 'Your code is ' || n from generate_series($1::int, $2::int) as n",
      [inserted + 1, Math.min(inserted + CHUNK, count)],
    );
  }
}
