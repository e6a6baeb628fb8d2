import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";

const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
});
afterAll(() => pool.end());

const list = async () => (await api.json<{ alerts: Record<string, unknown>[] }>("/api/v1/alerts")).alerts;

const note = (findings: readonly object[], as_of: string) =>
  pool.query("select outbox.note_alerts($1, as_of => $2)", [JSON.stringify(findings), as_of]);

test("what is open, the critical first, then what is over; what has not lasted is neither", async () => {
  expect(await list()).toEqual([]);
  const lag = { kind: "query_store_lag", key: "query_store_lag", severity: "warning", summary: "behind" };
  const held = { kind: "gateway_held", key: "gateway_held:default", severity: "critical", summary: "held" };
  const dead = {
    kind: "new_dead_letters",
    key: "new_dead_letters:default:rejected",
    severity: "warning",
    summary: "2 new dead letters",
    since: "2030-06-01T11:55:00.123456Z",
    count: 2,
    sample_ids: [42, 41],
    help: "select outbox.explain(42);",
    request: "GET /dead-letters?gateway=default&reason=rejected",
  };
  await note([lag], "2030-06-01T10:00:00Z");
  await note([{ ...held, key: "pending", lasting: "5 minutes" }, dead, held], "2030-06-01T12:00:00Z");
  const alerts = await list();
  expect(alerts.map(({ key }) => key)).toEqual([
    "gateway_held:default",
    "new_dead_letters:default:rejected",
    "query_store_lag",
  ]);
  expect(alerts[1]).toEqual({
    ...dead,
    id: expect.any(Number),
    last_seen_at: "2030-06-01T12:00:00.000000Z",
    resolved_at: null,
    notified_at: null,
    notices: 0,
  });
  expect(alerts[2]).toMatchObject({
    last_seen_at: "2030-06-01T10:00:00.000000Z",
    resolved_at: "2030-06-01T12:00:00.000000Z",
  });
});
