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

    /** Waits until the table is small, and then its indexes, too. Returns how long, in seconds, and what they are then. */
    async function shrunk(): Promise<{ table: number; all: number; sizes: Sizes }> {
      const start = performance.now();
      const waited = async (enough: (sizes: Sizes) => boolean) => {
        let sizes = await sizesMb(pool);
        while (!enough(sizes) && performance.now() - start < stage.milliseconds(PATIENCE_MS)) {
          await pause(500);
          sizes = await sizesMb(pool);
        }
        return { sizes, seconds: (performance.now() - start) / 1_000 };
      };
      const table = await waited(({ messages }) => messages < SMALL_MB);
      const all = await waited(({ messages, messagesIndexes }) => messages + messagesIndexes < SMALL_MB);
      return { table: table.seconds, all: all.seconds, sizes: all.sizes };
    }

    async function measure(name: string, run: () => Promise<void>): Promise<Row> {
      stage.say(name);
      await pool.query("truncate outbox.messages, outbox.sent");
      await pool.query("checkpoint");
      const before = { lsn: await walNow(pool), inserting: await bytesWrittenBy(producer) };
      await run();
      await allSent(pool);
      const sizes = await sizesMb(pool);
      const all = await written(pool, before.lsn, await walNow(pool));
      const inserting = (await bytesWrittenBy(producer)) - before.inserting;
      stage.say(`${name}: waiting for autovacuum and housekeeping`);
      const after = await shrunk();
      return {
        case: name,
        insert_bytes: inserting / messages,
        relay_bytes: (all.bytes - inserting) / messages,
        page_image_bytes: all.pageImageBytes / messages,
        dead_rows: all.deadRows / messages,
        sent_mb: sizes.sent,
        sent_index_mb: sizes.sentIndexes,
        messages_mb: sizes.messages,
        messages_index_mb: sizes.messagesIndexes,
        table_small_after_s: after.table,
        all_small_after_s: after.all,
        small_messages_mb: after.sizes.messages,
        small_messages_index_mb: after.sizes.messagesIndexes,
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
