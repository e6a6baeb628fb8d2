import { describe, expect, test } from "vitest";
import { fromNow, noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, claim, enqueue, insert, register, value } = outbox;

describe("next_due", () => {
  const nextDue = (gateway: string, as_of: string): Promise<number | null> =>
    value("select outbox.next_due($1, $2)", [gateway, as_of]);

  test("is null when nothing waits", async () => {
    expect(await nextDue("default", noon())).toBeNull();
    expect(await nextDue("unheard-of", noon())).toBeNull();
  });

  test("is the milliseconds until the first message of any priority, rounded up", async () => {
    await insert({ available_at: noon(9_000), priority: 0 });
    await insert({ available_at: noon(2_500), priority: 2 });
    await insert({ available_at: noon(5_000), priority: 1 });
    expect(await nextDue("default", noon())).toBe(2_500);
    expect(await nextDue("default", "2030-06-01T12:00:00.000100Z")).toBe(2_500);
    expect(await nextDue("default", noon(2_500))).toBe(0);
    expect(await nextDue("default", noon(60_000))).toBe(-57_500);
  });

  test("is the gateway's own", async () => {
    await addGateway("other");
    await insert({ available_at: noon(1_000) });
    expect(await nextDue("other", noon())).toBeNull();
  });

  test("does not look at what is in flight", async () => {
    const relayer = await register();
    await insert({ available_at: noon() });
    await insert({ available_at: noon(7_000) });
    await claim(relayer.id, 10, { as_of: noon() });
    expect(await nextDue("default", noon())).toBe(7_000);
  });

  test("is not before the gateway's hold is over", async () => {
    await insert({ available_at: noon(1_000) });
    await outbox.pool.query("update outbox.gateways set held_until = $1, hold_reason = 'hold'", [
      noon(4_000),
    ]);
    expect(await nextDue("default", noon())).toBe(4_000);
    await outbox.pool.query("update outbox.gateways set held_until = $1", [noon(500)]);
    expect(await nextDue("default", noon())).toBe(1_000);
    await outbox.pool.query("delete from outbox.messages");
    expect(await nextDue("default", noon())).toBeNull();
  });

  test("is null while everything or the gateway is paused", async () => {
    await insert();
    await outbox.pool.query("select outbox.pause()");
    expect(await nextDue("default", noon())).toBeNull();
    await outbox.pool.query("select outbox.resume()");
    expect(await nextDue("default", noon())).toBeLessThan(0);
    await outbox.pool.query("select outbox.pause('default')");
    expect(await nextDue("default", noon())).toBeNull();
  });

  test("is now for what has expired, which a claim has to bury", async () => {
    await insert({ available_at: noon(-9_000), expires_at: noon(-1_000) });
    expect(await nextDue("default", noon())).toBeLessThanOrEqual(0);
  });
});

describe("an INSERT", () => {
  /** What is heard of what `work` does. */
  async function heard(work: () => Promise<unknown>): Promise<string[]> {
    const listener = await outbox.session();
    const payloads: string[] = [];
    listener.on("notification", ({ payload = "" }) => payloads.push(payload));
    await listener.query("listen outbox");
    await work();
    await outbox.pool.query("select pg_notify('outbox', 'last')");
    await expect.poll(() => payloads).toContain("last");
    return payloads.slice(0, -1);
  }

  const stayAwake = (lease: string, as_of = fromNow(0)) =>
    outbox.pool.query("select outbox.stay_awake($1, $2)", [lease, as_of]);
  const awakeUntil = (): Promise<string> => value("select to_timestamp(last_value) from outbox.awake_until");

  test("notifies when no relayer is awake, once a statement, at the commit", async () => {
    expect(await heard(() => insert())).toEqual(["insert"]);
    expect(await heard(() => enqueue())).toEqual(["insert"]);
    const many =
      "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 100)";
    expect(await heard(() => outbox.pool.query(many))).toEqual(["insert"]);
    const producer = await outbox.session();
    const rolledBack = async () => {
      await producer.query("begin");
      await insert({}, producer);
      await producer.query("rollback");
    };
    expect(await heard(rolledBack)).toEqual([]);
  });

  test("does not while a relayer is awake", async () => {
    await stayAwake("1 minute");
    expect(await heard(() => insert())).toEqual([]);
  });

  test("does again when the lease is over", async () => {
    await stayAwake("1 minute", fromNow(-61_000));
    expect(await heard(() => insert())).toEqual(["insert"]);
  });

  test("does not while everything is paused; resume does", async () => {
    await outbox.pool.query("select outbox.pause()");
    expect(await heard(() => insert())).toEqual([]);
    expect(await heard(() => outbox.pool.query("select outbox.resume()"))).toEqual(["resume"]);
  });

  test("never makes a lease shorter", async () => {
    await stayAwake("1 minute", noon());
    await stayAwake("1 second", noon());
    expect(await awakeUntil()).toBe("2030-06-01T12:01:00.000000Z");
    await stayAwake("2 minutes", noon());
    expect(await awakeUntil()).toBe("2030-06-01T12:02:00.000000Z");
  });

  test("takes back a lease that a clock wrote which was ahead", async () => {
    await stayAwake("1 hour", noon());
    await stayAwake("3 seconds", noon(900));
    expect(await awakeUntil()).toBe("2030-06-01T12:00:03.000000Z");
  });

  test("notifies from the last whole second of the lease on, never later than it was promised", async () => {
    await stayAwake("3 seconds", noon(999));
    expect(await awakeUntil()).toBe("2030-06-01T12:00:03.000000Z");
  });

  test("may be one of a role that has no right but to insert", async () => {
    await outbox.pool.query(
      "create role inserts; grant usage on schema outbox to inserts; grant insert on outbox.messages to inserts",
    );
    const producer = await outbox.session();
    try {
      await producer.query("set role inserts");
      const insertOne = () =>
        producer.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");
      expect(await heard(insertOne)).toEqual(["insert"]);
      await stayAwake("1 minute");
      expect(await heard(insertOne)).toEqual([]);
    } finally {
      await producer.query("reset role; drop owned by inserts; drop role inserts");
    }
  });

  test("does not wait for a pause that is not committed", async () => {
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select outbox.pause()");
    await insert();
    await person.query("rollback");
  });
});

describe("take_tick", () => {
  const take = (tick: string, on?: Awaited<ReturnType<typeof outbox.session>>): Promise<boolean> =>
    value("select outbox.take_tick($1)", [tick], on);

  test("is true once for each tick", async () => {
    expect(await take(noon())).toBe(true);
    expect(await take(noon())).toBe(false);
    expect(await take(noon(60_000))).toBe(true);
  });

  test("is false for one before the last", async () => {
    await take(noon());
    expect(await take(noon(-60_000))).toBe(false);
    expect(await value("select last_tick from outbox.scheduler")).toBe("2030-06-01T12:00:00.000000Z");
  });

  test("is true for one of two at once", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    expect(await take(noon(), one)).toBe(true);
    const second = take(noon(), two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(false);
  });

  test("is true for the other when the first is rolled back", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    await take(noon(), one);
    const second = take(noon(), two);
    await outbox.blocked(two);
    await one.query("rollback");
    expect(await second).toBe(true);
  });
});
