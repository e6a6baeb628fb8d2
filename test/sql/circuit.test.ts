import { describe, expect, test } from "vitest";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { between, noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { attempts, claim, gateway, insert, insertMany, message, places, register, rows, settle, value } =
  outbox;

const set = (columns: string) => outbox.pool.query(`update outbox.gateways set ${columns}`);
const micros = (time: string) => time.replace("Z", "000Z");
const resume = () => value("select outbox.resume('default')");

/** Claims up to so many at a time, and lets each of them end like this. */
async function round(relayer: number, outcomes: readonly OutcomeKind[], atMs: number): Promise<number[]> {
  const claims = await claim(relayer, outcomes.length, { as_of: noon(atMs) });
  const shown = claims
    .map(({ id, attempt }, i) => ({ id, attempt, outcome: outcomes[i] as OutcomeKind, error: `error ${id}` }))
    .sort((a, b) => a.id - b.id);
  await settle(relayer, shown, { as_of: noon(atMs) });
  return claims.map(({ id }) => id);
}

const many = (outcome: OutcomeKind, count: number): OutcomeKind[] => Array(count).fill(outcome);

/** A gateway whose circuit has just opened, at noon, for two seconds. */
async function opened(): Promise<number> {
  await set("jitter = 0");
  const { id } = await register();
  await insertMany(40, { available_at: noon(-60_000) });
  await round(id, many("retry", 5), 0);
  return id;
}

describe("the circuit opens", () => {
  test("on a run of failures, and says so", async () => {
    await opened();
    expect(await gateway()).toMatchObject({
      circuit: "open",
      circuit_changed_at: micros(noon()),
      circuit_pauses: 1,
      held_until: micros(noon(2_000)),
      hold_reason: "circuit_open",
      hold_detail: expect.stringMatching(/^5 failures in a row; the last: error \d+$/),
    });
  });

  test("on a run that comes one by one, over two relayers, retry and unknown alike", async () => {
    const [one, two] = [(await register()).id, (await register()).id];
    await insertMany(5, { available_at: noon(-60_000) });
    for (let n = 0; n < 4; n++) {
      await round(n % 2 ? one : two, [n % 2 ? "retry" : "unknown"], n);
      expect(await gateway()).toMatchObject({ circuit: "closed", run_of_failures: n + 1 });
    }
    await round(one, ["retry"], 5);
    expect(await gateway()).toMatchObject({ circuit: "open", hold_reason: "circuit_open" });
  });

  test("not on a run that something broke: an answer, whatever it said of the message", async () => {
    const { id } = await register();
    await insertMany(20, { available_at: noon(-60_000) });
    for (const answer of ["accepted", "rejected"] as const) {
      await round(id, many("retry", 4), 0);
      await round(id, [answer], 1);
      expect(await gateway()).toMatchObject({ circuit: "closed", run_of_failures: 0 });
    }
  });

  test("on a share of failures within the window, of at least 20 attempts", async () => {
    const { id } = await register();
    await insertMany(30, { available_at: noon(-60_000) });
    for (let n = 0; n < 9; n++) await round(id, ["accepted", "retry"], n);
    expect(await gateway()).toMatchObject({ circuit: "closed", window_failed: 9, window_passed: 9 });
    await round(id, ["accepted", "retry"], 10);
    expect(await gateway()).toMatchObject({
      circuit: "open",
      hold_detail: expect.stringMatching(/^10 of 20 attempts failed; the last: error \d+$/),
    });
  });

  test("not on a smaller share, nor on failures of an earlier window", async () => {
    await set("circuit_ratio = 0.6");
    const { id } = await register();
    await insertMany(60, { available_at: noon(-60_000) });
    for (let n = 0; n < 15; n++) await round(id, ["accepted", "retry"], n);
    expect(await gateway()).toMatchObject({ circuit: "closed", window_failed: 15 });
    await round(id, ["accepted", "retry"], 30_000);
    expect(await gateway()).toMatchObject({ window_failed: 1, window_passed: 1 });
    await round(id, ["accepted"], 60_001);
    expect(await gateway()).toMatchObject({ window_started_at: null, run_of_failures: 0 });
  });

  test("as configured", async () => {
    await set("circuit_failures = 2, circuit_pause = '7 seconds', jitter = 0");
    const { id } = await register();
    await insertMany(2, { available_at: noon() });
    await round(id, many("unknown", 2), 0);
    expect(await gateway()).toMatchObject({ circuit: "open", held_until: micros(noon(7_000)) });
  });

  test("for one gateway: another's messages, of the same batch too, go on", async () => {
    await outbox.addGateway("other");
    const { id: relayer } = await register();
    const [mine] = [await insert({ gateway: "other", available_at: noon() })];
    await insertMany(5, { available_at: noon() });
    const claims = [
      ...(await claim(relayer, 10, { as_of: noon() })),
      ...(await claim(relayer, 10, { as_of: noon(), gateway: "other" })),
    ];
    const shown = claims.map(({ id, attempt }) => ({ id, attempt, outcome: "retry" as const }));
    const { held } = await settle(
      relayer,
      shown.sort((a, b) => a.id - b.id),
      { as_of: noon() },
    );
    expect(held).toEqual(["default"]);
    expect(await gateway("other")).toMatchObject({ circuit: "closed", run_of_failures: 1 });
    expect(await message(mine)).toMatchObject({ attempts: 1 });
  });

  test("and the relayers are told at once", async () => {
    const listener = await outbox.session();
    const told: string[] = [];
    const notified = new Promise<void>((resolve) =>
      listener.on("notification", ({ payload = "" }) => {
        told.push(payload);
        if (payload === "hold") resolve();
      }),
    );
    await listener.query("listen outbox");
    await opened();
    await notified;
    expect(told.at(-1)).toBe("hold");
  });

  test("costs no attempt: neither those that opened it, nor those that were under way", async () => {
    await set("jitter = 0");
    const { id: relayer } = await register();
    const ids = await insertMany(8, { available_at: noon(-60_000) });
    const claims = await claim(relayer, 8, { as_of: noon(-100) });
    const shown = claims.map(({ id, attempt }) => ({
      id,
      attempt,
      outcome: "retry" as const,
      error: "down",
    }));
    await settle(relayer, shown.slice(0, 5), { as_of: noon() });
    await settle(relayer, shown.slice(5), { as_of: noon(100) });
    for (const id of ids) {
      expect(await message(id)).toMatchObject({ attempts: 0, claimed_by: null, last_error: "down" });
      expect(await attempts(id)).toMatchObject([{ attempt: 1, outcome: "retry", error: "down" }]);
    }
    expect(await gateway()).toMatchObject({ circuit_changed_at: micros(noon()), window_failed: 5 });
  });
});

describe("while it is open", () => {
  test("nothing is claimed, and next_due says when to look again", async () => {
    const relayer = await opened();
    expect(await claim(relayer, 100, { as_of: noon(1_999) })).toEqual([]);
    expect(await value("select outbox.next_due('default', $1)", [noon(500)])).toBe(1_500);
  });

  test("then a few are a probe, and nobody else claims meanwhile", async () => {
    const [relayer, other] = [await opened(), (await register()).id];
    expect(await claim(relayer, 100, { as_of: noon(2_000) })).toHaveLength(3);
    expect(await gateway()).toMatchObject({
      circuit: "half_open",
      probes: 3,
      held_until: micros(noon(17_000)),
      hold_reason: "circuit_open",
    });
    expect(await claim(other, 100, { as_of: noon(2_001) })).toEqual([]);
  });

  test("two relayers that look at the same time make one probe, and neither waits", async () => {
    const [relayer, other] = [await opened(), (await register()).id];
    const one = await outbox.session();
    await one.query("begin");
    expect(await claim(relayer, 100, { as_of: noon(2_000), on: one })).toHaveLength(3);
    expect(await claim(other, 100, { as_of: noon(2_000) })).toEqual([]);
    await one.query("commit");
    expect(await claim(other, 100, { as_of: noon(2_000) })).toEqual([]);
  });

  test("without anything to send there is no probe, and the next message is one", async () => {
    const relayer = await opened();
    await outbox.pool.query("delete from outbox.messages");
    expect(await claim(relayer, 100, { as_of: noon(3_000) })).toEqual([]);
    expect(await gateway()).toMatchObject({ circuit: "open" });
    const id = await insert({ available_at: noon() });
    expect(await claim(relayer, 100, { as_of: noon(3_001) })).toMatchObject([{ id }]);
    expect(await gateway()).toMatchObject({ circuit: "half_open", probes: 1 });
  });

  test.each([
    [64, 17_000],
    // One after the other, each for as long as the timeout.
    [1, 37_000],
  ])(
    "with a concurrency of %i, a probe that has not ended is made again after its longest time",
    async (concurrency, at) => {
      const relayer = await opened();
      await set(`concurrency = ${concurrency}`);
      await claim(relayer, 100, { as_of: noon(2_000) });
      expect(await claim(relayer, 100, { as_of: noon(at - 1) })).toEqual([]);
      expect(await claim(relayer, 100, { as_of: noon(at) })).toHaveLength(3);
    },
  );

  test("a probe that was given back unsent is made again at once", async () => {
    const relayer = await opened();
    // A release goes by the real clock.
    await outbox.pool.query("update outbox.gateways set held_until = now() - interval '1 second'");
    await outbox.pool.query("update outbox.messages set available_at = now() - interval '1 minute'");
    const [first] = await claim(relayer, 100);
    expect(await claim(relayer, 100)).toEqual([]);
    expect(await value("select outbox.release($1, $2)", [relayer, [first?.id]])).toBe(1);
    expect(await claim(relayer, 100)).toHaveLength(3);
  });

  test("a probe whose relayer dies costs its messages no attempt, and kills none", async () => {
    await set("max_attempts = 1");
    const relayer = await opened();
    const probed = await claim(relayer, 100, { as_of: noon(2_000) });
    expect(probed).toHaveLength(3);
    await outbox.pool.query("update outbox.relayers set heartbeat_at = '2000-01-01'");
    expect(await rows("select rescued from outbox.rescue()")).toEqual([{ rescued: 3 }]);
    for (const { id } of probed) {
      expect(await message(id)).toMatchObject({
        attempts: 0,
        last_error: expect.stringContaining("which died"),
      });
      expect((await attempts(id)).at(-1)).toMatchObject({ outcome: "unknown" });
    }
  });
});

describe("a probe", () => {
  test("that passes closes it, ends the hold, and wakes the relayers", async () => {
    const relayer = await opened();
    const listener = await outbox.session();
    const notified = new Promise<string>((resolve) =>
      listener.on("notification", ({ payload = "" }) => payload === "resume" && resolve(payload)),
    );
    await listener.query("listen outbox");
    await round(relayer, many("accepted", 3), 2_000);
    expect(await gateway()).toMatchObject({
      circuit: "closed",
      circuit_pauses: 0,
      run_of_failures: 0,
      window_started_at: null,
      held_until: null,
      hold_reason: null,
      hold_detail: null,
    });
    await notified;
    expect(await claim(relayer, 100, { as_of: noon(60_000) })).toHaveLength(37);
  });

  test.each([
    [["accepted", "retry", "accepted"], "closed"],
    [["rejected", "rejected", "retry"], "closed"],
    [["accepted", "retry", "unknown"], "open"],
  ] as const)("of %s leaves it %s", async (outcomes, circuit) => {
    const relayer = await opened();
    await round(relayer, outcomes, 2_000);
    expect(await gateway()).toMatchObject({ circuit });
  });

  test("is judged as its results come, one by one", async () => {
    const relayer = await opened();
    const claims = await claim(relayer, 3, { as_of: noon(2_000) });
    const [one, two] = claims.map(({ id, attempt }) => ({ id, attempt, outcome: "accepted" as const }));
    await settle(relayer, [one as never], { as_of: noon(2_001) });
    expect(await gateway()).toMatchObject({ circuit: "half_open", window_passed: 1 });
    await settle(relayer, [two as never], { as_of: noon(2_002) });
    expect(await gateway()).toMatchObject({ circuit: "closed" });
  });

  test("that fails costs its messages no attempt, and the pause doubles up to circuit_max_pause, with jitter", async () => {
    const relayer = await opened();
    await set("circuit_max_pause = '10 seconds'");
    let at = 2_000;
    for (const pause of [4_000, 8_000, 10_000, 10_000]) {
      const probed = await round(relayer, many("retry", 3), at);
      expect(probed).toHaveLength(3);
      for (const id of probed) expect((await message(id)).attempts).toBe(0);
      const { held_until, hold_detail } = await gateway();
      expect(held_until).toBe(micros(noon(at + pause)));
      expect(hold_detail).toMatch(/^3 of 3 probes failed; the last: error/);
      at += pause;
    }
    await set("jitter = 0.2");
    await round(relayer, many("retry", 3), at);
    const { held_until } = await gateway();
    const pause = between(noon(at), held_until);
    expect(pause).toBeGreaterThanOrEqual(8_000);
    expect(pause).toBeLessThanOrEqual(10_000);
  });

  test("is not what was claimed before it: late results say nothing of the gateway, yet are recorded", async () => {
    await set("jitter = 0");
    const { id: relayer } = await register();
    const [late] = await insertMany(9, { available_at: noon(-60_000) });
    const claims = await claim(relayer, 6, { as_of: noon(-100) });
    const shown = claims.map(({ id, attempt }) => ({ id, attempt, outcome: "retry" as const }));
    await settle(relayer, shown.slice(1), { as_of: noon() });
    await claim(relayer, 3, { as_of: noon(2_000) });
    expect(await gateway()).toMatchObject({ circuit: "half_open" });
    await settle(relayer, [{ id: late as number, outcome: "accepted" }], { as_of: noon(2_100) });
    expect(await gateway()).toMatchObject({ circuit: "half_open", window_passed: 0, window_failed: 0 });
    expect(await places(late as number)).toEqual(["sent"]);
  });

  test("that is throttled shows a gateway that answers, which is then left alone as it asks", async () => {
    const relayer = await opened();
    const claims = await claim(relayer, 3, { as_of: noon(2_000) });
    const shown = claims.map(({ id, attempt }) => ({
      id,
      attempt,
      outcome: "throttled" as const,
      retry_after_ms: 9_000,
      error: "slow down",
    }));
    await settle(
      relayer,
      shown.sort((a, b) => a.id - b.id),
      { as_of: noon(2_000) },
    );
    expect(await gateway()).toMatchObject({
      circuit: "closed",
      held_until: micros(noon(11_000)),
      hold_reason: "throttled",
    });
  });
});

describe("a gateway whose account or URL is at fault", () => {
  async function held(): Promise<number> {
    const { id } = await register();
    await insertMany(10, { available_at: noon(-60_000) });
    await round(id, ["hold"], 0);
    return id;
  }

  test("is left alone for hold_for, then probed; a probe that passes ends it", async () => {
    const relayer = await held();
    expect(await gateway()).toMatchObject({
      circuit: "open",
      hold_reason: "hold",
      held_until: micros(noon(300_000)),
    });
    expect(await claim(relayer, 100, { as_of: noon(299_999) })).toEqual([]);
    await round(relayer, many("accepted", 3), 300_000);
    expect(await gateway()).toMatchObject({ circuit: "closed", hold_reason: null });
  });

  test("is held again, as long, by a probe that finds the same", async () => {
    const relayer = await held();
    const probed = await round(relayer, many("hold", 3), 300_000);
    expect(await gateway()).toMatchObject({
      circuit: "open",
      hold_reason: "hold",
      hold_detail: expect.stringMatching(/^error/),
      held_until: micros(noon(600_000)),
      circuit_pauses: 0,
    });
    for (const id of probed) expect(await message(id)).toMatchObject({ attempts: 0 });
  });

  test("is judged by most of the probe: one that finds fault does not outweigh two that pass", async () => {
    const relayer = await held();
    await round(relayer, ["accepted", "hold", "accepted"], 300_000);
    expect(await gateway()).toMatchObject({
      circuit: "closed",
      held_until: null,
      proved_at: micros(noon(300_000)),
    });
  });

  test("was not, if one message finds the same again after others passed: it is at fault, and dies as others do", async () => {
    await set("jitter = 0, max_attempts = 2");
    const { id: relayer } = await register();
    const bad = await insert({ available_at: noon(-90_000) });
    await insertMany(9, { available_at: noon(-60_000) });
    await round(relayer, ["hold"], 0);
    // It is behind the others now, so the probe is three of them.
    expect(await round(relayer, many("accepted", 3), 300_000)).not.toContain(bad);
    await round(relayer, many("accepted", 6), 300_001);
    for (const [attempt, at] of [
      [1, 300_010],
      [2, 302_000],
    ] as const) {
      expect(await claim(relayer, 10, { as_of: noon(at) })).toMatchObject([{ id: bad, attempt }]);
      const { held } = await settle(relayer, [{ id: bad, attempt, outcome: "hold", error: "HTTP 403" }], {
        as_of: noon(at),
      });
      expect(held).toEqual([]);
      expect(await gateway()).toMatchObject({ circuit: "closed", held_until: null });
    }
    expect(await outbox.dead(bad)).toMatchObject({ reason: "exhausted", attempts: 2, error: "HTTP 403" });
  });

  test("is again, if a person resumes too early: nobody passed, so no message is at fault", async () => {
    const { id: relayer } = await register();
    const id = await insert();
    for (let n = 0; n < 8; n++) {
      const [claimed] = await claim(relayer, 1);
      expect(claimed).toMatchObject({ id, attempt: 1 });
      expect((await settle(relayer, [{ id, outcome: "hold" }])).held).toEqual(["default"]);
      await resume();
    }
  });

  test("that a person mended is not held again by what was sent before", async () => {
    const { id: relayer } = await register();
    const [one, two] = (await insertMany(2)) as [number, number];
    await claim(relayer, 2);
    await settle(relayer, [{ id: one, outcome: "hold" }]);
    expect(await resume()).toBe(true);
    await settle(relayer, [{ id: two, outcome: "hold" }]);
    expect(await gateway()).toMatchObject({ circuit: "closed", held_until: null });
    expect(await message(two)).toMatchObject({ attempts: 0, claimed_by: null });
  });
});

test("a hold that a DBA ends by hand gives way to a probe", async () => {
  const relayer = await opened();
  await set("held_until = null, hold_reason = null, hold_detail = null");
  expect(await claim(relayer, 100, { as_of: noon(100) })).toHaveLength(3);
  expect(await gateway()).toMatchObject({ circuit: "half_open", hold_reason: "circuit_open" });
});

test("a longer Retry-After outlasts a circuit that opens, and one that closes", async () => {
  await set("jitter = 0");
  const { id: relayer } = await register();
  await insertMany(10, { available_at: noon(-60_000) });
  const claims = await claim(relayer, 6, { as_of: noon(-100) });
  const shown = claims.map(({ id, attempt }, i) => ({
    id,
    attempt,
    outcome: i === 0 ? ("throttled" as const) : ("retry" as const),
    retry_after_ms: i === 0 ? 3_600_000 : null,
    error: "x",
  }));
  const hour = { held_until: micros(noon(3_600_000)), hold_reason: "throttled" };
  await settle(relayer, shown.slice(0, 1), { as_of: noon() });
  await settle(relayer, shown.slice(1), { as_of: noon() });
  expect(await gateway()).toMatchObject({ circuit: "open", ...hour });
  await set(`circuit = 'half_open', probes = 1, circuit_changed_at = '${noon(1)}'`);
  await outbox.pool.query("update outbox.messages set available_at = $1", [noon(-60_000)]);
  await outbox.pool.query(
    "update outbox.messages set claimed_by = $1, claimed_at = $2, attempts = 1 where id = $3",
    [relayer, noon(1), claims[0]?.id],
  );
  await settle(relayer, [{ id: claims[0]?.id as number }], { as_of: noon(2) });
  expect(await gateway()).toMatchObject({ circuit: "closed", ...hour });
});

test("what a relayer cut short says nothing of the gateway; what never left costs no attempt", async () => {
  const { id: relayer } = await register();
  const ids = await insertMany(20, { available_at: noon(-60_000) });
  await claim(relayer, 20, { as_of: noon(-100) });
  const shown = ids.map((id, i) => ({ id, outcome: i % 2 ? ("unknown" as const) : ("retry" as const) }));
  await settle(relayer, shown, { as_of: noon(), moot: ids });
  expect(await gateway()).toMatchObject({ circuit: "closed", run_of_failures: 0, window_started_at: null });
  expect(await rows("select attempts from outbox.messages order by id")).toEqual(
    ids.map((_, i) => ({ attempts: i % 2 })),
  );
});

test("a clock that was ahead keeps nobody from opening the circuit", async () => {
  await set(`circuit_changed_at = '${noon(3_600_000)}'`);
  const { id } = await register();
  await insertMany(5, { available_at: noon(-60_000) });
  await round(id, many("retry", 5), 0);
  expect(await gateway()).toMatchObject({ circuit: "open", circuit_changed_at: micros(noon()) });
});

test("a DBA who has the gateway's row open keeps no result from being recorded, and no claim waiting", async () => {
  const relayer = await opened();
  const claims = await claim(relayer, 3, { as_of: noon(2_000) });
  const dba = await outbox.session();
  await dba.query("begin; update outbox.gateways set max_attempts = 9");
  const shown = claims.map(({ id, attempt }) => ({ id, attempt }));
  expect(
    await settle(
      relayer,
      shown.sort((a, b) => a.id - b.id),
      { as_of: noon(2_100) },
    ),
  ).toMatchObject({ sent: 3 });
  expect(await claim(relayer, 3, { as_of: noon(60_000) })).toEqual([]);
  await dba.query("commit");
  expect(await gateway()).toMatchObject({ circuit: "half_open", max_attempts: 9 });
  // The probe that nobody judged is made again.
  await round(relayer, many("accepted", 3), 60_000);
  expect(await gateway()).toMatchObject({ circuit: "closed" });
});

test("resume closes the circuit, and forgets the failures that opened it", async () => {
  await opened();
  expect(await resume()).toBe(true);
  expect(await gateway()).toMatchObject({
    circuit: "closed",
    held_until: null,
    hold_reason: null,
    run_of_failures: 0,
    circuit_pauses: 0,
  });
  expect(await resume()).toBe(false);
});

test("a gateway that passes writes nothing for it", async () => {
  const { id } = await register();
  await insertMany(3, { available_at: noon() });
  const version = () => value("select xmin::text from outbox.gateways");
  const before = await version();
  await round(id, ["accepted", "rejected", "accepted"], 0);
  expect(await version()).toBe(before);
});

test("two settles of one gateway at once take turns, and both count", async () => {
  const { id: relayer } = await register();
  const [one, two] = (await insertMany(2, { available_at: noon() })) as [number, number];
  await claim(relayer, 2, { as_of: noon() });
  const [first, second] = [await outbox.session(), await outbox.session()];
  await first.query("begin");
  await settle(relayer, [{ id: one, outcome: "retry" }], { as_of: noon(), on: first });
  const other = settle(relayer, [{ id: two, outcome: "retry" }], { as_of: noon(), on: second });
  await outbox.blocked(second);
  await first.query("commit");
  await other;
  expect(await gateway()).toMatchObject({ run_of_failures: 2, window_failed: 2 });
});
