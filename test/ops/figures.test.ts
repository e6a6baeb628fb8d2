import { createServer, type Socket } from "node:net";
import type pg from "pg";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { readQueueFigures, readServerFigures } from "../../src/db/figures.ts";
import { isOutage } from "../../src/db/outage.ts";
import { createPool } from "../../src/db/pool.ts";
import { createFigures, type FiguresOptions } from "../../src/ops/figures.ts";
import { createMetrics } from "../../src/ops/metrics.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";

const database = useDatabase();

function poolOf(url: string): pg.Pool {
  const pool = createPool({
    connectionString: url,
    max: 2,
    applicationName: "metrics-test",
    connectTimeoutMs: 1_000,
    log: () => {},
  });
  onTestFinished(() => pool.end());
  return pool;
}

/** Metrics as the program makes them, on a database. */
function metricsOf(pool: pg.Pool, options: Partial<FiguresOptions> = {}) {
  const errors: unknown[] = [];
  const figures = createFigures({
    queue: () => readQueueFigures(pool),
    server: () => readServerFigures(pool),
    reachable: () => true,
    isOutage,
    onError: (error) => errors.push(error),
    ...options,
  });
  const metrics = createMetrics({ version: "1", figures });
  const lines = async () => (await metrics.render()).body.split("\n");
  /** The series of one metric. */
  const series = async (name: string) =>
    (await lines()).filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return { lines, series, errors };
}

beforeEach(async () => {
  await database.pool.query("truncate outbox.messages; delete from outbox.gateways where name <> 'default'");
});

test("shows the queue, the gateways and the server", async () => {
  await database.pool.query(`
    insert into outbox.gateways (name) values ('bulk');
    update outbox.gateways set paused = true where name = 'bulk';
    update outbox.gateways
    set held_until = now() + interval '1 hour', hold_reason = 'circuit_open', circuit = 'open' where name = 'default';
    insert into outbox.messages (recipient, content, created_at, available_at)
    select '+905551234567', 'hi', now() - interval '1 hour', now() - interval '1 minute' * n from generate_series(1, 3) as n;
    analyze outbox.messages`);
  const { lines, series, errors } = metricsOf(poolOf(database.url));
  expect(await lines()).toEqual(
    expect.arrayContaining([
      "outbox_postgres_up 1",
      'outbox_messages{state="due",gateway="default",priority="1"} 3',
      'outbox_messages{state="scheduled",gateway="default",priority="1"} 0',
      'outbox_messages{state="in_flight",gateway="bulk",priority="0"} 0',
      'outbox_oldest_due_age_seconds{gateway="bulk",priority="1"} 0',
      'outbox_gateway_held{gateway="default",reason="circuit_open"} 1',
      'outbox_gateway_held{gateway="default",reason="throttled"} 0',
      'outbox_gateway_held{gateway="default",reason="paused"} 0',
      'outbox_gateway_held{gateway="bulk",reason="paused"} 1',
      'outbox_circuit_state{gateway="default"} 2',
      'outbox_circuit_state{gateway="bulk"} 0',
      "outbox_relayers_alive 0",
      "outbox_messages_estimated 3",
    ]),
  );
  const [oldest] = (await series("outbox_oldest_due_age_seconds")).filter((line) =>
    line.includes('default",priority="1"'),
  );
  expect(Number(oldest?.split(" ")[1])).toBeGreaterThanOrEqual(180);
  expect(await series("outbox_messages")).toHaveLength(2 * 3 * 3);
  expect(await series("outbox_postgres_table_bytes")).toHaveLength(4);
  expect(await series("outbox_postgres_dead_rows")).toHaveLength(4);
  expect(await series("outbox_postgres_slot_retained_bytes")).toEqual([]);
  expect(errors).toEqual([]);
});

test("a gateway that was removed has no series any more", async () => {
  await database.pool.query("insert into outbox.gateways (name) values ('bulk')");
  const { lines } = metricsOf(poolOf(database.url), { keepMs: 0 });
  expect((await lines()).filter((line) => line.includes('"bulk"')).length).toBeGreaterThan(10);
  await database.pool.query("delete from outbox.gateways where name = 'bulk'");
  // The answer may be good for as long as twenty times what it took.
  await eventually(
    async () => (await lines()).filter((line) => line.includes('"bulk"')),
    (ofBulk) => ofBulk.length === 0,
  );
});

test("however often it is scraped, Postgres is asked once", async () => {
  let asked = 0;
  const pool = poolOf(database.url);
  const { lines } = metricsOf(pool, {
    async queue() {
      asked++;
      return await readQueueFigures(pool);
    },
  });
  await Promise.all(Array.from({ length: 50 }, lines));
  expect(asked).toBe(1);
});

test("a database that is away: the rest is there, and what it would say is not", async () => {
  let reachable = true;
  const { lines, errors } = metricsOf(poolOf("postgres://outbox@127.0.0.1:1/outbox"), {
    reachable: () => reachable,
  });
  expect((await lines()).filter((line) => /^outbox_(messages|postgres)/.test(line))).toEqual([
    "outbox_postgres_up 1",
  ]);
  reachable = false;
  const shown = await lines();
  expect(shown).toContain("outbox_postgres_up 0");
  expect(shown.some((line) => line.startsWith("process_cpu_seconds_total"))).toBe(true);
  const named = [
    "outbox_messages",
    "outbox_gateway_held",
    "outbox_relayers_alive",
    "outbox_postgres_connections",
  ];
  expect(shown.filter((line) => named.some((name) => line.startsWith(name)))).toEqual([]);
  expect(errors).toEqual([]);
});

test("a database that does not answer holds up no scrape", async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  const { port } = silent.address() as { port: number };
  const { lines } = metricsOf(poolOf(`postgres://outbox@127.0.0.1:${port}/outbox`), { waitMs: 50 });
  const start = performance.now();
  const shown = await lines();
  expect(performance.now() - start).toBeLessThan(900);
  expect(shown.filter((line) => line.startsWith("outbox_messages"))).toEqual([]);
});

test("a question that Postgres refuses hides only itself, and is told once", async () => {
  const pool = poolOf(database.url);
  const { series, errors } = metricsOf(pool, {
    queue: async () => (await pool.query("select 1 / 0")).rows,
    keepMs: 0,
  });
  expect(await series("outbox_postgres_up")).toEqual(["outbox_postgres_up 1"]);
  expect(await series("outbox_messages")).toEqual([]);
  expect(await series("outbox_circuit_state")).toHaveLength(1);
  expect(errors).toMatchObject([{ message: "division by zero" }]);
});
