import { describe, expect, test } from "vitest";
import { type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, insertMany, register, row, rows, settle } = outbox;

/** The start of the minute that began so many minutes ago, and a time in it. */
const minute = (ago: number, afterMs = 0): string =>
  new Date(Math.floor(Date.now() / 60_000) * 60_000 - ago * 60_000 + afterMs).toISOString();

const throughput = (at: string) =>
  rows("select * from outbox.throughput where minute = $1 order by gateway nulls first", [at]);

const NOTHING = {
  sent: 0,
  failed: 0,
  dead: 0,
  rejected: 0,
  retry: 0,
  throttled: 0,
  unknown: 0,
  hold: 0,
  duration_p50_ms: null,
  duration_p95_ms: null,
  duration_p99_ms: null,
  latency_p50_ms: null,
  latency_p95_ms: null,
  latency_p99_ms: null,
};

const closeAll = async () => {
  while ((await outbox.value("select outbox.close_minutes()")) > 0);
};

/** Sends one message of `gateway`, which could be sent at `from` and was so many milliseconds later. */
async function sent(gateway: string, from: string, latencyMs: number, durationMs: number): Promise<void> {
  const relayer = await register();
  const id = await insert({ gateway, created_at: from, available_at: from });
  await claim(relayer.id, 1, { gateway });
  const as_of = new Date(Date.parse(from) + latencyMs).toISOString();
  await settle(relayer.id, [{ id, duration_ms: durationMs }], { as_of });
}

// Read live, and from outbox.minutes: nobody should see a difference.
describe.each(["open", "closed"])("throughput of minutes that are %s", (they) => {
  const beforeLooking = async () => (they === "closed" ? await closeAll() : undefined);

  test("is what each gateway sent, and all together", async () => {
    await outbox.addGateway("other");
    const at = minute(7, 1_000);
    await sent("default", at, 100, 10);
    await sent("default", at, 300, 30);
    await sent("default", at, 200, 20);
    await sent("other", at, 5_000, 4_000);
    await sent("other", minute(8), 1, 1);
    await beforeLooking();
    expect(await throughput(minute(7))).toEqual([
      {
        ...NOTHING,
        minute: minute(7).replace("Z", "000Z"),
        gateway: null,
        sent: 4,
        duration_p50_ms: 20,
        duration_p95_ms: 4_000,
        duration_p99_ms: 4_000,
        latency_p50_ms: 200,
        latency_p95_ms: 5_000,
        latency_p99_ms: 5_000,
      },
      expect.objectContaining({
        gateway: "default",
        sent: 3,
        duration_p50_ms: 20,
        duration_p95_ms: 30,
        latency_p50_ms: 200,
        latency_p99_ms: 300,
      }),
      expect.objectContaining({ gateway: "other", sent: 1, duration_p50_ms: 4_000, latency_p50_ms: 5_000 }),
    ]);
  });

  test("counts latency from when a message was due, not from when it was inserted", async () => {
    const relayer = await register();
    const id = await insert({ created_at: minute(50), available_at: minute(7) });
    await claim(relayer.id, 1);
    await settle(relayer.id, [{ id }], { as_of: minute(7, 250) });
    await beforeLooking();
    expect((await throughput(minute(7)))[0]).toMatchObject({ latency_p50_ms: 250 });
  });

  test("counts what failed by outcome, and what died", async () => {
    const outcomes = ["rejected", "retry", "throttled", "unknown", "unknown", "hold", "accepted"] as const;
    const ids = await insertMany(outcomes.length);
    const relayer = await register();
    await claim(relayer.id);
    await settle(
      relayer.id,
      ids.map((id, i) => ({ id, outcome: outcomes[i] as (typeof outcomes)[number] })),
      { as_of: minute(7, 59_999) },
    );
    await outbox.pool.query("select outbox.cancel($1, as_of => $2)", [await insert(), minute(7)]);
    await outbox.pool.query("select outbox.cancel($1, as_of => $2)", [await insert(), minute(6)]);
    await beforeLooking();
    const counts = {
      sent: 1,
      failed: 6,
      dead: 2,
      rejected: 1,
      retry: 1,
      throttled: 1,
      unknown: 2,
      hold: 1,
    };
    expect(await throughput(minute(7))).toMatchObject([
      { gateway: null, ...counts },
      { gateway: "default", ...counts },
    ]);
    expect(await throughput(minute(6))).toMatchObject([
      { gateway: null, sent: 0, failed: 0, dead: 1 },
      { gateway: "default", sent: 0, failed: 0, dead: 1 },
    ]);
  });

  test("counts no attempt twice that is kept because all are", async () => {
    await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
    await sent("default", minute(7), 100, 10);
    expect(await rows("select from outbox.attempts")).toHaveLength(1);
    await beforeLooking();
    expect((await throughput(minute(7)))[0]).toMatchObject({ sent: 1, failed: 0 });
  });

  test("has a row for a minute without traffic, of all together", async () => {
    await sent("default", minute(9), 100, 10);
    await beforeLooking();
    expect(await throughput(minute(7))).toEqual([
      { minute: minute(7).replace("Z", "000Z"), gateway: null, ...NOTHING },
    ]);
  });

  test("is an hour and the minute that runs, the newest first, all together before each gateway", async () => {
    await outbox.addGateway("other");
    for (const ago of [70, 61, 59, 3, 3, 0]) await sent("other", minute(ago), 0, 1);
    await sent("default", minute(3), 0, 1);
    await beforeLooking();
    // In one look at the clock, for a minute may begin at any time.
    const seen = await rows(
      "select gateway, sent, (extract(epoch from date_trunc('minute', now()) - minute) / 60)::int as ago from outbox.throughput",
    );
    expect(seen.filter(({ gateway }) => gateway === null).map(({ ago }) => ago)).toEqual(
      Array.from({ length: 61 }, (_, ago) => ago),
    );
    const ofThree = seen.filter(({ sent }) => sent > 0).map(({ gateway, sent }) => `${gateway} ${sent}`);
    expect(ofThree.slice(2, 5)).toEqual(["null 3", "default 1", "other 2"]);
    expect(ofThree.slice(5)).toEqual(["null 1", "other 1"]);
  });
});

test("each minute is either closed or counted live, and never both", async () => {
  for (const ago of [9, 7, 5, 3]) await sent("default", minute(ago), 0, 1);
  const all = (): Promise<Row> =>
    row(
      "select sum(sent)::int as sent, count(*)::int as minutes from outbox.throughput where gateway is null",
    );
  expect(await all()).toEqual({ sent: 4, minutes: 61 });
  let steps = 0;
  while ((await outbox.value("select outbox.close_minutes()")) > 0) {
    steps++;
    expect(await all()).toEqual({ sent: 4, minutes: 61 });
  }
  expect(steps).toBeGreaterThanOrEqual(4);
});

test("a gateway that was removed keeps what it sent", async () => {
  await outbox.addGateway("gone");
  await sent("gone", minute(7), 0, 1);
  await outbox.pool.query("delete from outbox.gateways where name = 'gone'");
  expect(await throughput(minute(7))).toMatchObject([{ sent: 1 }, { gateway: "gone", sent: 1 }]);
});
