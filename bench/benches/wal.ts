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
/** Autovacuum looks every minute. */
const PATIENCE_MS = 300_000;

/**
 * What a message costs in write-ahead log and on disk, with the server's own settings of autovacuum: once while messages come as
 * fast as they go, and once with all of them waiting first.
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

    async function vacuumed(): Promise<Sizes> {
      const giveUpAt = performance.now() + stage.milliseconds(PATIENCE_MS);
      let sizes = await sizesMb(pool);
      while (sizes.messages + sizes.messagesIndexes > SMALL_MB && performance.now() < giveUpAt) {
        await pause(1_000);
        sizes = await sizesMb(pool);
      }
      return sizes;
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
      stage.say(`${name}: waiting for autovacuum`);
      const start = performance.now();
      const after = await vacuumed();
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
        vacuumed_mb: after.messages,
        vacuumed_index_mb: after.messagesIndexes,
        waited_s: (performance.now() - start) / 1_000,
      };
    }

    return [
      await measure("as they come", async () => {
        const first = await lastInserted(pool);
        const hasRoom = async (inserted: number) =>
          inserted - Math.max(0, (await lastSent(pool)) - first) < BACKLOG;
        await produce(producer, messages, hasRoom);
      }),
      await measure("all wait first", async () => {
        await pool.query("select outbox.pause()");
        await produce(producer, messages, async () => true);
        await pool.query("select outbox.resume()");
      }),
    ];
  },
};
