import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { spawnRedis, startRedis, type TestRedis } from "../support/redis.ts";
import { startRelayer } from "../support/relayer.ts";
import { allSent, insert } from "./messages.ts";

const database = useDatabase();
let server: TestRedis | undefined;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server?.stop());

test("after a message is sent, message:<gateway message id> holds the time, for redis.ttl", async (context) => {
  if (server === undefined) return context.skip();
  const gateway = await startHttpGateway({
    answer: ({ id }) => ({ body: { message: "accepted", messageId: `${id}-receipt` } }),
  });
  const relayer = await startRelayer({
    databaseUrl: database.url,
    webhookUrl: gateway.url,
    env: { REDIS_URL: server.url, REDIS_TTL: "3600" },
  });
  const redis = new Redis(server.url);
  try {
    await insert(database.pool, 3);
    await allSent(database.pool, 3);
    const { rows } = await database.pool.query<{ key: string; sent_at: Date }>(
      "select 'message:' || gateway_message_id as key, sent_at from outbox.sent",
    );
    for (const { key, sent_at } of rows) {
      const value = await eventually(
        () => redis.get(key),
        (found) => found !== null,
      );
      expect(value).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      expect(new Date(value as string)).toEqual(sent_at);
      expect(await redis.ttl(key)).toBeGreaterThan(3_500);
    }
  } finally {
    redis.disconnect();
    await relayer.stop();
    await gateway.close();
  }
});

test("a frozen Redis delays no message", async (context) => {
  const frozen = await spawnRedis();
  if (frozen === undefined) return context.skip();
  const gateway = await startHttpGateway();
  const relayer = await startRelayer({
    databaseUrl: database.url,
    webhookUrl: gateway.url,
    env: { REDIS_URL: frozen.url },
  });
  try {
    await database.pool.query("truncate outbox.sent");
    await insert(database.pool);
    await allSent(database.pool, 1);
    frozen.freeze();
    await insert(database.pool, 500);
    await allSent(database.pool, 501);
    await relayer.logged(({ msg }) => msg.startsWith("Redis takes no receipts"));
    const metrics = await (await fetch(new URL("/metrics", relayer.api))).text();
    expect(Number(/^outbox_redis_errors_total (\d+)/m.exec(metrics)?.[1])).toBeGreaterThan(0);
  } finally {
    frozen.thaw();
    await relayer.stop();
    await gateway.close();
    await frozen.stop();
  }
});
