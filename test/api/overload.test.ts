import { expect, onTestFinished, test } from "vitest";
import { createPool } from "../../src/db/pool.ts";
import { poolFor } from "./api-under-test.ts";
import { useStandIn } from "./store-under-test.ts";

const standIn = useStandIn();
const LAG = "X-Query-Store-Lag";

/** Takes every connection that there may be, as slow questions would; returns how to give them back. */
async function fill(pool: ReturnType<typeof createPool>): Promise<() => void> {
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
  expect(pool.full).toBe(true);
  return () => {
    for (const client of clients) client.release();
  };
}

function storePool() {
  const pool = createPool({
    connectionString: standIn.storeUrl,
    max: 2,
    applicationName: "overload-test",
    log: () => {},
  });
  const looks = poolFor(standIn.storeUrl);
  onTestFinished(async () => {
    await pool.end();
    await looks.end();
  });
  return { pool, looks };
}

test("a query store that is full of slow questions says so, is not taken for away, and spares the primary", async () => {
  const { pool, looks } = storePool();
  const served = await standIn.serve({ pool, looks });
  await served.becomes("usable");
  const empty = await fill(pool);

  const answer = await served.request("/api/v1/messages");
  expect(answer.status).toBe(503);
  expect(answer.headers.get("Retry-After")).toBe("2");
  expect(await answer.json()).toMatchObject({
    type: "urn:outbox-relayer:problem:overloaded",
    title: "Too much is asked at once",
    detail: "No connection was free within 2 s. Ask again shortly.",
  });
  expect(served.queryStore.condition().state).toBe("usable");

  empty();
  const next = await served.request("/api/v1/messages");
  expect([next.status, next.headers.get(LAG)]).toEqual([200, expect.stringMatching(/^\d+\.\d{3}$/)]);
});

test("a primary whose connections are all at work is not said to be away", async () => {
  const { pool } = storePool();
  const served = await standIn.serve({}, { pool, queryStore: undefined });
  const empty = await fill(pool);
  const answer = await served.request("/api/v1/scheduler");
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ type: "urn:outbox-relayer:problem:overloaded" });
  empty();
  expect(pool.full).toBe(false);
  expect((await served.request("/api/v1/scheduler")).status).toBe(200);
});
