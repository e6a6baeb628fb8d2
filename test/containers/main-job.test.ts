import { Redis } from "ioredis";
import pg from "pg";
import { GenericContainer, Wait } from "testcontainers";
import { describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { startHttpGateway } from "../support/http-gateway.ts";
import { RUN_LABEL } from "./docker.ts";
import { LOGIN, startPostgres } from "./postgres-container.ts";
import { startRelayer } from "./relayer-process.ts";

/** Others with POSTGRES_TAGS="15-alpine 16-alpine 17-alpine 18-alpine" npm run test:containers */
const POSTGRES_TAGS = (process.env.POSTGRES_TAGS || "18-alpine").split(/[\s,]+/);
const TTL_S = 3_600;

describe.skipIf(!inject("docker")).each(POSTGRES_TAGS)(
  "with postgres:%s and Redis in containers",
  (version) => {
    test("a row that is inserted is sent, and is then in the database, in Redis and in the API", async () => {
      const [postgres, redis, gateway] = await Promise.all([
        startPostgres({ version }),
        startRedis(),
        startHttpGateway(),
      ]);
      onTestFinished(async () => {
        await Promise.all([postgres.container.stop(), redis.container.stop(), gateway.close()]);
      });
      const relayer = await startRelayer({
        ...LOGIN,
        POSTGRES_HOST: postgres.host,
        POSTGRES_PORT: String(postgres.port),
        REDIS_HOST: redis.host,
        REDIS_PORT: String(redis.port),
        REDIS_TTL: `${TTL_S}s`,
        WEBHOOK_URL: gateway.url,
      });
      onTestFinished(() => void relayer.stop());

      const sent = await insertAndAwait(postgres.url, ["+905551234567", "+15550001111"]);
      expect(gateway.requests.map(({ body }) => body)).toEqual(
        expect.arrayContaining([
          { to: "+905551234567", content: "hello" },
          { to: "+15550001111", content: "hello" },
        ]),
      );

      const client = new Redis({ host: redis.host, port: redis.port });
      onTestFinished(() => client.disconnect());
      for (const { gateway_message_id, sent_at } of sent) {
        const key = `message:${gateway_message_id}`;
        // Written after the row, off the critical path.
        const value = await vi.waitFor(
          async () => (await client.get(key)) ?? expect.fail(`no ${key}`),
          5_000,
        );
        expect(new Date(value)).toEqual(sent_at);
        const ttl = await client.ttl(key);
        expect(ttl).toBeGreaterThan(TTL_S - 60);
        expect(ttl).toBeLessThanOrEqual(TTL_S);
      }

      const answer = await fetch(`${relayer.api}/messages/sent`);
      const { messages } = (await answer.json()) as { messages: SentRow[] };
      expect(messages.map((message) => message.gateway_message_id).sort()).toEqual(["gw-1", "gw-2"]);

      expect(await relayer.stop()).toBe(0);
    });
  },
);

interface SentRow {
  readonly recipient: string;
  readonly gateway_message_id: string;
  readonly sent_at: Date;
}

async function insertAndAwait(url: string, recipients: readonly string[]): Promise<SentRow[]> {
  const client = new pg.Client(url);
  await client.connect();
  onTestFinished(() => client.end());
  await client.query(
    "insert into outbox.messages (recipient, content) select recipient, 'hello' from unnest($1::text[]) as recipient",
    [recipients],
  );
  return await vi.waitFor(
    async () => {
      const { rows } = await client.query<SentRow>(
        "select recipient, gateway_message_id, sent_at from outbox.sent",
      );
      expect(rows).toHaveLength(recipients.length);
      return rows;
    },
    { timeout: 10_000, interval: 20 },
  );
}

async function startRedis() {
  const container = await new GenericContainer("redis:8-alpine")
    .withExposedPorts(6379)
    .withLabels({ [RUN_LABEL]: inject("run") })
    .withWaitStrategy(Wait.forSuccessfulCommand("redis-cli ping"))
    .start();
  return { container, host: container.getHost(), port: container.getMappedPort(6379) };
}
