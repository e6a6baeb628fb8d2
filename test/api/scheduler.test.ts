import type pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";

interface Scheduler {
  running: boolean;
  changed_at: string;
  changed_by: string;
}

const PATH = "/api/v1/scheduler";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
});
beforeEach(() => pool.query("select outbox.resume(actor => 'dba')"));
afterAll(() => pool.end());

const post = (change: string) => api.json<Scheduler>(`${PATH}/${change}`, { method: "POST" });
const get = () => api.json<Scheduler>(PATH);

test("what SQL changed, REST shows", async () => {
  await pool.query("select outbox.pause(actor => 'night shift')");
  expect(await get()).toEqual({
    running: false,
    changed_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    changed_by: "night shift",
  });
});

test("toggle turns it over, and answers what it then is", async () => {
  const stopped = await post("toggle");
  expect(stopped).toMatchObject({ running: false, changed_by: "api" });
  expect(await get()).toEqual(stopped);
  expect(await post("toggle")).toMatchObject({ running: true });
});

test("start and stop may be repeated", async () => {
  const stopped = await post("stop");
  expect(stopped.running).toBe(false);
  expect(await post("stop")).toEqual(stopped);
  const started = await post("start");
  expect(started.running).toBe(true);
  expect(await post("start")).toEqual(started);
});

test("toggles at once take turns", async () => {
  const answers = await Promise.all(Array.from({ length: 9 }, () => post("toggle")));
  expect(answers.filter(({ running }) => running)).toHaveLength(4);
  expect((await get()).running).toBe(false);
});

test("a change that cannot be made in time is not made later", async () => {
  const claiming = await pool.connect();
  try {
    await claiming.query("begin");
    await claiming.query("select pg_advisory_xact_lock_shared(outbox.lock_key('claim'))");
    const answer = await api.request(`${PATH}/stop`, { method: "POST" });
    expect(answer.status).toBe(503);
    await claiming.query("commit");
    // Behind whatever the cut-off session still holds.
    await pool.query("select pg_advisory_xact_lock(outbox.lock_key('claim'))");
    expect(await get()).toMatchObject({ running: true, changed_by: "dba" });
  } finally {
    claiming.release(true);
  }
});
