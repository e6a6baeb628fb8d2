import { setTimeout as pause } from "node:timers/promises";
import { Logger, type Runner, run, runMigrations } from "graphile-worker";
import { Pool } from "pg";
import { MESSAGES, type Message, type Peer, type Post } from "./peer.ts";

export type Settings = GraphileConfig.WorkerOptions & { readonly maxPoolSize: number };

/** One job a message. What is done it deletes; with `keepsIds` the task records first what the gateway answered. */
export async function startGraphileWorker(
  databaseUrl: string,
  post: Post,
  settings: Settings,
  keepsIds = false,
): Promise<Peer> {
  const pool = await createWorkerPool(databaseUrl, settings);
  const keep = keepsIds ? await createKeeper(pool) : undefined;

  return {
    async insert(count) {
      await pool.query(
        `select count(*)
        from graphile_worker.add_jobs(array(
          select ('sms', to_json(messages), null, null, null, null, null, null)::graphile_worker.job_spec
          from (${MESSAGES}) as messages
        ))`,
        [count],
      );
      await pool.query("vacuum analyze graphile_worker._private_jobs");
    },
    async relay(count) {
      const posted = Promise.withResolvers<void>();
      let left = count;
      const runner = await runTask(pool, settings, async (message) => {
        const gatewayMessageId = await post(message);
        await keep?.(message.id, gatewayMessageId);
        if (--left === 0) posted.resolve();
      });
      await posted.promise;
      // It does not tell when it has recorded that a job is done.
      while ((await pool.query("select from graphile_worker._private_jobs limit 1")).rowCount !== 0)
        await pause(2);
      await runner.stop();
    },
  };
}

export async function createWorkerPool(connectionString: string, { maxPoolSize }: Settings): Promise<Pool> {
  const pool = new Pool({ connectionString, max: maxPoolSize });
  // Without these it warns.
  pool.on("error", (error) => console.error(error));
  pool.on("connect", (client) => client.on("error", (error) => console.error(error)));
  await runMigrations({ pgPool: pool });
  return pool;
}

export function runTask(
  pool: Pool,
  settings: Settings,
  sms: (message: Message) => Promise<void>,
): Promise<Runner> {
  return run({
    pgPool: pool,
    taskList: { sms: (payload, { job }) => sms({ id: Number(job.id), ...(payload as Omit<Message, "id">) }) },
    parsedCronItems: [],
    noHandleSignals: true,
    logger: new Logger(() => () => {}),
    preset: { worker: settings },
  });
}

/** Many in a statement, as the relayer settles: while one runs, the next ones collect. */
async function createKeeper(pool: Pool): Promise<(id: number, gatewayMessageId: string) => Promise<void>> {
  await pool.query(
    "create table kept (id bigint not null, gateway_message_id text not null, sent_at timestamptz not null default now())",
  );
  let ids: number[] = [];
  let gatewayMessageIds: string[] = [];
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<unknown> | undefined;

  function keepCollected(): Promise<unknown> {
    const values = [ids, gatewayMessageIds];
    ids = [];
    gatewayMessageIds = [];
    next = undefined;
    return pool.query({
      name: "keep",
      text: "insert into kept (id, gateway_message_id) select * from unnest($1::bigint[], $2::text[])",
      values,
    });
  }

  return async (id, gatewayMessageId) => {
    ids.push(id);
    gatewayMessageIds.push(gatewayMessageId);
    next ??= running = running.then(keepCollected);
    await next;
  };
}
