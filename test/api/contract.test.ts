import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createApp } from "../../src/api/app.ts";
import { type RunningServer, startServer } from "../../src/api/server.ts";
import { useDatabase } from "../support/database.ts";
import { poolFor, READY } from "./api-under-test.ts";
import { examine } from "./contract/contract.ts";

const { CONTRACT_RUNS = "60", CONTRACT_SEED, CONTRACT_COVERAGE } = process.env;
const RUNS = Number(CONTRACT_RUNS);
const seed = CONTRACT_SEED === undefined ? Math.trunc(Math.random() * 2 ** 31) : Number(CONTRACT_SEED);

const database = useDatabase();
let pool: pg.Pool;
let server: RunningServer;

beforeAll(async () => {
  pool = poolFor(database.url);
  const app = createApp({
    pool,
    ready: () => READY,
    alive: () => ({ alive: true }),
    metrics: async () => ({ contentType: "text/plain; version=0.0.4; charset=utf-8", body: "up 1\n" }),
    version: "1.2.3",
    log: () => {},
    loopbackOnly: true,
  });
  server = await startServer({ app, host: "127.0.0.1", port: 0, graceMs: 1_000 });
});
afterAll(async () => {
  await server.stop();
  await pool.end();
});

test("the running server does what its document says, and nothing else", async () => {
  const start = performance.now();
  const { faults, statuses } = await examine({ url: `${server.url}/api/v1/openapi.json`, seed, runs: RUNS });
  if (CONTRACT_COVERAGE !== undefined) console.log(statuses, performance.now() - start);
  expect(faults.join("\n\n"), `CONTRACT_SEED=${seed}`).toBe("");
}, 300_000);
