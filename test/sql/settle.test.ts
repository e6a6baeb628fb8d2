import { describe, expect, test } from "vitest";
import { between, noon, refusal, type Shown, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { attempts, claim, dead, gateway, insert, insertMany, message, places, register, rows, settle, value } =
  outbox;

const micros = (time: string) => time.replace("Z", "000Z");

/** A message that was claimed and tried, with this outcome, at noon. */
async function tried(shown: Omit<Shown, "id">, columns: Record<string, unknown> = {}) {
  const relayer = await register();
  const id = await insert({ available_at: noon(-5_000), ...columns });
  await claim(relayer.id, 1, { as_of: noon(-1_000) });
  const settled = await settle(relayer.id, [{ id, ...shown }], { as_of: noon() });
  return { relayer: relayer.id, id, settled };
}

const set = (column: string, to: unknown) =>
  outbox.pool.query(`update outbox.gateways set ${column} = $1`, [to]);

describe("accepted", () => {
  test("goes to sent, as it was, with what the gateway said", async () => {
    const columns = {
      recipient: "+4915112345678",
      content: "text",
      priority: 0,
      metadata: { order: 7 },
      dedupe_key: "k",
      expires_at: micros(noon(60_000)),
      traceparent: "00-ab",
    };
    const { relayer, id, settled } = await tried(
      { gateway_message_id: "gw-1", duration_ms: 12, http_status: 202 },
      columns,
    );
    expect(settled).toEqual({
      settled_at: micros(noon()),
      sent: 1,
      stale: [],
      dead: [],
      dead_reasons: [],
      held: [],
    });
    expect(await places(id)).toEqual(["sent"]);
    expect(await outbox.row("select * from outbox.sent")).toEqual({
      id,
      gateway: "default",
      ...columns,
      available_at: micros(noon(-5_000)),
      attempts: 1,
      claimed_by: relayer,
      claimed_at: micros(noon(-1_000)),
      last_error: null,
      created_at: expect.any(String),
      revision: 0,
      sent_at: micros(noon()),
      gateway_message_id: "gw-1",
      duration_ms: 12,
    });
    expect(await attempts(id)).toEqual([]);
  });

  test("is among the attempts, too, where keep_attempts is all", async () => {
    await set("keep_attempts", "all");
    const { relayer, id } = await tried({ gateway_message_id: "gw-1", duration_ms: 12, http_status: 202 });
    expect(await attempts(id)).toEqual([
      {
        message_id: id,
        attempt: 1,
        gateway: "default",
        relayer,
        outcome: "accepted",
        http_status: 202,
        gateway_message_id: "gw-1",
        error: null,
        duration_ms: 12,
        ended_at: micros(noon()),
      },
    ]);
  });

  test("is not, where another gateway keeps all", async () => {
    await outbox.addGateway("other", { keep_attempts: "all" });
    const { id } = await tried({});
    expect(await attempts(id)).toEqual([]);
  });

  test("is stamped by Postgres' clock when nobody gives a time", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    const before = await value("select clock_timestamp()");
    const { settled_at } = await settle(relayer.id, [{ id }]);
    const times = [before, settled_at, await value("select clock_timestamp()")];
    expect(times).toEqual([...times].sort());
    expect(await value("select sent_at from outbox.sent")).toBe(settled_at);
  });
});

describe("rejected", () => {
  test("dies at once, and both places say of what", async () => {
    const { relayer, id, settled } = await tried({
      outcome: "rejected",
      http_status: 400,
      error: "HTTP 400: no",
    });
    expect(settled).toMatchObject({ sent: 0, stale: [], dead: [id], dead_reasons: ["rejected"] });
    expect(await places(id)).toEqual(["dead_letters"]);
    expect(await dead(id)).toMatchObject({
      reason: "rejected",
      http_status: 400,
      error: "HTTP 400: no",
      last_error: "HTTP 400: no",
      died_at: micros(noon()),
      attempts: 1,
      claimed_by: relayer,
      claimed_at: micros(noon(-1_000)),
    });
    expect(await attempts(id)).toMatchObject([
      {
        attempt: 1,
        outcome: "rejected",
        http_status: 400,
        error: "HTTP 400: no",
        duration_ms: 7,
        ended_at: micros(noon()),
      },
    ]);
  });
});

describe.each(["retry", "unknown"] as const)("%s", (outcome) => {
  test("goes back, counted, after the wait, with its error", async () => {
    await set("jitter", 0);
    const { relayer, id, settled } = await tried({ outcome, http_status: 503, error: "HTTP 503" });
    expect(settled).toMatchObject({ sent: 0, stale: [], dead: [] });
    expect(await message(id)).toMatchObject({
      attempts: 1,
      claimed_by: null,
      claimed_at: null,
      available_at: micros(noon(1_000)),
      last_error: "HTTP 503",
    });
    expect(await attempts(id)).toMatchObject([
      { attempt: 1, relayer, outcome, http_status: 503, error: "HTTP 503", ended_at: micros(noon()) },
    ]);
    expect(await gateway()).toMatchObject({ held_until: null, hold_reason: null });
  });

  test("is exhausted after max_attempts", async () => {
    await outbox.pool.query("update outbox.gateways set jitter = 0, max_attempts = 3");
    const relayer = await register();
    const id = await insert({ available_at: noon() });
    for (const [attempt, time, state] of [
      [1, 0, "messages"],
      [2, 10_000, "messages"],
      [3, 20_000, "dead_letters"],
    ] as const) {
      expect(await claim(relayer.id, 1, { as_of: noon(time) })).toMatchObject([{ id, attempt }]);
      await settle(relayer.id, [{ id, attempt, outcome, error: `try ${attempt}` }], { as_of: noon(time) });
      expect(await places(id)).toEqual([state]);
    }
    expect(await dead(id)).toMatchObject({ reason: "exhausted", attempts: 3, error: "try 3" });
    expect(await attempts(id)).toMatchObject([{ attempt: 1 }, { attempt: 2 }, { attempt: 3 }]);
  });

  test("waits for a Retry-After that is longer than the backoff, and not for a shorter one", async () => {
    await set("jitter", 0);
    const longer = await tried({ outcome, retry_after_ms: 90_000 });
    expect((await message(longer.id)).available_at).toBe(micros(noon(90_000)));
    const shorter = await tried({ outcome, retry_after_ms: 200 });
    expect((await message(shorter.id)).available_at).toBe(micros(noon(1_000)));
  });

  test("may wait for a Retry-After beyond max_delay", async () => {
    const { id } = await tried({ outcome, retry_after_ms: 3_600_000 });
    expect((await message(id)).available_at).toBe(micros(noon(3_600_000)));
  });
});

describe("unknown", () => {
  test("is parked where the gateway says so, at whatever attempt", async () => {
    await set("on_unknown", "park");
    const { id, settled } = await tried({ outcome: "unknown", error: "reset" });
    expect(settled).toMatchObject({ dead: [id], dead_reasons: ["unknown_outcome"] });
    expect(await dead(id)).toMatchObject({ reason: "unknown_outcome", error: "reset" });
    const retried = await tried({ outcome: "retry" });
    expect(await places(retried.id)).toEqual(["messages"]);
  });
});

describe.each([
  ["throttled", 5_000, -5_000],
  // Behind what was due before it.
  ["hold", 300_000, 0],
] as const)("%s", (outcome, heldMs, dueMs) => {
  test("goes back at once, uncounted, and the gateway is held", async () => {
    const { id, settled } = await tried({ outcome, http_status: 429, error: "HTTP 429" });
    expect(settled).toMatchObject({ sent: 0, stale: [], dead: [] });
    expect(await message(id)).toMatchObject({
      attempts: 0,
      claimed_by: null,
      claimed_at: null,
      available_at: micros(noon(dueMs)),
      last_error: "HTTP 429",
    });
    expect(await attempts(id)).toMatchObject([{ attempt: 1, outcome, error: "HTTP 429" }]);
    expect(await gateway()).toMatchObject({
      held_until: micros(noon(heldMs)),
      hold_reason: outcome,
      hold_detail: "HTTP 429",
      paused: false,
    });
  });

  test("is never what a message dies of", async () => {
    await set("max_attempts", 1);
    const { id } = await tried({ outcome });
    expect(await places(id)).toEqual(["messages"]);
  });

  test("holds only its own gateway", async () => {
    await outbox.addGateway("other");
    await tried({ outcome });
    expect(await gateway("other")).toMatchObject({ held_until: null, hold_reason: null });
  });
});

describe("a hold", () => {
  test("is as long as the Retry-After that came with throttled", async () => {
    await tried({ outcome: "throttled", retry_after_ms: 90_000 });
    expect((await gateway()).held_until).toBe(micros(noon(90_000)));
  });

  test("is a second at least, whatever Retry-After came with throttled", async () => {
    await tried({ outcome: "throttled", retry_after_ms: 0 });
    expect((await gateway()).held_until).toBe(micros(noon(1_000)));
  });

  test("is as long as hold_for, whatever Retry-After came with hold", async () => {
    await set("hold_for", "1 minute");
    await tried({ outcome: "hold", retry_after_ms: 1_000 });
    expect((await gateway()).held_until).toBe(micros(noon(60_000)));
  });

  test("is told by the settle that led to it, and by no other", async () => {
    const relayer = await register();
    const [one, two] = (await insertMany(2, { available_at: noon(-60_000) })) as [number, number];
    await claim(relayer.id, 2, { as_of: noon(-1) });
    expect((await settle(relayer.id, [{ id: one, outcome: "hold" }], { as_of: noon() })).held).toEqual([
      "default",
    ]);
    expect((await settle(relayer.id, [{ id: two, outcome: "hold" }], { as_of: noon(1) })).held).toEqual([]);
  });

  test("is the longest of a batch, with its own reason", async () => {
    const relayer = await register();
    const [one, two, three] = (await insertMany(3, { available_at: noon() })) as [number, number, number];
    await claim(relayer.id, 3, { as_of: noon() });
    const shown: Shown[] = [
      { id: one, outcome: "throttled", error: "slow down", retry_after_ms: 1_000 },
      { id: two, outcome: "hold", error: "who are you" },
      { id: three, outcome: "throttled", error: "slow down", retry_after_ms: 2_000 },
    ];
    await settle(relayer.id, shown, { as_of: noon() });
    expect(await gateway()).toMatchObject({
      held_until: micros(noon(300_000)),
      hold_reason: "hold",
      hold_detail: "who are you",
    });
  });

  test("that is longer keeps its end and its reason when a shorter one comes", async () => {
    const relayer = await register();
    const [one, two] = (await insertMany(2, { available_at: noon() })) as [number, number];
    await claim(relayer.id, 2, { as_of: noon() });
    await settle(relayer.id, [{ id: one, outcome: "hold", error: "who are you" }], { as_of: noon() });
    await settle(relayer.id, [{ id: two, outcome: "throttled", error: "slow down" }], { as_of: noon(1_000) });
    expect(await gateway()).toMatchObject({
      held_until: micros(noon(300_000)),
      hold_reason: "hold",
      hold_detail: "who are you",
    });
  });

  test("that is over gives way to a new one", async () => {
    await outbox.pool.query(
      "update outbox.gateways set held_until = $1, hold_reason = 'hold', hold_detail = 'old'",
      [noon(-60_000)],
    );
    await tried({ outcome: "throttled", error: "slow down" });
    expect(await gateway()).toMatchObject({
      held_until: micros(noon(5_000)),
      hold_reason: "throttled",
      hold_detail: "slow down",
    });
  });
});

describe("the backoff", () => {
  const delays = (attempt: number, [base, max, jitter]: readonly [string, string, number], many = 200) =>
    rows(
      `select extract(epoch from outbox.retry_delay($1, $2, $3, $4))::float8 as delay from generate_series(1, $5)`,
      [base, max, jitter, attempt, many],
    ).then((all) => all.map(({ delay }) => delay as number));

  test("doubles with each attempt", async () => {
    for (const [attempt, seconds] of [
      [1, 1],
      [2, 2],
      [3, 4],
      [10, 512],
    ] as const)
      expect(await delays(attempt, ["1 second", "1 day", 0], 1)).toEqual([seconds]);
  });

  test("is spread by the jitter, and no further", async () => {
    const all = await delays(3, ["1 second", "1 day", 0.2]);
    expect(Math.min(...all)).toBeGreaterThanOrEqual(3.2);
    expect(Math.max(...all)).toBeLessThanOrEqual(4.8);
    expect(Math.max(...all) - Math.min(...all)).toBeGreaterThan(1);
  });

  test("is at most max_delay, jitter included", async () => {
    const all = await delays(20, ["1 second", "10 minutes", 0.5]);
    expect(Math.max(...all)).toBe(600);
    expect(Math.max(...(await delays(2, ["1 second", "2 seconds", 1])))).toBeLessThanOrEqual(2);
  });

  test("is never too large to be counted, nor negative", async () => {
    for (const policy of [
      ["1 second", "10 minutes", 0.2],
      ["1 minute", "30 days", 1],
      ["3 hours", "1 day", 0.2],
      ["2 days", "1 year", 0.2],
      ["1 year", "100 years", 1],
    ] as const)
      for (const attempt of [1, 2, 30, 31, 32, 64, 1000, 32767]) {
        const [delay] = await delays(attempt, policy, 1);
        expect.soft(delay, `${policy[0]}, attempt ${attempt}`).toBeGreaterThanOrEqual(0);
      }
    expect(await delays(1000, ["3 hours", "1 day", 0], 1)).toEqual([86_400]);
  });

  test("is the gateway's, and what settle uses", async () => {
    await outbox.pool.query(
      "update outbox.gateways set base_delay = '10 seconds', max_delay = '15 seconds', jitter = 0",
    );
    const relayer = await register();
    const id = await insert({ available_at: noon() });
    await claim(relayer.id, 1, { as_of: noon() });
    await settle(relayer.id, [{ id, outcome: "retry" }], { as_of: noon() });
    expect(between(noon(), (await message(id)).available_at)).toBe(10_000);
    await claim(relayer.id, 1, { as_of: noon(10_000) });
    await settle(relayer.id, [{ id, attempt: 2, outcome: "retry" }], { as_of: noon(10_000) });
    expect(between(noon(10_000), (await message(id)).available_at)).toBe(15_000);
  });
});

describe("a batch", () => {
  test("of everything is settled in one call", async () => {
    await outbox.pool.query("update outbox.gateways set jitter = 0, max_attempts = 2");
    const relayer = await register();
    const outcomes = [
      "accepted",
      "rejected",
      "retry",
      "throttled",
      "unknown",
      "hold",
      "accepted",
      "retry",
    ] as const;
    const ids = await insertMany(outcomes.length, { available_at: noon() });
    await outbox.pool.query("update outbox.messages set attempts = 1 where id = $1", [ids[7]]);
    const claims = await claim(relayer.id, 10, { as_of: noon() });
    const shown = claims.map(({ id, attempt }) => ({
      id,
      attempt,
      outcome: outcomes[ids.indexOf(id)] as (typeof outcomes)[number],
      error: `error of ${id}`,
    }));
    const settled = await settle(relayer.id, shown, { as_of: noon() });
    expect(settled).toMatchObject({ sent: 2, stale: [] });
    expect(settled).toMatchObject({ dead: [ids[1]], dead_reasons: ["rejected"], held: ["default"] });
    expect(await rows("select id, status, error from outbox.all_messages order by id")).toEqual([
      { id: ids[0], status: "sent", error: null },
      { id: ids[1], status: "failed", error: `error of ${ids[1]}` },
      { id: ids[2], status: "pending", error: null },
      { id: ids[3], status: "pending", error: null },
      { id: ids[4], status: "pending", error: null },
      { id: ids[5], status: "pending", error: null },
      { id: ids[6], status: "sent", error: null },
      // Its last attempt, had the hold not shown that the gateway is at fault.
      { id: ids[7], status: "pending", error: null },
    ]);
    expect(await message(ids[7] as number)).toMatchObject({ attempts: 1 });
    expect(await rows("select message_id, outcome from outbox.attempts order by message_id")).toEqual(
      [1, 2, 3, 4, 5, 7].map((n) => ({ message_id: ids[n], outcome: outcomes[n] })),
    );
  });

  test("of nothing is fine", async () => {
    const relayer = await register();
    expect(await settle(relayer.id, [])).toMatchObject({ sent: 0, stale: [], dead: [], dead_reasons: [] });
  });

  test("over several gateways goes by the rules of each", async () => {
    await outbox.addGateway("other", { on_unknown: "park", keep_attempts: "all" });
    const relayer = await register();
    const [here, there, sent] = [
      await insert(),
      await insert({ gateway: "other" }),
      await insert({ gateway: "other" }),
    ];
    await claim(relayer.id);
    await claim(relayer.id, 10, { gateway: "other" });
    await settle(relayer.id, [
      { id: here, outcome: "unknown" },
      { id: there, outcome: "unknown" },
      { id: sent },
    ]);
    expect(await places(here)).toEqual(["messages"]);
    expect(await places(there)).toEqual(["dead_letters"]);
    expect(await attempts(sent)).toMatchObject([{ outcome: "accepted" }]);
  });

  test("with a word that is no outcome is refused whole", async () => {
    const relayer = await register();
    const [one, two] = (await insertMany(2)) as [number, number];
    await claim(relayer.id);
    const wrong = settle(relayer.id, [{ id: one }, { id: two, outcome: "Accepted" as never }]);
    expect(await refusal(wrong)).toBe("23514 not_an_outcome");
    expect(await places(one)).toEqual(["messages"]);
  });
});

describe("an attempt that was given back has its number again at the next claim", () => {
  test.each(["accepted", "throttled"] as const)("whose late %s ends nothing", async (outcome) => {
    const relayer = await register();
    const id = await insert({ available_at: noon(-5_000) });
    const [first] = await claim(relayer.id, 1, { as_of: noon() });
    const late = { id, outcome, claimed_at: first?.claimed_at ?? "" };
    // Settled, but the answer was lost: the relayer will settle it again.
    await settle(relayer.id, [{ ...late, outcome: "throttled", retry_after_ms: 0 }], { as_of: noon(1) });
    const [second] = await claim(relayer.id, 1, { as_of: noon(1_001) });
    expect(second?.attempt).toBe(first?.attempt);

    expect(await settle(relayer.id, [late], { as_of: noon(1_002) })).toMatchObject({ sent: 0, stale: [id] });
    expect(await message(id)).toMatchObject({ claimed_by: relayer.id, attempts: 1 });
    const current = { id, claimed_at: second?.claimed_at ?? "" };
    expect(await settle(relayer.id, [current], { as_of: noon(1_003) })).toMatchObject({ sent: 1, stale: [] });
  });
});

test("without a relayer's number nothing is settled or released, not even what nobody has claimed", async () => {
  const relayer = await register();
  const id = await insert({ available_at: noon(-5_000) });
  await claim(relayer.id, 1, { as_of: noon() });
  await settle(relayer.id, [{ id, outcome: "retry" }], { as_of: noon() });
  const { rows: settled } = await outbox.pool.query(
    "select * from outbox.settle(null, array[$1::bigint], '{1}', '{accepted}', '{202}', '{gw}', '{null}', '{1}', '{null}')",
    [id],
  );
  expect(settled).toMatchObject([{ sent: 0, stale: [id] }]);
  expect(await value("select outbox.release(null, array[$1::bigint])", [id])).toBe(0);
  expect(await message(id)).toMatchObject({ attempts: 1, claimed_by: null });
});
