import { PgBoss } from "pg-boss";
import type { Message, Peer, Post } from "./peer.ts";

export interface Settings {
  /** Jobs of a fetch and of a completion. */
  readonly batchSize: number;
  /** Batches under way at the same time. */
  readonly localConcurrency: number;
}

const QUEUE = "sms";
const INSERTED_AT_ONCE = 10_000;

/** One job a message, fetched and completed in batches: what is done it keeps, as a completed job. */
export async function startPgBoss(connectionString: string, post: Post, settings: Settings): Promise<Peer> {
  const { batchSize, localConcurrency } = settings;
  const boss = await bossOf(connectionString, localConcurrency);

  async function relayBatches(): Promise<void> {
    for (;;) {
      const jobs = await boss.fetch<Message>(QUEUE, { batchSize });
      if (jobs.length === 0) return;
      await Promise.all(jobs.map(({ data }) => post(data)));
      await boss.complete(QUEUE, jobs);
    }
  }

  return {
    insert: (count) => insert(boss, count),
    async relay() {
      await Promise.all(Array.from({ length: localConcurrency }, relayBatches));
    },
  };
}

/** With what the gateway answered as each job's output, which only its workers can do. */
export async function startPgBossWithOutput(
  connectionString: string,
  post: Post,
  settings: Settings,
): Promise<Peer> {
  const boss = await bossOf(connectionString, settings.localConcurrency);
  const options = {
    ...settings,
    perJobResults: true,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5,
  } as const;

  return {
    insert: (count) => insert(boss, count),
    async relay(count) {
      const posted = Promise.withResolvers<void>();
      let left = count;
      await boss.work<Message, unknown, typeof options>(QUEUE, options, async (jobs) => {
        const results = jobs.map(async ({ id, data }) => {
          const output = { gatewayMessageId: await post(data) };
          return { id, status: "completed", output } as const;
        });
        left -= jobs.length;
        if (left === 0) void Promise.all(results).then(() => posted.resolve());
        return Promise.all(results);
      });
      await posted.promise;
      // Waits for the last completions.
      await boss.offWork(QUEUE);
    },
  };
}

async function bossOf(connectionString: string, localConcurrency: number): Promise<PgBoss> {
  // Without its maintenance, which is no part of relaying.
  const boss = new PgBoss({ connectionString, max: localConcurrency + 1, supervise: false, schedule: false });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  // A table of its own, as is advised for large queues.
  await boss.createQueue(QUEUE, { partition: true });
  return boss;
}

async function insert(boss: PgBoss, count: number): Promise<void> {
  for (let first = 1; first <= count; first += INSERTED_AT_ONCE) {
    const length = Math.min(INSERTED_AT_ONCE, count - first + 1);
    const jobs = Array.from({ length }, (_, index) => ({ data: message(first + index) }));
    await boss.insert(QUEUE, jobs);
  }
  await boss.getDb().executeSql("vacuum analyze");
}

function message(id: number): Message {
  return {
    id,
    recipient: `+90555${String(id % 10_000_000).padStart(7, "0")}`,
    content: `Your code is ${id}`,
  };
}
