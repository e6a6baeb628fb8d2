import type pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";

const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
});
beforeEach(() => pool.query("truncate outbox.messages, outbox.relayers"));
afterAll(() => pool.end());

const list = async () =>
  (await api.json<{ relayers: Record<string, unknown>[] }>("/api/v1/relayers")).relayers;

/** A relayer that lives until the test is over. */
async function register(name: string): Promise<{ id: number; client: pg.PoolClient }> {
  const client = await pool.connect();
  onTestFinished(() => client.release(true));
  const { rows } = await client.query("select outbox.register_relayer($1, '1.2.3') as id", [name]);
  return { id: rows[0].id, client };
}

test("none is an empty list", async () => {
  expect(await list()).toEqual([]);
});

test("one that lives, with what it has claimed", async () => {
  const { id } = await register("host:1");
  const idle = await register("host:2");
  await pool.query(
    "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 3)",
  );
  await pool.query("select outbox.claim($1, 'default', 2, as_of => now() + interval '1 second')", [id]);
  await pool.query("update outbox.messages set claimed_at = now() - interval '90 s' where claimed_by = $1", [
    id,
  ]);
  const relayers = await list();
  expect(relayers).toEqual([
    {
      id,
      name: "host:1",
      version: "1.2.3",
      alive: true,
      started_at: expect.stringMatching(/\.\d{6}Z$/),
      heartbeat_at: expect.stringMatching(/\.\d{6}Z$/),
      heartbeat_age_ms: expect.any(Number),
      in_flight: 2,
      oldest_claim_age_ms: expect.any(Number),
    },
    expect.objectContaining({ id: idle.id, name: "host:2", in_flight: 0, oldest_claim_age_ms: null }),
  ]);
  expect(relayers[0]?.oldest_claim_age_ms).toBeGreaterThanOrEqual(90_000);
  expect(relayers[0]?.oldest_claim_age_ms).toBeLessThan(120_000);
  expect(relayers[0]?.heartbeat_age_ms).toBeLessThan(30_000);
});

test("one whose process is gone, and one that was taken for dead", async () => {
  const gone = await register("gone");
  await gone.client.query("select pg_advisory_unlock_all()");
  const dead = await register("dead");
  await pool.query("update outbox.relayers set heartbeat_at = '-infinity' where id = $1", [dead.id]);
  expect(await list()).toMatchObject([
    { name: "gone", alive: false, heartbeat_at: expect.any(String) },
    { name: "dead", alive: false, heartbeat_at: null, heartbeat_age_ms: null },
  ]);
});
