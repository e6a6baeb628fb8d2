import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import type { Bench, Row } from "../support/bench.ts";
import { produce } from "../support/producer.ts";
import { allSent, lastInserted, lastSent } from "../support/sent.ts";
import { type Sizes, sizesMb } from "../support/sizes.ts";
import { bytesWrittenBy, walNow, written } from "../support/wal.ts";

const MESSAGES = 2_000_000;
const BACKLOG = 30_000;
const SMALL_MB = 20;
/** Autovacuum looks every minute, the relayer's housekeeping every five. */
const PATIENCE_MS = 420_000;

/**
 * What a message costs in write-ahead log and on disk, with the server's own settings of autovacuum: once with all of them
 * waiting first, and once while they come as fast as they go.
 */
export const wal: Bench = {
  measures: "bytes of WAL and dead rows a message; sizes after 2,000,000, and again after autovacuum",
  settings: { wal_keep_size: "32GB" },
  async run(stage) {
    const { pool } = stage;
    const messages = stage.size(MESSAGES);
    const gateway = await stage.gateway();
    await stage.relayer({ webhookUrl: gateway.url });
    const producer = new Client({ connectionString: stage.databaseUrl });
    await producer.connect();
    stage.atEnd(() => producer.end());

    /** Waits until what `size` says is small, if it ever is. Returns how long after `start` that was, in seconds. */
    async function smallAfter(start: number, size: (sizes: Sizes) => number): Promise<number | "never"> {
      while (size(await sizesMb(pool)) >= SMALL_MB) {
        if (performance.now() - start > stage.milliseconds(PATIENCE_MS)) return "never";
        await pause(500);
      }
      return (performance.now() - start) / 1_000;
    }

    async function measure(name: string, run: () => Promise<void>): Promise<Row> {
      stage.say(name);
      await pool.query("truncate outbox.messages, outbox.sent");
      await pool.query("checkpoint");
      const before = { lsn: await walNow(pool), inserting: await bytesWrittenBy(producer) };
      await run();
      await allSent(pool);
      const sizes = await sizesMb(pool);
      const log = await written(pool, before.lsn, await walNow(pool));
      const inserting = (await bytesWrittenBy(producer)) - before.inserting;
      stage.say(`${name}: waiting for autovacuum and housekeeping`);
      const start = performance.now();
      const table = await smallAfter(start, ({ messages }) => messages);
      const all = await smallAfter(start, ({ messages, messagesIndexes }) => messages + messagesIndexes);
      const after = await sizesMb(pool);
      return {
        case: name,
        insert_bytes: inserting / messages,
        relay_bytes: (log.bytes - inserting) / messages,
        page_image_bytes: log.pageImageBytes / messages,
        dead_rows: log.deadRows / messages,
        sent_mb: sizes.sent,
        sent_index_mb: sizes.sentIndexes,
        messages_mb: sizes.messages,
        messages_index_mb: sizes.messagesIndexes,
        table_small_after_s: table,
        all_small_after_s: all,
        small_messages_mb: after.messages,
        small_messages_index_mb: after.messagesIndexes,
      };
    }

    return [
      await measure("all wait first", async () => {
        await pool.query("select outbox.pause()");
        await produce(producer, messages, async () => true);
        await pool.query("select outbox.resume()");
      }),
      await measure("as they come", async () => {
        const first = await lastInserted(pool);
        const hasRoom = async (inserted: number) =>
          inserted - Math.max(0, (await lastSent(pool)) - first) < BACKLOG;
        await produce(producer, messages, hasRoom);
      }),
    ];
  },
};
