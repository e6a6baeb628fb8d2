import type pg from "pg";
import { describe, expect, onTestFinished, test } from "vitest";
import { noon, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, insertMany, register, row, rows, value } = outbox;

const running = () => value("select running from outbox.scheduler");
const audit = () => rows("select actor, action, target, affected from outbox.audit order by id");

/** The payloads that arrive on the channel, as they come. */
async function listening(): Promise<string[]> {
  const client = await outbox.session();
  const payloads: string[] = [];
  client.on("notification", ({ payload = "" }) => payloads.push(payload));
  await client.query("listen outbox");
  onTestFinished(() => void client.removeAllListeners("notification"));
  return payloads;
}

describe("pause()", () => {
  test("says whether it changed anything, and who did it", async () => {
    expect(await value("select outbox.pause(actor => 'ayşe')")).toBe(true);
    expect(await running()).toBe(false);
    expect(
      await row(
        `select changed_by, changed_at between clock_timestamp() - interval '1 minute' and clock_timestamp() as recent
         from outbox.scheduler`,
      ),
    ).toEqual({ changed_by: "ayşe", recent: true });
    expect(await value("select outbox.pause(actor => 'ali')")).toBe(false);
    expect(await value("select changed_by from outbox.scheduler")).toBe("ayşe");
    expect(await audit()).toEqual([
      { actor: "ayşe", action: "pause", target: null, affected: 1 },
      { actor: "ali", action: "pause", target: null, affected: 0 },
    ]);
  });

  test("of a gateway stops that one", async () => {
    expect(await value("select outbox.pause('default', 'ali')")).toBe(true);
    expect(await value("select outbox.pause('default', 'ali')")).toBe(false);
    expect(await running()).toBe(true);
    expect((await outbox.gateway()).paused).toBe(true);
    expect((await audit())[0]).toEqual({ actor: "ali", action: "pause", target: "default", affected: 1 });
  });

  test("of an unknown gateway is refused, and is not on record", async () => {
    expect(await refusal(outbox.pool.query("select outbox.pause('nope')"))).toBe("OB001 unknown_gateway");
    expect(await refusal(outbox.pool.query("select outbox.resume('nope')"))).toBe("OB001 unknown_gateway");
    expect(await audit()).toEqual([]);
  });

  test("by whom nobody says is by the role that is logged in", async () => {
    await outbox.pool.query("select outbox.pause()");
    expect(
      await row("select actor = session_user as actor, db_role = session_user as role from outbox.audit"),
    ).toEqual({ actor: true, role: true });
  });

  test("lets what is in flight be settled, and given back", async () => {
    const relayer = await register();
    const [sent, back] = (await insertMany(2)) as [number, number];
    await claim(relayer.id);
    await outbox.pool.query("select outbox.pause()");
    expect(await outbox.settle(relayer.id, [{ id: sent }])).toMatchObject({ sent: 1, stale: [] });
    expect(await value("select outbox.release($1, $2)", [relayer.id, [back]])).toBe(1);
  });
});

describe("the barrier", () => {
  test("pause waits for a claim that is under way", async () => {
    const relayer = await register();
    const person = await outbox.session();
    await insert();
    await relayer.client.query("begin");
    expect(await claim(relayer.id, 1, { on: relayer.client })).toHaveLength(1);
    const paused = person.query("select outbox.pause()");
    await outbox.blocked(person);
    await relayer.client.query("commit");
    await paused;
  });

  test("pause of one gateway waits too, and a claim meanwhile gets nothing", async () => {
    const [one, two] = [await register(), await register()];
    const person = await outbox.session();
    await insertMany(2);
    await one.client.query("begin");
    await claim(one.id, 1, { on: one.client });
    const paused = person.query("select outbox.pause('default')");
    await outbox.blocked(person);
    expect(await claim(two.id)).toEqual([]);
    await one.client.query("commit");
    await paused;
    expect(await claim(two.id)).toEqual([]);
  });

  test("a claim gets nothing, and does not wait, while a pause is not committed", async () => {
    const relayer = await register();
    const person = await outbox.session();
    await insert();
    await person.query("begin");
    await person.query("select outbox.pause()");
    expect(await claim(relayer.id)).toEqual([]);
    await person.query("commit");
    expect(await claim(relayer.id)).toEqual([]);
  });

  test("a pause that is rolled back never was", async () => {
    const relayer = await register();
    const person = await outbox.session();
    await insert();
    await person.query("begin");
    await person.query("select outbox.pause()");
    await person.query("rollback");
    expect(await claim(relayer.id)).toHaveLength(1);
    expect(await audit()).toEqual([]);
  });

  test("holds against a crowd: nothing is claimed after pause has come back", async () => {
    const relayers = await Promise.all(Array.from({ length: 4 }, () => register()));
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 5000)",
    );
    const countClaimed = () =>
      value("select count(*)::int from outbox.messages where claimed_by is not null");
    let stopped = false;
    const claiming = relayers.map(async ({ id, client }) => {
      while (!stopped) await claim(id, 3, { on: client });
    });
    for (let round = 0; round < 10; round++) {
      await outbox.pool.query("select outbox.pause()");
      const then = await countClaimed();
      await Promise.all([outbox.pool.query("select 1"), claim((relayers[0] as { id: number }).id, 1)]);
      expect(await countClaimed()).toBe(then);
      await outbox.pool.query("select outbox.resume()");
    }
    stopped = true;
    await Promise.all(claiming);
    expect(await countClaimed()).toBeGreaterThan(0);
  });
});

describe("resume()", () => {
  test("undoes pause, says whether it changed anything, and who did it", async () => {
    const relayer = await register();
    await insert();
    await outbox.pool.query("select outbox.pause(actor => 'ayşe')");
    expect(await value("select outbox.resume(actor => 'ali')")).toBe(true);
    expect(await value("select outbox.resume(actor => 'ali')")).toBe(false);
    expect(await value("select changed_by from outbox.scheduler")).toBe("ali");
    expect((await audit()).slice(1)).toEqual([
      { actor: "ali", action: "resume", target: null, affected: 1 },
      { actor: "ali", action: "resume", target: null, affected: 0 },
    ]);
    expect(await claim(relayer.id)).toHaveLength(1);
  });

  test("of everything leaves a paused gateway paused, and the other way round", async () => {
    await outbox.pool.query("select outbox.pause(), outbox.pause('default')");
    await outbox.pool.query("select outbox.resume()");
    expect((await outbox.gateway()).paused).toBe(true);
    await outbox.pool.query("select outbox.pause()");
    await outbox.pool.query("select outbox.resume('default')");
    expect((await outbox.gateway()).paused).toBe(false);
    expect(await running()).toBe(false);
  });

  test("of a gateway ends its hold", async () => {
    const relayer = await register();
    await insert();
    await outbox.pool.query(
      "update outbox.gateways set held_until = $1, hold_reason = 'hold', hold_detail = 'HTTP 401'",
      [noon()],
    );
    expect(await value("select outbox.resume('default')")).toBe(true);
    expect(await outbox.gateway()).toMatchObject({ held_until: null, hold_reason: null, hold_detail: null });
    expect(await claim(relayer.id)).toHaveLength(1);
  });
});

describe("toggle()", () => {
  test("turns over, and says whether it runs now", async () => {
    expect(await value("select outbox.toggle('ali')")).toBe(false);
    expect(await running()).toBe(false);
    expect(await value("select outbox.toggle('ali')")).toBe(true);
    expect(await running()).toBe(true);
    expect(await audit()).toEqual([
      { actor: "ali", action: "pause", target: null, affected: 1 },
      { actor: "ali", action: "resume", target: null, affected: 1 },
    ]);
  });

  test("twice at once is twice in turn", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    expect(await value("select outbox.toggle()", [], one)).toBe(false);
    const second = value("select outbox.toggle()", [], two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(true);
    expect(await running()).toBe(true);
  });

  test("by a crowd counts each", async () => {
    await Promise.all(Array.from({ length: 9 }, () => outbox.pool.query("select outbox.toggle()")));
    expect(await running()).toBe(false);
    expect(await value("select sum(affected)::int from outbox.audit")).toBe(9);
  });
});

test("pause, resume and toggle tell those who listen, when they commit", async () => {
  const payloads = await listening();
  const person: pg.Client = await outbox.session();
  await person.query("begin");
  await person.query("select outbox.pause()");
  await person.query("rollback");
  await person.query("select outbox.pause()");
  await person.query("select outbox.resume('default')");
  await person.query("select outbox.toggle()");
  await expect.poll(() => payloads).toEqual(["pause", "resume", "resume"]);
});
