import type pg from "pg";
import { beforeEach, describe, expect, test } from "vitest";
import { failure, noon, type On, type Row, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { insert, places, row, rows, value } = outbox;

interface Asked {
  readonly matched: number;
  readonly replayable: number;
  readonly sample: Row[];
  readonly replay_id: number | null;
  readonly replayed: number | null;
}

interface Slice {
  readonly wait_ms: number | null;
  readonly status: string;
  readonly replayed: number;
  readonly skipped: number;
}

/** Later than all that dies here. */
const LATER = noon(3_600_000);

async function where(named: Row = {}, on: On = outbox.pool): Promise<Asked> {
  const all: Row = { as_of: LATER, ...named };
  const args = Object.keys(all).map((name, i) => `${name} => $${i + 1}`);
  return (await row(
    `select * from outbox.replay_where(${args.join(", ")})`,
    Object.values(all),
    on,
  )) as Asked;
}

const slice = async (id: number | null, batch = 1_000, on: On = outbox.pool): Promise<Slice> =>
  (await row("select * from outbox.replay_slice($1, $2, $3)", [id, batch, LATER], on)) as Slice;

/** All of its slices, with a gateway that takes everything at once. */
async function slices(id: number | null, batch: number): Promise<Slice[]> {
  const done: Slice[] = [];
  for (;;) {
    const one = await slice(id, batch);
    done.push(one);
    await outbox.pool.query("update outbox.messages set available_at = $1", [noon(7_200_000)]);
    if (one.wait_ms !== 0) return done;
  }
}

const replays = () => rows("select * from outbox.replays order by id");
const waiting = async () => (await rows("select id from outbox.messages order by id")).map(({ id }) => id);

/** Dead letters that died one millisecond after another from noon on, with what is named. */
async function bury(count: number, columns: Row = {}, startMs = 0): Promise<number[]> {
  const all: Row = { reason: "exhausted", gateway: "default", error: "HTTP 503", ...columns };
  const names = Object.keys(all);
  const buried = await rows(
    `insert into outbox.dead_letters (
       id, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, ${names.join(", ")}
     )
     select
       nextval('outbox.messages_id_seq'), 1, '+905551234567', 'hi', '{}', $3::timestamptz, 5, $3::timestamptz,
       $3::timestamptz + ($2::int + n) * interval '1 millisecond', ${names.map((_, i) => `$${i + 4}`).join(", ")}
     from generate_series(0, $1::int - 1) as n
     returning id`,
    [count, startMs, noon(), ...Object.values(all)],
  );
  return buried.map(({ id }) => id);
}

/** A running replay of all that is there, of which nothing was done yet. */
async function running(columns: Row = {}): Promise<number> {
  const all: Row = { actor: "ayşe", until: LATER, matched: 0, ...columns };
  const names = Object.keys(all);
  return await value(
    `insert into outbox.replays (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")}) returning id`,
    Object.values(all),
  );
}

describe("replay_where, as long as nobody says dry_run => false", () => {
  test("only looks", async () => {
    const ids = await bury(3);
    for (const dry of [{}, { dry_run: true }, { dry_run: null }])
      expect(await where(dry)).toMatchObject({ matched: 3, replayable: 3, replay_id: null, replayed: null });
    expect(await waiting()).toEqual([]);
    for (const id of ids) expect(await places(id)).toEqual(["dead_letters"]);
    expect(await replays()).toEqual([]);
    expect(await rows("select from outbox.audit")).toEqual([]);
  });

  test("shows the first ten, each with what is in its way", async () => {
    const [id] = await bury(1, { reason: "unknown_outcome", error: "reset" });
    const others = await bury(20, {}, 1);
    const { sample } = await where();
    expect(sample).toHaveLength(10);
    expect(sample.map((one) => one.id)).toEqual([id, ...others.slice(0, 9)]);
    expect(sample[0]).toEqual({
      id,
      died_at: expect.any(String),
      gateway: "default",
      reason: "unknown_outcome",
      error: "reset",
      obstacle: "needs_force",
    });
    expect(sample[1]).toMatchObject({ reason: "exhausted", error: "HTTP 503", obstacle: null });
  });

  test("tells what can go back from what cannot", async () => {
    await outbox.addGateway("gone");
    const owner = await insert({ dedupe_key: "taken" });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = $1", [noon(7_200_000)]);
    await bury(1);
    await bury(2, { reason: "unknown_outcome" });
    await bury(3, { reason: "expired", expires_at: noon() });
    await bury(4, { gateway: "gone" });
    await bury(1, { dedupe_key: "taken" });
    await bury(2, { dedupe_key: "free" });
    await outbox.pool.query("delete from outbox.gateways where name = 'gone'");
    expect(await where()).toMatchObject({ matched: 13, replayable: 2 });
    expect(await where({ force: true })).toMatchObject({ matched: 13, replayable: 4 });
    expect(await where({ expires_at: "infinity" })).toMatchObject({ matched: 13, replayable: 5 });
    expect(await where({ max_messages: 1 })).toMatchObject({ matched: 13, replayable: 1 });
    expect(await waiting()).toEqual([owner]);
  });

  test("that matches nothing says so", async () => {
    expect(await where()).toEqual({ matched: 0, replayable: 0, sample: [], replay_id: null, replayed: null });
  });
});

describe("a filter", () => {
  let rejected: number[];
  let exhausted: number[];
  let other: number[];
  beforeEach(async () => {
    await outbox.addGateway("other");
    rejected = await bury(2, { reason: "rejected", error: "HTTP 400: Blocked recipient" });
    exhausted = await bury(2, {}, 10);
    other = await bury(2, { gateway: "other", error: null }, 20);
  });

  test.each([
    ["none", {}, () => [...rejected, ...exhausted, ...other]],
    ["reason", { reason: "rejected" }, () => rejected],
    ["gateway", { gateway: "other" }, () => other],
    ["since, which is included", { since: noon(10) }, () => [...exhausted, ...other]],
    ["until, which is not", { until: noon(10) }, () => rejected],
    ["error_like, whatever its case", { error_like: "%blocked%" }, () => rejected],
    ["several", { reason: "exhausted", since: noon(11), until: noon(21) }, () => [exhausted[1], other[0]]],
    ["max_messages: the oldest", { max_messages: 3 }, () => [...rejected, exhausted[0]]],
  ] as const)("by %s", async (_, filter, expected) => {
    expect(await where({ ...filter, dry_run: false })).toMatchObject({ replayed: expected().length });
    expect(await waiting()).toEqual(expected());
  });

  test("of an unknown gateway is refused, and of a reason that is none", async () => {
    expect(await refusal(where({ gateway: "nope" }))).toBe("OB001 unknown_gateway");
    expect(await refusal(where({ reason: "nope" }))).toBe("23514 not_a_dead_reason");
    expect(await refusal(where({ max_messages: 0 }))).toBe("23514 max_messages_not_positive");
    expect(await refusal(where({ expires_at: noon() }))).toBe("23514 expires_at_in_the_past");
    expect(await replays()).toEqual([]);
  });

  test("of a time to come is cut to now: what dies again is not replayed again", async () => {
    await where({ until: noon(7_200_000), dry_run: false });
    expect((await replays())[0]).toMatchObject({ until: LATER.replace("Z", "000Z") });
  });
});

describe("replay_where(dry_run => false)", () => {
  test("of a few is done when it returns, and on record", async () => {
    const ids = await bury(3, { error: "HTTP 400 for +905551234567" });
    const skipped = await bury(2, { reason: "unknown_outcome" });
    const asked = await where({
      dry_run: false,
      actor: "ayşe",
      error_like: "%+905551234567%",
      reason: "exhausted",
    });
    expect(asked).toMatchObject({ matched: 3, replayable: 3, replayed: 3 });
    expect(await waiting()).toEqual(ids);
    expect(await replays()).toEqual([
      {
        id: asked.replay_id,
        status: "done",
        actor: "ayşe",
        reason: "exhausted",
        gateway: null,
        since: null,
        until: LATER.replace("Z", "000Z"),
        error_like: "%+905551234567%",
        max_messages: null,
        expires_at: null,
        force: false,
        matched: 3,
        replayed: 3,
        skipped: 0,
        reached_at: noon(2).replace("Z", "000Z"),
        reached_id: ids[2],
        created_at: expect.any(String),
        finished_at: LATER.replace("Z", "000Z"),
      },
    ]);
    const audit = await rows("select actor, action, target, affected, details from outbox.audit");
    expect(audit).toEqual([
      {
        actor: "ayşe",
        action: "replay_where",
        target: null,
        affected: 3,
        details: {
          replay: asked.replay_id,
          reason: "exhausted",
          until: expect.any(String),
          force: false,
          matched: 3,
        },
      },
    ]);
    // The pattern may hold a recipient.
    expect(JSON.stringify(audit)).not.toContain("905551234567");
    expect(await where({ dry_run: false })).toMatchObject({ matched: 2, replayable: 0, replayed: 0 });
    for (const id of skipped) expect(await places(id)).toEqual(["dead_letters"]);
    expect((await replays())[1]).toMatchObject({ status: "done", skipped: 2 });
  });

  test("puts each back as it was, with all its attempts and its key", async () => {
    const columns = {
      reason: "rejected",
      metadata: { order: 7 },
      dedupe_key: "k",
      traceparent: "00-ab",
      last_error: "HTTP 400",
      revision: 2,
      expires_at: noon(7_200_000).replace("Z", "000Z"),
    };
    const { metadata, ...rest } = columns;
    const [id = 0] = await bury(1, rest);
    await outbox.pool.query("update outbox.dead_letters set metadata = $1, priority = 0", [metadata]);
    await where({ dry_run: false });
    const { reason, ...kept } = columns;
    expect(await outbox.message(id)).toEqual({
      id,
      gateway: "default",
      priority: 0,
      recipient: "+905551234567",
      content: "hi",
      ...kept,
      available_at: LATER.replace("Z", "000Z"),
      attempts: 0,
      claimed_by: null,
      claimed_at: null,
      created_at: noon().replace("Z", "000Z"),
    });
    expect(await refusal(insert({ dedupe_key: "k" }))).toBe("23505 dedupe_key_seen_before");
  });

  test("gives the new end to all, or takes the end from all", async () => {
    await bury(1, { expires_at: noon() });
    await bury(1);
    const end = noon(7_200_000);
    expect(await where({ expires_at: end, dry_run: false })).toMatchObject({ replayed: 2 });
    expect(await rows("select distinct expires_at from outbox.messages")).toEqual([
      { expires_at: end.replace("Z", "000Z") },
    ]);
    await outbox.pool.query("delete from outbox.messages");
    await bury(1, { expires_at: noon() });
    await where({ expires_at: "infinity", dry_run: false });
    expect(await rows("select expires_at from outbox.messages")).toEqual([{ expires_at: null }]);
  });

  test("with force takes those of unknown outcome too", async () => {
    const ids = await bury(2, { reason: "unknown_outcome" });
    await where({ force: true, dry_run: false });
    expect(await waiting()).toEqual(ids);
  });

  test("of many does a thousand, and leaves the rest to slices", async () => {
    await bury(2_500);
    const asked = await where({ dry_run: false });
    expect(asked).toMatchObject({ matched: 2_500, replayable: 2_500, replayed: 1_000 });
    await outbox.pool.query("delete from outbox.messages");
    expect(await slice(asked.replay_id)).toEqual({
      wait_ms: 0,
      status: "running",
      replayed: 2_000,
      skipped: 0,
    });
    await outbox.pool.query("delete from outbox.messages");
    expect(await slice(asked.replay_id)).toEqual({
      wait_ms: null,
      status: "done",
      replayed: 2_500,
      skipped: 0,
    });
    expect(await slice(asked.replay_id)).toMatchObject({ wait_ms: null, status: "done" });
  });

  test("that is rolled back never was", async () => {
    await bury(2);
    const person = await outbox.session();
    await person.query("begin");
    await where({ dry_run: false }, person);
    await person.query("rollback");
    expect(await waiting()).toEqual([]);
    expect(await replays()).toEqual([]);
  });
});

describe("a slice", () => {
  test("goes on where the last one ended, the oldest first", async () => {
    const ids = await bury(7);
    const id = await running();
    expect(await slice(id, 3)).toEqual({ wait_ms: 0, status: "running", replayed: 3, skipped: 0 });
    expect(await waiting()).toEqual(ids.slice(0, 3));
    expect((await slices(id, 3)).at(-1)).toEqual({ wait_ms: null, status: "done", replayed: 7, skipped: 0 });
    expect(await waiting()).toEqual(ids);
  });

  test("finds its way through many that died at one time", async () => {
    const ids = await bury(10);
    await outbox.pool.query("update outbox.dead_letters set died_at = $1", [noon()]);
    const id = await running();
    expect(await slices(id, 9)).toHaveLength(2);
    expect(await waiting()).toEqual(ids);
  });

  test("leaves what cannot go, counts it, and is not held up by it", async () => {
    await outbox.addGateway("gone");
    await insert({ dedupe_key: "taken" });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = $1", [noon(7_200_000)]);
    const stuck = [
      ...(await bury(2, { reason: "unknown_outcome" })),
      ...(await bury(2, { expires_at: noon() }, 2)),
      ...(await bury(2, { gateway: "gone" }, 4)),
      ...(await bury(1, { dedupe_key: "taken" }, 6)),
    ];
    const free = await bury(3, {}, 7);
    await outbox.pool.query("delete from outbox.messages; delete from outbox.gateways where name = 'gone'");
    const id = await running();
    expect((await slices(id, 2)).at(-1)).toEqual({ wait_ms: null, status: "done", replayed: 3, skipped: 7 });
    expect(await waiting()).toEqual(free);
    for (const one of stuck) expect(await places(one)).toEqual(["dead_letters"]);
  });

  test("takes the first of two that died with one key", async () => {
    const ids = await bury(3, { dedupe_key: "k" });
    expect(await slice(await running())).toMatchObject({ status: "done", replayed: 1, skipped: 2 });
    expect(await waiting()).toEqual([ids[0]]);
    expect(await slice(await running())).toMatchObject({ status: "done", replayed: 0, skipped: 2 });
  });

  test("takes, of two with one key, the one whose key it is", async () => {
    const [, second] = await bury(2, { dedupe_key: "k" });
    await outbox.pool.query("insert into outbox.dedupe_keys values ('k', $1, $2)", [second, noon(7_200_000)]);
    await slice(await running());
    expect(await waiting()).toEqual([second]);
  });

  test("puts back all but the one that the outbox refuses", async () => {
    const ids = await bury(20);
    await outbox.pool.query(`
      create function public.poison() returns trigger language plpgsql as $$
        begin if new.id = ${ids[7]} then raise 'no room for %', new.id; end if; return new; end $$;
      create trigger poison before insert on outbox.messages for each row execute function public.poison()`);
    try {
      expect(await slice(await running())).toEqual({
        wait_ms: null,
        status: "done",
        replayed: 19,
        skipped: 1,
      });
    } finally {
      await outbox.pool.query("drop trigger poison on outbox.messages; drop function public.poison()");
    }
    expect(await places(ids[7] as number)).toEqual(["dead_letters"]);
    expect(await waiting()).toEqual(ids.filter((id) => id !== ids[7]));
  });

  test("leaves the one whose key is taken while it waits for it", async () => {
    const [producer, worker] = [await outbox.session(), await outbox.session()];
    const [keyed, free] = [...(await bury(1, { dedupe_key: "k" })), ...(await bury(1, {}, 1))];
    await producer.query("begin");
    const owner = await insert({ dedupe_key: "k" }, producer);
    const sliced = slice(await running(), 1_000, worker);
    await outbox.blocked(worker);
    await producer.query("commit");
    expect(await sliced).toMatchObject({ status: "done", replayed: 1, skipped: 1 });
    expect(await waiting()).toEqual([free, owner].sort((a, b) => Number(a) - Number(b)));
    expect(await places(keyed as number)).toEqual(["dead_letters"]);
  });

  test("waits for a key no longer than 2 s, and then comes back to it", async () => {
    const [producer, worker] = [await outbox.session(), await outbox.session()];
    const ids = await bury(2, { dedupe_key: "k" });
    const id = await running();
    await producer.query("begin");
    await insert({ dedupe_key: "k" }, producer);
    expect(await slice(id, 1_000, worker)).toEqual({
      wait_ms: 1_000,
      status: "running",
      replayed: 0,
      skipped: 0,
    });
    await producer.query("rollback");
    expect(await slice(id)).toMatchObject({ status: "done", replayed: 1, skipped: 1 });
    expect(await waiting()).toEqual([ids[0]]);
  });

  test("leaves what somebody is changing, and does not wait for them", async () => {
    const [first = 0, second] = await bury(2);
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select outbox.edit($1, content => 'another')", [first]);
    expect(await slice(await running())).toMatchObject({ status: "done", replayed: 1, skipped: 1 });
    expect(await waiting()).toEqual([second]);
    await person.query("commit");
    expect(await places(first)).toEqual(["dead_letters"]);
  });

  test("that is rolled back, as by a crash, is done again", async () => {
    const ids = await bury(4);
    const id = await running();
    const worker = await outbox.session();
    await worker.query("begin");
    expect(await slice(id, 3, worker)).toMatchObject({ replayed: 3 });
    await worker.query("rollback");
    expect((await slices(id, 3)).at(-1)).toMatchObject({ status: "done", replayed: 4, skipped: 0 });
    expect(await waiting()).toEqual(ids);
  });

  test("by two at once is done by one of them, and nobody waits", async () => {
    await bury(4);
    const id = await running();
    const worker = await outbox.session();
    await worker.query("begin");
    expect(await slice(id, 2, worker)).toMatchObject({ wait_ms: 0, replayed: 2 });
    expect(await slice(id, 2)).toEqual({ wait_ms: 500, status: "running", replayed: 0, skipped: 0 });
    await worker.query("commit");
    expect(await slice(id, 3)).toMatchObject({ status: "done", replayed: 4 });
  });

  test("by a crowd of workers, and two replays of the same: each message goes back once", async () => {
    const ids = await bury(300);
    // Not due when they are back: nobody has to wait for a gateway.
    await outbox.pool.query("update outbox.dead_letters set available_at = $1", [noon(7_200_000)]);
    const asked = [await running(), await running()];
    await Promise.all(
      Array.from({ length: 6 }, async (_, i) => {
        const worker = await outbox.session();
        for (;;) if ((await slice(asked[i % 2] as number, 30, worker)).wait_ms === null) return;
      }),
    );
    const [one, two] = await replays();
    expect(one?.replayed + two?.replayed).toBe(await value("select count(*)::int from outbox.messages"));
    expect([one?.replayed + one?.skipped, two?.replayed + two?.skipped].every((n) => n <= 300)).toBe(true);
    expect([one?.status, two?.status]).toEqual(["done", "done"]);
    for (const id of ids) expect(await places(id)).toHaveLength(1);
  });

  test("of a message that was replayed and died again does not take it a second time", async () => {
    const [first = 0] = await bury(2);
    const id = await running({ until: noon(1_000) });
    await slice(id, 1);
    await outbox.pool.query("select outbox.bury(array[$1::bigint], '{exhausted}', '{503}', '{no}', $2)", [
      first,
      noon(2_000),
    ]);
    expect(await slice(id, 10)).toMatchObject({ status: "done", replayed: 2 });
    expect(await places(first)).toEqual(["dead_letters"]);
  });

  test("ends at max_messages, not counting what it leaves", async () => {
    await bury(2, { reason: "unknown_outcome" });
    const ids = await bury(5, {}, 10);
    const id = await running({ max_messages: 3 });
    expect((await slices(id, 2)).at(-1)).toEqual({ wait_ms: null, status: "done", replayed: 3, skipped: 2 });
    expect(await waiting()).toEqual(ids.slice(0, 3));
  });

  test("of a replay whose new end has passed meanwhile replays nothing", async () => {
    await bury(2);
    expect(await slice(await running({ expires_at: noon(1_000) }))).toMatchObject({
      status: "done",
      replayed: 0,
      skipped: 2,
    });
  });

  test("of a replay that there is not is refused", async () => {
    expect(await failure(slice(404))).toMatchObject({ code: "OB008", message: "there is no replay 404" });
  });
});

describe("pacing: a slice", () => {
  const due = (many: number, columns: Row = {}) =>
    outbox.pool.query(
      `insert into outbox.messages (recipient, content, gateway, available_at, priority)
       select '+905551234567', 'hi', $2, $3, n % 3 from generate_series(1, $1) as n`,
      [many, columns.gateway ?? "default", columns.available_at ?? noon()],
    );

  test("adds nothing while more than batch_size are due, and then goes on", async () => {
    await bury(5);
    await due(11);
    const id = await running();
    expect(await slice(id, 10)).toEqual({ wait_ms: 500, status: "running", replayed: 0, skipped: 0 });
    await outbox.pool.query("delete from outbox.messages where id = (select max(id) from outbox.messages)");
    expect(await slice(id, 10)).toMatchObject({ status: "done", replayed: 5 });
  });

  test("does not count what is scheduled, in flight or for another gateway", async () => {
    await outbox.addGateway("other");
    await due(20, { gateway: "other" });
    await due(20, { available_at: noon(7_200_000) });
    await due(20);
    await outbox.pool.query(
      "update outbox.messages set claimed_by = 1, claimed_at = now(), attempts = 1 where gateway = 'default' and available_at = $1",
      [noon()],
    );
    await bury(5);
    expect(await slice(await running(), 10)).toMatchObject({ status: "done", replayed: 5 });
  });

  test("takes what the gateway takes in a second, and waits while that is due", async () => {
    await outbox.pool.query("update outbox.gateways set rate_per_second = 2.5");
    await bury(10);
    const id = await running();
    expect(await slice(id)).toMatchObject({ wait_ms: 0, replayed: 3 });
    expect(await slice(id)).toMatchObject({ wait_ms: 0, replayed: 6 });
    expect(await slice(id)).toMatchObject({ wait_ms: 500, replayed: 6 });
    await outbox.pool.query("delete from outbox.messages");
    expect(await slice(id)).toMatchObject({ wait_ms: 0, replayed: 9 });
  });

  test("for several gateways stops in order at the first that has no room, and skips on the way", async () => {
    await outbox.addGateway("slow", { rate_per_second: 1 });
    const [a] = await bury(1);
    const [b] = await bury(1, { gateway: "slow" }, 1);
    await bury(1, { reason: "unknown_outcome", gateway: "slow" }, 2);
    const [c] = await bury(1, {}, 3);
    const [d] = await bury(1, { gateway: "slow" }, 4);
    const [e] = await bury(1, {}, 5);
    const id = await running();
    expect(await slice(id)).toEqual({ wait_ms: 0, status: "running", replayed: 3, skipped: 1 });
    expect(await waiting()).toEqual([a, b, c]);
    expect(await slice(id)).toMatchObject({ status: "done", replayed: 5 });
    expect(await waiting()).toEqual([a, b, c, d, e]);
  });

  test("passes what it leaves without waiting for anybody", async () => {
    await due(50);
    await bury(30, { reason: "unknown_outcome" });
    expect((await slices(await running(), 10)).at(-1)).toMatchObject({ status: "done", skipped: 30 });
  });
});

describe("cancel_replay", () => {
  const cancel = (id: number, on: On = outbox.pool) =>
    value("select outbox.cancel_replay($1, 'ali')", [id], on);

  test("ends it where it is; what went back stays", async () => {
    const ids = await bury(5);
    const id = await running();
    await slice(id, 2);
    await cancel(id);
    expect((await replays())[0]).toMatchObject({
      status: "cancelled",
      replayed: 2,
      finished_at: expect.any(String),
    });
    expect(await slice(id, 2)).toEqual({ wait_ms: null, status: "cancelled", replayed: 2, skipped: 0 });
    expect(await waiting()).toEqual(ids.slice(0, 2));
    expect(await rows("select actor, action, target, affected, details from outbox.audit")).toEqual([
      {
        actor: "ali",
        action: "cancel_replay",
        target: null,
        affected: 1,
        details: { replay: id, replayed: 2, skipped: 0 },
      },
    ]);
  });

  test("is refused where there is none, or it is not running", async () => {
    const id = await running();
    await slice(id);
    expect(await failure(cancel(id))).toMatchObject({
      code: "OB008",
      message: expect.stringMatching(new RegExp(`^replay ${id} is done since 20`)),
    });
    expect(await failure(cancel(404))).toMatchObject({ code: "OB008", message: "there is no replay 404" });
    expect(await rows("select from outbox.audit")).toEqual([]);
  });

  test("waits for the slice under way, which counts", async () => {
    await bury(5);
    const id = await running();
    const [worker, person] = [await outbox.session(), await outbox.session()];
    await worker.query("begin");
    await slice(id, 2, worker);
    const cancelled = cancel(id, person);
    await outbox.blocked(person);
    await worker.query("commit");
    await cancelled;
    expect((await replays())[0]).toMatchObject({ status: "cancelled", replayed: 2 });
  });
});

describe("the jobs", () => {
  const jobs = () =>
    rows(
      `select tasks.identifier as task, jobs.payload, jobs.key, jobs.run_at
       from outbox_worker._private_jobs as jobs
       join outbox_worker._private_tasks as tasks on tasks.id = jobs.task_id
       order by jobs.key`,
    );
  const run_at = async () => Date.parse((await jobs())[0]?.run_at);

  beforeEach(async () => {
    await outbox.pool.query("delete from outbox_worker._private_jobs");
  });

  test("are none before Graphile Worker has its schema", async () => {
    await running();
    await bury(1_001);
    const session = await outbox.session();
    await session.query("begin; drop schema outbox_worker cascade");
    expect(await value("select outbox.queue_replays()", [], session)).toBe(0);
    expect(await where({ dry_run: false }, session)).toMatchObject({ replayed: 1_000 });
    await session.query("rollback");
  });

  test("are one for what is left of a replay, and none for one that is done", async () => {
    await bury(1_001);
    const { replay_id } = await where({ dry_run: false });
    expect(await jobs()).toMatchObject([
      { task: "replay", payload: { replay: replay_id }, key: `replay-${replay_id}` },
    ]);
    await outbox.pool.query("delete from outbox.messages; delete from outbox_worker._private_jobs");
    await slice(replay_id);
    await where({ dry_run: false });
    expect(await jobs()).toEqual([]);
  });

  test("are one a running replay, however often they are asked for; maintain() does", async () => {
    const [one, two] = [await running(), await running()];
    await running({ status: "cancelled", finished_at: noon() });
    expect(await value("select outbox.queue_replays()")).toBe(2);
    await outbox.pool.query("select outbox.maintain()");
    expect((await jobs()).map(({ key }) => key)).toEqual([`replay-${one}`, `replay-${two}`]);
  });

  test("keep the time they wait for, unless it is a new one", async () => {
    const id = await running();
    await outbox.pool.query("select outbox.queue_replays($1, 60000)", [id]);
    const first = await run_at();
    expect(first).toBeGreaterThan(Date.now() + 30_000);
    await outbox.pool.query("select outbox.queue_replays()");
    expect(await run_at()).toBe(first);
    await outbox.pool.query("select outbox.queue_replays($1, 0)", [id]);
    expect(await run_at()).toBeLessThan(first);
  });
});

describe("the plan of a slice", () => {
  const MANY = 100_000;
  const BATCH = 1_000;

  /** A session that tells how many rows each node of each plan it runs gave and threw away. */
  async function explained(): Promise<{ client: pg.Client; nodes: Row[] }> {
    const client = await outbox.session();
    const nodes: Row[] = [];
    const walk = (node: Row) => {
      nodes.push(node);
      for (const inner of node.Plans ?? []) walk(inner);
    };
    client.on("notice", ({ message = "" }) => {
      const json = /^duration: .*? plan:\n(?<plan>\{.*\})$/s.exec(message)?.groups?.plan;
      if (json !== undefined) walk(JSON.parse(json).Plan);
    });
    await client.query(`
      load 'auto_explain';
      set auto_explain.log_min_duration = 0;
      set auto_explain.log_nested_statements = on;
      set auto_explain.log_analyze = on;
      set auto_explain.log_timing = off;
      set auto_explain.log_format = json;
      set client_min_messages = log`);
    return { client, nodes };
  }

  test.each(["an empty table", "a full table"])(
    "of 100,000 dead letters looks at no more than it takes, with the statistics of %s",
    async (statistics) => {
      await outbox.pool.query("vacuum analyze outbox.dead_letters, outbox.messages, outbox.dedupe_keys");
      const { client, nodes } = await explained();
      // Plans are kept from the sixth time on.
      if (statistics === "an empty table") {
        for (let n = 0; n < 8; n++) {
          await bury(3);
          await slice(await running(), BATCH, client);
        }
        await outbox.pool.query("delete from outbox.messages");
      }
      await bury(MANY / 2);
      await bury(MANY / 2, { reason: "rejected" }, MANY / 2);
      await outbox.pool.query(
        "insert into outbox.messages (recipient, content, available_at) select '+905551234567', 'hi', $1 from generate_series(1, 5000)",
        [noon(7_200_000)],
      );
      if (statistics === "a full table") await outbox.pool.query("vacuum analyze outbox.dead_letters");
      const id = await running();
      for (let n = 1; n <= 3; n++) {
        nodes.length = 0;
        expect(await slice(id, BATCH, client)).toMatchObject({ replayed: n * BATCH });
        await outbox.pool.query("delete from outbox.messages where available_at < $1", [noon(7_200_000)]);
        const looked = nodes.map(
          (node) =>
            node["Actual Loops"] *
            (node["Actual Rows"] +
              (node["Rows Removed by Filter"] ?? 0) +
              (node["Rows Removed by Join Filter"] ?? 0)),
        );
        expect(nodes.length).toBeGreaterThan(10);
        for (const [i, node] of nodes.entries())
          if ((looked[i] ?? 0) > BATCH) console.log(JSON.stringify({ ...node, Plans: undefined }));
        expect(Math.max(...looked)).toBeLessThanOrEqual(BATCH);
        const indexes = new Set(nodes.map((node) => node["Index Name"] ?? ""));
        expect([...indexes].filter((index) => !/^replays_|^$/.test(index)).sort()).toEqual([
          "dead_letters_died_at",
          "dead_letters_pkey",
          "dedupe_key_seen_before",
          "gateways_pkey",
          "messages_claimable",
        ]);
      }
    },
  );
});
