import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Redis } from "ioredis";
import { test as base, describe, expect, onTestFinished, vi } from "vitest";
import { createReceipts, type Receipts } from "../../src/ops/receipts.ts";
import { freePort, type SpawnedRedis, type SpawnOptions, spawnRedis, startRedis } from "../support/redis.ts";

const SENT_AT = "2026-11-23T14:11:03.000Z";
const UNTIL = { timeout: 15_000, interval: 10 };

interface Line {
  readonly level: "warn" | "info";
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

/** Receipts under test, with what they logged and counted, and a clock that only the test moves. */
function receiptsFor(url: string, ttlMs = 60_000) {
  const lines: Line[] = [];
  const seen = { errors: 0, now: 0 };
  const write = (level: Line["level"]) => (fields: object, message: string) =>
    void lines.push({ level, fields: { ...fields }, message });
  const receipts = createReceipts({
    url,
    ttlMs,
    onError: () => void seen.errors++,
    log: { warn: write("warn"), info: write("info") },
    now: () => seen.now,
  });
  onTestFinished(() => receipts.stop());
  const line = (level: Line["level"]) => lines.find((each) => each.level === level);
  return { receipts, lines, seen, warning: () => vi.waitUntil(() => line("warn"), UNTIL), line };
}

function clientOf(url: string): Redis {
  const client = new Redis(url, { lazyConnect: true }).on("error", () => {});
  onTestFinished(() => client.disconnect());
  return client;
}

const ids = (count: number, name: string = randomUUID()) =>
  Array.from({ length: count }, (_, i) => `${name}-${i}`);
const keysOf = (gatewayIds: readonly string[]) => gatewayIds.map((id) => `message:${id}`);

async function msToStop(receipts: Receipts): Promise<number> {
  const began = performance.now();
  await receipts.stop();
  return performance.now() - began;
}

// 500 ms is the promise; the rest is for a machine that is busy with other tests.
const STOP_BOUND_MS = 500 + 250;

/** Resolves when they are there, and Redis has answered whoever wrote them. */
async function written(client: Redis, gatewayIds: readonly string[]): Promise<void> {
  await expect.poll(() => client.exists(...keysOf(gatewayIds)), UNTIL).toBe(gatewayIds.length);
  // It answers all of a round before it begins the next; what is frozen in between would keep an answer back.
  await client.ping();
}

/** A way to a server whose every answer is late; returns its port. */
async function slowProxy(port: number, delayMs: number): Promise<number> {
  return listen((socket) => {
    const upstream = connect(port, "127.0.0.1").on("error", () => socket.destroy());
    socket.pipe(upstream);
    upstream.on("data", (chunk) => void setTimeout(() => socket.write(chunk), delayMs));
    socket.on("close", () => upstream.destroy());
  });
}

/** A TCP server for this test; returns its port. */
async function listen(onSocket: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    onSocket(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP address");
  return address.port;
}

// Each test that needs one gets a server of its own, to freeze, fill or kill; without redis-server they are skipped.
const test = base.extend<{ spawn: (options?: SpawnOptions) => Promise<SpawnedRedis> }>({
  spawn: async ({ skip }, use) => {
    const servers: SpawnedRedis[] = [];
    await use(async (options) => {
      const server = await spawnRedis(options);
      if (server === undefined) return skip("no redis-server on the PATH");
      servers.push(server);
      return server;
    });
    await Promise.all(servers.map((server) => server.stop()));
  },
});

describe("with a Redis that works", () => {
  base("a receipt is the sent time under message:<id>, for the TTL", async ({ skip }) => {
    const redis = await startRedis();
    if (redis === undefined) return skip("no Redis");
    onTestFinished(() => redis.stop());
    const client = clientOf(redis.url);
    const { receipts, lines, seen } = receiptsFor(redis.url, 60_000);
    receipts.start();
    const [id = "", spaced = ""] = [randomUUID(), `${randomUUID()} "ü"\r\n*`];
    receipts.record([id, spaced], SENT_AT);
    await written(client, [id, spaced]);
    expect(await client.get(`message:${id}`)).toBe(SENT_AT);
    expect(await client.get(`message:${spaced}`)).toBe(SENT_AT);
    const ttl = await client.pttl(`message:${id}`);
    expect(ttl).toBeGreaterThan(30_000);
    expect(ttl).toBeLessThanOrEqual(60_000);
    await receipts.stop();
    expect(lines).toEqual([]);
    expect(seen.errors).toBe(0);
  });

  test("stop writes what is queued, even what was queued before start", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, seen } = receiptsFor(redis.url);
    receipts.record(ids(10), SENT_AT);
    receipts.start();
    receipts.record(ids(10), SENT_AT);
    await receipts.stop();
    expect(await clientOf(redis.url).dbsize()).toBe(20);
    expect(seen.errors).toBe(0);
  });

  test("the oldest give way when the queue is full, and are counted", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, seen } = receiptsFor(redis.url);
    const sent = ids(10_005);
    receipts.record(sent, SENT_AT);
    expect(seen.errors).toBe(5);
    receipts.start();
    const client = clientOf(redis.url);
    await expect.poll(() => client.dbsize(), UNTIL).toBe(10_000);
    expect(await client.exists(...keysOf(sent.slice(0, 5)))).toBe(0);
    expect(seen.errors).toBe(5);
  });
});

describe("with a Redis that is not there", () => {
  test("a dead port costs one warning and the metric, whatever is recorded", async () => {
    const port = await freePort();
    const { receipts, lines, seen, warning } = receiptsFor(`redis://:hunter2@127.0.0.1:${port}`);
    receipts.record(ids(3), SENT_AT);
    receipts.start();
    expect((await warning()).fields).toEqual({
      redis: `127.0.0.1:${port}`,
      error: expect.stringContaining("ECONNREFUSED"),
      receipts_waiting: 3,
      receipts_lost: 0,
    });
    receipts.record(ids(10_000), SENT_AT);
    // Three lost, and at least two more tries to connect: still the one warning.
    await expect.poll(() => seen.errors, UNTIL).toBeGreaterThanOrEqual(1 + 3 + 2);
    expect(lines).toHaveLength(1);

    seen.now = 60_000;
    const second = await vi.waitUntil(() => lines[1], UNTIL);
    expect(second).toMatchObject({ level: "warn", fields: { receipts_waiting: 10_000, receipts_lost: 3 } });

    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
    expect(lines.at(-1)).toMatchObject({ level: "warn", fields: { receipts_lost: 10_000 } });
    expect(lines).toHaveLength(3);
    expect(JSON.stringify(lines)).not.toContain("hunter2");
  });

  test("a name that resolves slowly or not at all holds up neither start nor stop", async () => {
    const { receipts } = receiptsFor("redis://redis.invalid:6379");
    const began = performance.now();
    receipts.start();
    receipts.record(ids(1), SENT_AT);
    expect(performance.now() - began).toBeLessThan(200);
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
  });

  test("one that accepts and never answers is warned about, and stop does not wait for it", async () => {
    const { receipts, warning } = receiptsFor(`redis://127.0.0.1:${await listen(() => {})}`);
    receipts.record(ids(10), SENT_AT);
    receipts.start();
    expect((await warning()).fields).toMatchObject({ error: "Command timed out", receipts_waiting: 10 });
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
  });

  test("it comes back: what waited is written, and that is said once", async ({ spawn }) => {
    const port = await freePort();
    const { receipts, lines, warning, line } = receiptsFor(`redis://127.0.0.1:${port}`);
    const waited = ids(5);
    receipts.start();
    receipts.record(waited, SENT_AT);
    await warning();

    const redis = await spawn({ port });
    const client = clientOf(redis.url);
    await written(client, waited);
    await vi.waitUntil(() => line("info"), UNTIL);
    const later = ids(5);
    receipts.record(later, SENT_AT);
    await written(client, later);
    await receipts.stop();
    expect(lines.map((each) => each.level)).toEqual(["warn", "info"]);
  });

  test("a restart in mid-operation loses nothing that is recorded meanwhile", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, warning, line } = receiptsFor(redis.url);
    const before = ids(5);
    receipts.start();
    receipts.record(before, SENT_AT);
    await written(clientOf(redis.url), before);
    await redis.stop();
    await warning();
    const meanwhile = ids(5);
    receipts.record(meanwhile, SENT_AT);
    await spawn({ port: redis.port });
    await written(clientOf(redis.url), meanwhile);
    expect(await vi.waitUntil(() => line("info"), UNTIL)).toMatchObject({ fields: { receipts_lost: 0 } });
  });

  test("it comes back although nothing is recorded: that is said too", async ({ spawn }) => {
    const port = await freePort();
    const { receipts, warning, line } = receiptsFor(`redis://127.0.0.1:${port}`);
    receipts.start();
    await warning();
    await spawn({ port });
    expect(await vi.waitUntil(() => line("info"), UNTIL)).toMatchObject({
      message: "Redis takes receipts again",
    });
  });
});

describe("with a Redis that is there and does not write", () => {
  test("frozen: recording goes on, stop is bounded", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, seen, warning } = receiptsFor(redis.url);
    const before = ids(1);
    receipts.start();
    receipts.record(before, SENT_AT);
    await written(clientOf(redis.url), before);

    redis.freeze();
    receipts.record(ids(10), SENT_AT);
    expect((await warning()).fields).toMatchObject({ error: "Command timed out", receipts_waiting: 10 });
    const errors = seen.errors;
    receipts.record(ids(10), SENT_AT);
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
    expect(seen.errors).toBeGreaterThanOrEqual(errors + 20);
  });

  test("frozen in the middle of stop: stop is bounded", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, lines } = receiptsFor(redis.url);
    const before = ids(1);
    receipts.start();
    receipts.record(before, SENT_AT);
    const client = clientOf(redis.url);
    await written(client, before);
    redis.freeze();
    receipts.record(ids(3_000), SENT_AT);
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
    expect(lines.at(-1)).toMatchObject({ level: "warn", fields: { receipts_lost: 3_000 } });
  });

  test("slow: stop leaves the rest", async ({ spawn }) => {
    const redis = await spawn();
    const port = await slowProxy(redis.port, 150);
    const { receipts, lines } = receiptsFor(`redis://127.0.0.1:${port}`);
    const before = ids(1);
    const client = clientOf(redis.url);
    receipts.start();
    receipts.record(before, SENT_AT);
    await written(client, before);
    receipts.record(ids(10_000), SENT_AT);
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
    expect(lines).toMatchObject([{ level: "warn", fields: { receipts_lost: expect.any(Number) } }]);
    expect(await client.dbsize()).toBeGreaterThan(1);
  });

  test("thawed: what waited is written", async ({ spawn }) => {
    const redis = await spawn();
    const { receipts, warning, line } = receiptsFor(redis.url);
    const before = ids(1);
    receipts.start();
    receipts.record(before, SENT_AT);
    await written(clientOf(redis.url), before);
    redis.freeze();
    const waited = ids(10);
    receipts.record(waited, SENT_AT);
    await warning();
    redis.thaw();
    await vi.waitUntil(() => line("info"), UNTIL);
    await written(clientOf(redis.url), waited);
  });

  test.for([
    {
      name: "a read-only replica",
      error: "READONLY",
      refuse: ["replicaof", "127.0.0.1", "1"],
      allow: ["replicaof", "no", "one"],
    },
    {
      name: "out of memory",
      error: "OOM",
      refuse: ["config", "set", "maxmemory", "1"],
      allow: ["config", "set", "maxmemory", "0"],
    },
  ] as const)(
    "$name: kept, warned about once, and written when it takes them again",
    async (how, { spawn }) => {
      const redis = await spawn();
      const client = clientOf(redis.url);
      const [refuse, ...refuseArgs] = how.refuse;
      await client.call(refuse, ...refuseArgs);

      const { receipts, lines, seen, warning, line } = receiptsFor(redis.url);
      const sent = ids(1_500);
      receipts.start();
      receipts.record(sent, SENT_AT);
      expect((await warning()).fields).toMatchObject({
        error: expect.stringContaining(how.error),
        receipts_waiting: 1_500,
      });
      // Another try has failed: no second warning, and being connected is not mistaken for being well.
      const errors = seen.errors;
      await expect.poll(() => seen.errors, UNTIL).toBeGreaterThan(errors);
      expect(lines).toHaveLength(1);
      // On a fresh connection, since a failover may have moved the name: more than the test's own and the first one.
      const connections = async () =>
        Number(/total_connections_received:(\d+)/.exec(await client.info("stats"))?.[1]);
      await expect.poll(connections, UNTIL).toBeGreaterThan(2);

      const [allow, ...allowArgs] = how.allow;
      await client.call(allow, ...allowArgs);
      await vi.waitUntil(() => line("info"), UNTIL);
      await written(client, sent);
      expect(lines.map((each) => each.level)).toEqual(["warn", "info"]);
    },
  );

  test("a wrong password is a warning without the password", async ({ spawn }) => {
    const redis = await spawn({ password: "right one" });
    const { receipts, lines, warning } = receiptsFor(redis.url.replace("right", "hunter2"));
    receipts.start();
    receipts.record(ids(1), SENT_AT);
    expect((await warning()).fields).toMatchObject({ error: expect.stringContaining("WRONGPASS") });
    expect(await msToStop(receipts)).toBeLessThan(STOP_BOUND_MS);
    expect(JSON.stringify(lines)).not.toContain("hunter2");
  });

  test("the right password works", async ({ spawn }) => {
    const redis = await spawn({ password: "right one/@:" });
    const { receipts, seen } = receiptsFor(redis.url);
    const sent = ids(1);
    receipts.start();
    receipts.record(sent, SENT_AT);
    await written(clientOf(redis.url), sent);
    expect(seen.errors).toBe(0);
  });
});

describe("the service contract", () => {
  test("stop without start, stop twice, and record after stop are fine", async () => {
    const { receipts, seen } = receiptsFor(`redis://127.0.0.1:${await freePort()}`);
    await receipts.stop();
    await receipts.stop();
    receipts.start();
    receipts.record(ids(2), SENT_AT);
    expect(seen.errors).toBe(2);
  });

  test("a URL that cannot be parsed is refused without showing it", () => {
    for (const url of ["redis://:hunter2@[bad", "redis://:hunter2%zz@host"]) {
      expect(() => receiptsFor(url)).toThrow(/^The Redis URL cannot be parsed$/);
    }
  });
});
