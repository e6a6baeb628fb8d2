import { setTimeout as pause } from "node:timers/promises";
import { Pool } from "pg";
import { startListening } from "../peers/start.ts";
import type { Bench, Row } from "../support/bench.ts";
import { now } from "../support/clock.ts";
import { insertInTurn, observe, type System } from "../support/observed.ts";
import { percentile } from "../support/percentile.ts";
import type { Stage } from "../support/stage.ts";

const WARM_UP = 300;
const ONE_AT_A_TIME = 500;
const RATES = [100, 1_000, 5_000];
const RATE_MS = 15_000;
const CONNECTIONS = 16;

export const latency: Bench = {
  measures: "from an INSERT's commit to the arrival of its POST, by the relayer and by Graphile Worker",
  async run(stage) {
    const systems = [await relayer(stage), await graphileWorker(stage)];
    stage.say("one at a time");
    await oneAtATime(systems, stage.size(WARM_UP), [5, 20]);
    const rows = await oneAtATime(systems, stage.size(ONE_AT_A_TIME), [20, 120]);
    for (const rate of RATES) {
      for (const system of systems) {
        stage.say(`${rate} a second: ${system.name}`);
        const observed = await observe(system);
        const ms = stage.milliseconds(RATE_MS);
        await openLoop(observed.insert, rate, ms);
        rows.push(row(`${system.name}, ${rate}/s`, await observed.latencies(), ms));
      }
    }
    return rows;
  },
};

async function relayer(stage: Stage): Promise<System> {
  const gateway = await stage.scriptedGateway();
  await stage.relayer({ webhookUrl: gateway.url });
  const insert = inserting(
    stage,
    stage.databaseUrl,
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'Your code is 123456') returning id",
  );
  return { name: "outbox-relayer", gateway, insert };
}

async function graphileWorker(stage: Stage): Promise<System> {
  const gateway = await stage.scriptedGateway();
  const database = await stage.otherDatabase("graphile_worker");
  const worker = await startListening(database, gateway.url);
  stage.atEnd(() => worker.stop());
  const insert = inserting(
    stage,
    database,
    `select id from graphile_worker.add_job('sms', '{"recipient": "+905551234567", "content": "Your code is 123456"}')`,
  );
  return { name: "graphile-worker", gateway, insert };
}

function inserting(stage: Stage, connectionString: string, text: string): () => Promise<number> {
  const pool = new Pool({ connectionString, max: CONNECTIONS });
  stage.atEnd(() => pool.end());
  return async () => Number((await pool.query<{ id: string }>({ name: "insert", text })).rows[0]?.id);
}

async function oneAtATime(
  systems: readonly System[],
  count: number,
  pausesMs: readonly [shortest: number, longest: number],
): Promise<Row[]> {
  const start = now();
  const observed = await Promise.all(systems.map(observe));
  await insertInTurn(observed, count, pausesMs);
  const ms = now() - start;
  return await Promise.all(
    observed.map(async ({ name, latencies }) => row(`${name}, one at a time`, await latencies(), ms)),
  );
}

/** So many a second on average, at random moments (Poisson), whether or not those before are committed. */
async function openLoop(insert: () => Promise<void>, perSecond: number, forMs: number): Promise<void> {
  const inserts: Promise<void>[] = [];
  const start = now();
  let due = start;
  while (due < start + forMs) {
    if (due > now()) await pause(Math.ceil(due - now()));
    inserts.push(insert());
    due += (-Math.log(1 - Math.random()) / perSecond) * 1_000;
  }
  await Promise.all(inserts);
}

function row(name: string, latencies: readonly number[], ms: number): Row {
  return {
    case: name,
    messages: latencies.length,
    per_second: (latencies.length / ms) * 1_000,
    p50_ms: percentile(latencies, 0.5),
    p95_ms: percentile(latencies, 0.95),
    p99_ms: percentile(latencies, 0.99),
    max_ms: percentile(latencies, 1),
  };
}
