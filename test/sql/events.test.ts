import { describe, expect, onTestFinished, test } from "vitest";
import { noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, claim, gateway, insert, register, rows, settle, value } = outbox;

/** What happened, without the times. */
const told = async () =>
  (await rows("select type, data from outbox.events order by at, id")).map(({ type, data }) => ({
    type,
    ...(data as object),
  }));
const forget = () => outbox.pool.query("delete from outbox.events");
const query = (text: string) => outbox.pool.query(text);
const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

describe("a message that ends without being sent", () => {
  test("is an event, with its reason and no word of its own", async () => {
    const relayer = await register();
    const id = await insert({ priority: 2, metadata: { secret: 1 } });
    await claim(relayer.id);
    await settle(relayer.id, [{ id, outcome: "rejected", http_status: 422, error: "no such +905551234567" }]);
    const { died_at } = await outbox.dead(id);
    expect(await rows("select type, happened_at, data from outbox.events")).toEqual([
      {
        type: "dead",
        happened_at: died_at,
        data: { id, gateway: "default", priority: 2, attempts: 1, reason: "rejected", http_status: 422 },
      },
    ]);
  });

  test.each(["exhausted", "expired", "cancelled", "unknown_outcome"])(
    "also when it is %s",
    async (reason) => {
      const relayer = await register();
      await query("update outbox.gateways set max_attempts = 1, on_unknown = 'park'");
      const id = await insert({ expires_at: noon() });
      if (reason === "expired") await value("select outbox.expire('default', as_of => $1)", [noon(1)]);
      else if (reason === "cancelled") await query(`select outbox.cancel(${id})`);
      else {
        await claim(relayer.id);
        await settle(relayer.id, [{ id, outcome: reason === "exhausted" ? "retry" : "unknown" }]);
      }
      expect(await told()).toMatchObject([{ type: "dead", id, reason, http_status: null }]);
    },
  );

  test("is one of many in a statement: an event each, in one order", async () => {
    const relayer = await register();
    const ids = await outbox.insertMany(50);
    await claim(relayer.id);
    await settle(
      relayer.id,
      ids.map((id) => ({ id, outcome: id % 2 === 0 ? ("rejected" as const) : ("accepted" as const) })),
    );
    expect((await told()).map((event) => (event as unknown as { id: number }).id)).toEqual(
      ids.filter((id) => id % 2 === 0),
    );
  });

  test("is told again when it was replayed and ends again", async () => {
    const id = await insert();
    await query(`select outbox.cancel(${id})`);
    await query(`select outbox.replay(${id})`);
    await query(`select outbox.cancel(${id})`);
    expect(await told()).toMatchObject([{ id }, { id }]);
  });

  test("is told only if it is so: not when it is rolled back, or when nothing ends", async () => {
    const session = await outbox.session();
    const id = await insert();
    await session.query("begin");
    await session.query(`select outbox.cancel(${id})`);
    await session.query("rollback");
    await query("select outbox.expire('default'), outbox.maintain()");
    expect(await told()).toEqual([]);
  });
});

describe("a gateway", () => {
  const held = (reason: string, more: object = {}) => ({
    type: "gateway_held",
    gateway: "default",
    reason,
    held_until: null,
    detail: null,
    actor: null,
    ...more,
  });
  const resumed = (reason: string, more: object = {}) => ({
    type: "gateway_resumed",
    gateway: "default",
    reason,
    actor: null,
    ...more,
  });

  test("that is paused and resumed: by whom", async () => {
    await query("select outbox.pause('default', actor => 'ayse')");
    await query("select outbox.pause('default', actor => 'ali')");
    await query("select outbox.resume('default', actor => 'ali')");
    await query("select outbox.resume('default', actor => 'ali')");
    expect(await told()).toEqual([held("paused", { actor: "ayse" }), resumed("paused", { actor: "ali" })]);
  });

  test("that a DBA pauses by hand", async () => {
    await addGateway("bulk");
    await query("update outbox.gateways set paused = true where name = 'bulk'");
    await query("update outbox.gateways set paused = true, max_attempts = 3 where name = 'bulk'");
    expect(await told()).toEqual([held("paused", { gateway: "bulk", actor: "outbox" })]);
  });

  test("that is throttled, once, however often that is prolonged; not when it is over", async () => {
    const relayer = await register();
    const [first, second, third] = (await outbox.insertMany(3)) as [number, number, number];
    await claim(relayer.id);
    await settle(relayer.id, [
      { id: first, outcome: "throttled", retry_after_ms: 60_000, error: "HTTP 429" },
    ]);
    const { held_until } = await gateway();
    await settle(relayer.id, [
      { id: second, outcome: "throttled", retry_after_ms: 90_000, error: "HTTP 429" },
    ]);
    expect(await told()).toEqual([held("throttled", { held_until, detail: "HTTP 429" })]);

    await forget();
    await query("update outbox.gateways set held_until = clock_timestamp() + interval '20 ms'");
    await query("select pg_sleep(0.03)");
    expect(await told()).toEqual([]);
    await settle(relayer.id, [
      { id: third, outcome: "throttled", retry_after_ms: 60_000, error: "HTTP 429 again" },
    ]);
    expect(await told()).toMatchObject([held("throttled", { held_until: TIME, detail: "HTTP 429 again" })]);
  });

  test("that is throttled, and that a person resumes", async () => {
    await query("update outbox.gateways set held_until = now() + interval '1 h', hold_reason = 'throttled'");
    await forget();
    await query("select outbox.resume('default', actor => 'ali')");
    expect(await told()).toEqual([resumed("throttled", { actor: "ali" })]);
  });

  test("whose circuit opens, is probed in vain and closes: once held, once resumed", async () => {
    await query(
      "update outbox.gateways set circuit_failures = 1, circuit_probes = 1, circuit_pause = '1 ms', jitter = 0",
    );
    const relayer = await register();
    const id = await insert();
    const attempt = async (outcome: "retry" | "accepted", as_of: string) => {
      await query("update outbox.messages set available_at = '2000-01-01'");
      const [got] = await claim(relayer.id, 1, { as_of });
      await settle(relayer.id, [{ id, attempt: got?.attempt ?? 0, outcome, error: "HTTP 500" }], { as_of });
    };
    await attempt("retry", noon());
    await attempt("retry", noon(60_000));
    await attempt("retry", noon(120_000));
    expect(await gateway()).toMatchObject({ circuit: "open", circuit_pauses: 3 });
    expect(await told()).toEqual([
      held("circuit_open", {
        held_until: noon(1).replace("Z", "000Z"),
        detail: "1 failures in a row; the last: HTTP 500",
      }),
    ]);
    await attempt("accepted", noon(180_000));
    expect((await told()).slice(1)).toEqual([resumed("circuit_open")]);
  });

  test("whose account is at fault, and which then fails otherwise: each reason", async () => {
    await query("update outbox.gateways set circuit_probes = 1");
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id, 1, { as_of: noon() });
    await settle(relayer.id, [{ id, outcome: "hold", error: "HTTP 401" }], { as_of: noon() });
    await query("update outbox.messages set available_at = '2000-01-01'");
    const [again] = await claim(relayer.id, 1, { as_of: noon(3_600_000) });
    await settle(relayer.id, [{ id, attempt: again?.attempt ?? 0, outcome: "retry", error: "HTTP 500" }], {
      as_of: noon(3_600_000),
    });
    expect(await told()).toMatchObject([
      held("hold", { held_until: TIME, detail: "HTTP 401" }),
      held("circuit_open", { held_until: TIME, detail: "1 of 1 probes failed; the last: HTTP 500" }),
    ]);
  });

  test("that is paused stays so, whatever its circuit does; a resume ends both", async () => {
    await query(
      "update outbox.gateways set circuit = 'open', held_until = now() + interval '1 h', hold_reason = 'circuit_open'",
    );
    await query("select outbox.pause('default', actor => 'ali')");
    await query("update outbox.gateways set circuit = 'closed', held_until = null, hold_reason = null");
    await query(
      "update outbox.gateways set circuit = 'open', held_until = now() + interval '1 h', hold_reason = 'hold'",
    );
    await query("select outbox.resume('default', actor => 'ali')");
    expect(await told()).toMatchObject([
      held("circuit_open", { held_until: TIME }),
      held("paused", { actor: "ali" }),
      resumed("paused", { actor: "ali" }),
    ]);
  });

  test("is held until a time in UTC, whatever the session's is", async () => {
    const session = await outbox.session();
    await session.query("set timezone = 'Asia/Kolkata'; set datestyle = 'german'");
    await session.query(
      "update outbox.gateways set held_until = '2100-06-01T12:00:00Z', hold_reason = 'hold'",
    );
    expect(await told()).toEqual([held("hold", { held_until: "2100-06-01T12:00:00.000000Z" })]);
  });

  test("that is held until a person says so has no time", async () => {
    await query("update outbox.gateways set held_until = 'infinity', hold_reason = 'hold'");
    expect(await told()).toEqual([held("hold")]);
  });

  test("whose tokens, counts and settings change says nothing, and takes no lock", async () => {
    await query("update outbox.gateways set rate_per_second = 100, burst = 5");
    const relayer = await register();
    const [first, second] = (await outbox.insertMany(2)) as [number, number];
    await relayer.client.query("begin");
    await claim(relayer.id, 10, { on: relayer.client });
    await settle(relayer.id, [{ id: first, outcome: "retry" }, { id: second }], { on: relayer.client });
    expect(await gateway()).toMatchObject({ run_of_failures: 0 });
    expect(await value("select outbox.events_horizon() > now() - interval '1 ms'", [], relayer.client)).toBe(
      true,
    );
    await relayer.client.query("commit");
    expect(await told()).toEqual([]);
  });
});

test("the switch, when it changes and only then: by whom", async () => {
  await query("select outbox.pause(actor => 'ayse')");
  await query("select outbox.pause(actor => 'ali')");
  await query("select outbox.toggle(actor => 'ali')");
  await query("select outbox.stay_awake('1 minute')");
  await query("update outbox.scheduler set running = running, last_tick = now()");
  expect(await told()).toEqual([
    { type: "scheduler", running: false, changed_by: "ayse" },
    { type: "scheduler", running: true, changed_by: "ali" },
  ]);
  const { changed_at } = await outbox.row("select changed_at from outbox.scheduler");
  expect(await value("select happened_at from outbox.events order by at desc limit 1")).toBe(changed_at);
});

describe("events_horizon", () => {
  const horizon = (): Promise<string> => value("select outbox.events_horizon()");
  const clock = (): Promise<string> => value("select clock_timestamp()");

  test("is now while nothing happens, whatever else is locked", async () => {
    const session = await outbox.session();
    await session.query("begin; select outbox.pause()");
    await session.query("rollback; select outbox.register_relayer('x', '1')");
    await session.query(
      "select pg_advisory_lock(0), pg_advisory_lock(-1), pg_advisory_lock(9223372036854775807)",
    );
    await session.query("begin");
    await settle(1, [], { on: session });
    const before = await clock();
    expect((await horizon()) > before).toBe(true);
  });

  test("stays before the events of a transaction that is open, from its start on; what is sent goes on", async () => {
    const session = await outbox.session();
    const id = await insert();
    const before = await clock();
    await session.query("begin");
    const started = await value("select now()", [], session);
    await outbox.pool.query("select pg_sleep(0.01)");
    await session.query(`select outbox.cancel(${id})`);
    const during = await horizon();
    expect(during <= started).toBe(true);
    expect(Date.parse(before) - Date.parse(during)).toBeLessThan(2);
    expect((await value("select outbox.sent_horizon()")) > started).toBe(true);
    await session.query("commit");
    const at = await value("select at from outbox.events");
    expect(at > started).toBe(true);
    expect((await horizon()) > at).toBe(true);
  });

  test("takes one lock for a transaction, however much it ends", async () => {
    const session = await outbox.session();
    await session.query("begin");
    for (const id of await outbox.insertMany(20)) {
      await session.query(`select outbox.cancel(${id})`);
      await session.query("select pg_sleep(0.002)");
    }
    const locks = `
      select count(*)::int
      from pg_locks
      where locktype = 'advisory' and pid = pg_backend_pid() and classid::bigint << 32 | objid::bigint >= outbox.event_lock('epoch')`;
    expect(await value(locks, [], session)).toBe(1);
    await session.query("rollback");
    expect(await value(locks, [], session)).toBe(0);
  });

  test("minds no transaction of another database on the server", async () => {
    const neighbour = await outbox.session("postgres");
    await neighbour.query("select pg_advisory_lock($1)", [
      await value("select outbox.event_lock(now() - interval '1 hour')::text"),
    ]);
    expect(Date.parse(await clock()) - Date.parse(await horizon())).toBeLessThan(60_000);
  });

  test("makes a reader see every event once, in order, while transactions commit as they like", async () => {
    const ids = await outbox.insertMany(200);
    const left = [...ids];
    let busy = 4;
    const work = Array.from({ length: busy }, async () => {
      const session = await outbox.session();
      for (let id = left.pop(); id !== undefined; id = left.pop()) {
        await session.query("begin");
        // Some begin long before their event, some end long after it.
        if (Math.random() < 0.3) await session.query("select pg_sleep(random() * 0.01)");
        await session.query(`select outbox.cancel(${id})`);
        if (Math.random() < 0.3) await session.query("select pg_sleep(random() * 0.01)");
        await session.query(Math.random() < 0.1 ? "rollback" : "commit");
      }
      busy -= 1;
    });
    const reader = await outbox.session();
    onTestFinished(() => Promise.all(work).then(() => {}));
    const seen: number[] = [];
    for (let last = false, at = "-infinity", event = 0; !last; ) {
      last = busy === 0;
      const until = await value("select outbox.events_horizon()", [], reader);
      const page = await rows(
        "select id, at, (data ->> 'id')::bigint as message from outbox.events where (at, id) > ($1, $2) and at < $3 order by at, id",
        [at, event, until],
        reader,
      );
      for (const row of page) {
        seen.push(row.message as number);
        at = row.at as string;
        event = row.id as number;
      }
    }
    const dead = (await rows("select id from outbox.dead_letters order by id")).map(({ id }) => id);
    expect(seen.length).toBe(dead.length);
    expect(seen.toSorted((a, b) => a - b)).toEqual(dead);
  });
});
