/* The relayer's HTTP client with no database: `node client.ts URL COUNT CONCURRENCY` tells its parent how many POSTs a second it made. */
import { createDeadlineWheel } from "../../src/gateway/deadline-wheel.ts";
import { createWebhook } from "../../src/gateway/webhook.ts";

const [url, count, concurrency] = process.argv.slice(2) as [string, string, string];

function post(messages: number): Promise<number> {
  const webhook = createWebhook({
    url,
    timeoutMs: 10_000,
    concurrency: Number(concurrency),
    installation: "0123456789ab",
    userAgent: "outbox-relayer/0.0.0",
    deadlines: createDeadlineWheel(),
  });
  const { promise, resolve } = Promise.withResolvers<number>();
  const start = performance.now();
  let sent = 0;
  let done = 0;
  const next = () => {
    const id = ++sent;
    const message = {
      id,
      recipient: "+905551234567",
      content: `Your code is ${id}`,
      traceparent: null,
      revision: 0,
      expiresAtMs: Number.POSITIVE_INFINITY,
    };
    webhook.send(message, () => {
      if (++done === messages)
        void webhook.close().then(() => resolve((messages / (performance.now() - start)) * 1_000));
      else if (sent < messages) next();
    });
  };
  while (sent < Math.min(Number(concurrency), messages)) next();
  return promise;
}

await post(Math.ceil(Number(count) / 4)); // warms up both ends
const rate = await post(Number(count));
process.send?.(rate);
process.disconnect?.();
