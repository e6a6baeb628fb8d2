import { once } from "node:events";
import type { Pool } from "pg";
import { createDeadlineWheel } from "../src/gateway/deadline-wheel.ts";
import { createWebhook } from "../src/gateway/webhook.ts";
import { startRelayer } from "../test/support/relayer.ts";

export interface Throughput {
  /** Messages a second from the outbox to sent. */
  readonly relayed_per_second: number;
  /** POSTs a second of the same client against the same gateway, with no database. */
  readonly posted_per_second: number;
  readonly ratio: number;
}

const MESSAGE = {
  recipient: "+905551234567",
  traceparent: null,
  revision: 0,
  expiresAtMs: Number.POSITIVE_INFINITY,
};
const CONCURRENCY = 64;

/** So many waiting messages → sent, everything on, beside the same client alone: one after the other, in one run. */
export async function throughput(
  pool: Pool,
  databaseUrl: string,
  webhookUrl: string,
  messages: number,
): Promise<Throughput> {
  await post(webhookUrl, messages / 4); // warms up the gateway
  const posted_per_second = await post(webhookUrl, messages);

  await pool.query("select outbox.pause()");
  const relayer = await startRelayer({ databaseUrl, webhookUrl, env: { LOG_LEVEL: "error" } });
  await pool.query(
    "insert into outbox.messages (recipient, content) select '+90555' || lpad(n::text, 7, '0'), 'Your code is ' || n from generate_series(1, $1::int) as n",
    [messages],
  );
  await pool.query("vacuum analyze outbox.messages");
  const start = performance.now();
  await pool.query("select outbox.resume()");
  while ((await pool.query("select from outbox.messages limit 1")).rowCount !== 0)
    await once(AbortSignal.timeout(20), "abort");
  const relayed_per_second = (messages / (performance.now() - start)) * 1_000;
  await relayer.stop();
  return { relayed_per_second, posted_per_second, ratio: relayed_per_second / posted_per_second };
}

function post(url: string, count: number): Promise<number> {
  const webhook = createWebhook({
    url,
    timeoutMs: 10_000,
    concurrency: CONCURRENCY,
    installation: "bench",
    userAgent: "bench",
    deadlines: createDeadlineWheel(),
  });
  const { promise, resolve } = Promise.withResolvers<number>();
  const start = performance.now();
  let sent = 0;
  let done = 0;
  const next = () => {
    const id = ++sent;
    const content = `Your code is ${id}`;
    webhook.send({ ...MESSAGE, id, content }, () => {
      if (++done === count)
        void webhook.close().then(() => resolve((count / (performance.now() - start)) * 1_000));
      else if (sent < count) next();
    });
  };
  while (sent < Math.min(CONCURRENCY, count)) next();
  return promise;
}
