import { describe, expect, test } from "vitest";
import { failure, noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, claim, insert, insertMany, message, places, register, rows, value } = outbox;

const ids = (claims: readonly { readonly id: number }[]) => claims.map(({ id }) => id);

describe("what is claimed", () => {
  test("is what was inserted, with its attempt counted and the relayer's name on it", async () => {
    const relayer = await register();
    const id = await insert({ content: "text", traceparent: "00-ab", available_at: noon() });
    expect(await claim(relayer.id, 10, { as_of: noon(5) })).toEqual([
      {
        id,
        attempt: 1,
        recipient: "+905551234567",
        content: "text",
        expires_in_ms: null,
        traceparent: "00-ab",
        claimed_at: expect.any(String),
        revision: 0,
        priority: 1,
        available_at: noon().replace("Z", "000Z"),
        waited_ms: 5,
      },
    ]);
    expect(await message(id)).toMatchObject({
      attempts: 1,
      claimed_by: relayer.id,
      claimed_at: noon(5).replace("Z", "000Z"),
    });
  });

  test("is not claimed again", async () => {
    const [one, two] = [await register(), await register()];
    await insert();
    expect(await claim(one.id)).toHaveLength(1);
    expect(await claim(one.id)).toEqual([]);
    expect(await claim(two.id)).toEqual([]);
  });

  test("is at most a batch", async () => {
    const relayer = await register();
    await insertMany(5);
    expect(await claim(relayer.id, 0)).toHaveLength(0);
    expect(await claim(relayer.id, 2)).toHaveLength(2);
    expect(await claim(relayer.id, 2)).toHaveLength(2);
    expect(await claim(relayer.id, 2)).toHaveLength(1);
    expect(await value("select count(*)::int from outbox.messages where attempts = 1")).toBe(5);
  });

  test("is due: from available_at on", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon() });
    expect(await claim(relayer.id, 1, { as_of: noon(-1) })).toEqual([]);
    expect(ids(await claim(relayer.id, 1, { as_of: noon() }))).toEqual([id]);
  });

  test("is of the gateway asked for", async () => {
    const relayer = await register();
    await addGateway("other");
    const [here, there] = [await insert(), await insert({ gateway: "other" })];
    expect(await claim(relayer.id, 10, { gateway: "unheard-of" })).toEqual([]);
    expect(ids(await claim(relayer.id, 10, { gateway: "other" }))).toEqual([there]);
    expect(ids(await claim(relayer.id, 10))).toEqual([here]);
  });

  test("counts on from the attempts before", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon() });
    await outbox.pool.query("update outbox.messages set attempts = 3");
    expect(await claim(relayer.id, 1, { as_of: noon() })).toMatchObject([{ id, attempt: 4 }]);
  });
});

describe("the order", () => {
  test("is available_at, then id, within a priority", async () => {
    const relayer = await register();
    const third = await insert({ available_at: noon(2) });
    const first = await insert({ available_at: noon(0) });
    const second = await insert({ available_at: noon(0) });
    const fourth = await insert({ available_at: noon(2) });
    const claims = [];
    for (let n = 0; n < 4; n++) claims.push(...(await claim(relayer.id, 1, { as_of: noon(10) })));
    expect(ids(claims)).toEqual([first, second, third, fourth]);
  });

  test("of one answer is priority, then available_at, then id", async () => {
    const relayer = await register();
    const bulk = await insert({ priority: 2, available_at: noon(0) });
    const later = await insert({ priority: 0, available_at: noon(2) });
    const code = await insert({ priority: 0, available_at: noon(1) });
    const same = await insert({ priority: 0, available_at: noon(1) });
    const normal = await insert({ priority: 1, available_at: noon(0) });
    expect(ids(await claim(relayer.id, 10, { as_of: noon(5) }))).toEqual([code, same, later, normal, bulk]);
  });
});

describe("priorities", () => {
  async function waiting(counts: readonly [number, number, number]): Promise<void> {
    await outbox.pool.query(
      `insert into outbox.messages (recipient, content, priority)
       select '+905551234567', 'hi', n - 1
       from unnest($1::int[]) with ordinality as wanted (many, n), generate_series(1, many)`,
      [counts],
    );
  }

  /** How many of each priority one claim takes. */
  async function shares(relayer: number, batch: number): Promise<number[]> {
    const counts = [0, 0, 0];
    const claimed = ids(await claim(relayer, batch));
    const of = await rows("select priority from outbox.messages where id = any ($1)", [claimed]);
    for (const { priority } of of) counts[priority] = (counts[priority] ?? 0) + 1;
    return counts;
  }

  test("share a claim 16 : 4 : 1 while all of them wait", async () => {
    const relayer = await register();
    await waiting([100, 100, 100]);
    expect(await shares(relayer.id, 21)).toEqual([16, 4, 1]);
    expect(await shares(relayer.id, 42)).toEqual([32, 8, 2]);
  });

  test("pass on the shares that they do not use", async () => {
    const relayer = await register();
    await waiting([2, 0, 50]);
    expect(await shares(relayer.id, 21)).toEqual([2, 0, 19]);
    await waiting([0, 50, 0]);
    expect(await shares(relayer.id, 25)).toEqual([0, 20, 5]);
  });

  test("have the gateway's weights", async () => {
    const relayer = await register();
    await outbox.pool.query("update outbox.gateways set weights = '{1,1,1}'");
    await waiting([50, 50, 50]);
    expect(await shares(relayer.id, 30)).toEqual([10, 10, 10]);
  });

  test("let a code into the next claim, however much bulk waits", async () => {
    const relayer = await register();
    await waiting([0, 50, 50]);
    for (let n = 0; n < 10; n++) {
      const code = await insert({ priority: 0 });
      expect(ids(await claim(relayer.id, 3))).toContain(code);
    }
  });

  test("do not let bulk starve, however small the claims are", async () => {
    const relayer = await register();
    await waiting([600, 300, 100]);
    const sum = [0, 0, 0];
    for (let n = 0; n < 100; n++) {
      const taken = await shares(relayer.id, 4);
      for (const priority of [0, 1, 2]) sum[priority] = (sum[priority] ?? 0) + (taken[priority] ?? 0);
    }
    // Of 400, its share of 1 in 21 would be 19; that it is none at all is what must not be.
    expect(sum[2]).toBeGreaterThan(4);
    expect(sum[2]).toBeLessThan(60);
    expect(sum[0]).toBeGreaterThan(sum[1] as number);
  });
});

describe("what has expired", () => {
  test("is buried, not claimed", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(), expires_at: noon(1_000) });
    expect(await claim(relayer.id, 10, { as_of: noon(1_000) })).toEqual([]);
    expect(await places(id)).toEqual(["dead_letters"]);
    expect(await outbox.dead(id)).toMatchObject({
      reason: "expired",
      died_at: noon(1_000).replace("Z", "000Z"),
      attempts: 0,
      claimed_by: null,
      http_status: null,
      error: null,
    });
  });

  test("is claimed until then, and the claim says how long it has", async () => {
    const relayer = await register();
    await insert({ available_at: noon(), expires_at: noon(1_000) });
    expect(await claim(relayer.id, 10, { as_of: noon(999) })).toMatchObject([{ expires_in_ms: 1 }]);
  });

  test("is buried also if it is not due yet", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(9_000), expires_at: noon(1_000) });
    await claim(relayer.id, 1, { as_of: noon(1_000) });
    expect(await places(id)).toEqual(["dead_letters"]);
  });

  test("does not take the places of a batch", async () => {
    const relayer = await register();
    await insertMany(3, { available_at: noon(), expires_at: noon(1) });
    const live = await insertMany(2, { available_at: noon(5) });
    expect(ids(await claim(relayer.id, 2, { as_of: noon(10) }))).toEqual(live);
  });

  test("is left alone while it is in flight", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(), expires_at: noon(1_000) });
    await claim(relayer.id, 10, { as_of: noon() });
    await insert({ available_at: noon(), expires_at: noon(1_000) });
    await claim(relayer.id, 10, { as_of: noon(2_000) });
    expect(await message(id)).toMatchObject({ claimed_by: relayer.id });
  });

  test("keeps the error of its last attempt", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(), expires_at: noon(1_000) });
    await claim(relayer.id, 10, { as_of: noon() });
    await outbox.settle(relayer.id, [{ id, outcome: "retry", error: "HTTP 503" }], { as_of: noon(1) });
    await claim(relayer.id, 10, { as_of: noon(2_000) });
    expect(await outbox.dead(id)).toMatchObject({
      reason: "expired",
      last_error: "HTTP 503",
      error: null,
      attempts: 1,
    });
  });
});

describe("nothing is claimed", () => {
  test("while everything is paused, nor buried", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(), expires_at: noon(1) });
    await outbox.pool.query("select outbox.pause()");
    expect(await claim(relayer.id, 1, { as_of: noon(2) })).toEqual([]);
    expect(await places(id)).toEqual(["messages"]);
  });

  test("while the gateway is paused; others go on", async () => {
    const relayer = await register();
    await addGateway("other");
    await insert();
    const there = await insert({ gateway: "other" });
    await outbox.pool.query("select outbox.pause('default')");
    expect(await claim(relayer.id)).toEqual([]);
    expect(ids(await claim(relayer.id, 10, { gateway: "other" }))).toEqual([there]);
  });

  test("while the gateway is held: until held_until, to the moment", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon(-60_000) });
    await outbox.pool.query("update outbox.gateways set held_until = $1, hold_reason = 'throttled'", [
      noon(),
    ]);
    expect(await claim(relayer.id, 1, { as_of: noon(-1) })).toEqual([]);
    expect(ids(await claim(relayer.id, 1, { as_of: noon() }))).toEqual([id]);
  });

  test("by a relayer that is not registered, which is an error: OB002", async () => {
    await insert();
    expect(await failure(claim(12345))).toMatchObject({
      code: "OB002",
      message: "relayer 12345 is not registered",
    });
    await outbox.pool.query("select outbox.pause()");
    expect((await failure(claim(12345))).code).toBe("OB002");
    expect(await value("select sum(attempts)::int from outbox.messages")).toBe(0);
  });
});

describe("two claims at once", () => {
  test("share nothing, and neither waits", async () => {
    const [one, two] = [await register(), await register()];
    await insertMany(10);
    await one.client.query("begin");
    const first = ids(await claim(one.id, 5, { on: one.client }));
    const second = ids(await claim(two.id, 5));
    await one.client.query("commit");
    expect(first).toHaveLength(5);
    expect(second).toHaveLength(5);
    expect(new Set([...first, ...second]).size).toBe(10);
  });

  test("of a crowd give each message to one", async () => {
    const relayers = await Promise.all(Array.from({ length: 6 }, () => register()));
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content, priority) select '+905551234567', 'hi', n % 3 from generate_series(1, 900) as n",
    );
    const claimed: number[] = [];
    await Promise.all(
      relayers.map(async ({ id, client }) => {
        for (let fruitless = 0; fruitless < 5; ) {
          const some = ids(await claim(id, 20, { on: client }));
          claimed.push(...some);
          fruitless = some.length > 0 ? 0 : fruitless + 1;
        }
      }),
    );
    expect(claimed).toHaveLength(900);
    expect(new Set(claimed).size).toBe(900);
    expect(await value("select max(attempts)::int from outbox.messages")).toBe(1);
  });

  test("do not wait for a row that somebody else has locked", async () => {
    const relayer = await register();
    const [locked, free] = [await insert(), await insert()];
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select from outbox.messages where id = $1 for update", [locked]);
    expect(ids(await claim(relayer.id))).toEqual([free]);
    await person.query("rollback");
    expect(ids(await claim(relayer.id))).toEqual([locked]);
  });

  test("nor to bury one", async () => {
    const relayer = await register();
    const locked = await insert({ available_at: noon(), expires_at: noon(1) });
    const expired = await insert({ available_at: noon(), expires_at: noon(1) });
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select from outbox.messages where id = $1 for update", [locked]);
    await claim(relayer.id, 10, { as_of: noon(2) });
    expect(await places(expired)).toEqual(["dead_letters"]);
    expect(await places(locked)).toEqual(["messages"]);
    await person.query("rollback");
  });

  test("send the text as it is, when somebody has just corrected it", async () => {
    const relayer = await register();
    await insert();
    const person = await outbox.session();
    await person.query("begin");
    await person.query("update outbox.messages set content = 'corrected'");
    expect(await claim(relayer.id)).toEqual([]);
    await person.query("commit");
    expect(await claim(relayer.id)).toMatchObject([{ content: "corrected" }]);
  });
});

test("an INSERT that is not committed is not claimed", async () => {
  const relayer = await register();
  const producer = await outbox.session();
  await producer.query("begin");
  const id = await insert({}, producer);
  expect(await claim(relayer.id)).toEqual([]);
  await producer.query("commit");
  expect(ids(await claim(relayer.id))).toEqual([id]);
});

test("a claim that is rolled back never was", async () => {
  const relayer = await register();
  const id = await insert();
  await relayer.client.query("begin");
  await claim(relayer.id, 1, { on: relayer.client });
  await relayer.client.query("rollback");
  expect(await message(id)).toMatchObject({ claimed_by: null, attempts: 0 });
});
