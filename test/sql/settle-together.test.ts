import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type Shown, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, insertMany, message, places, register, rows, settle, value } = outbox;

/** Everything that a settle may change, to see that it has not. */
const everything = () =>
  outbox.row(
    `select
       (select json_agg(messages order by id) from outbox.messages) as messages,
       (select json_agg(sent order by id) from outbox.sent) as sent,
       (select json_agg(dead_letters order by id) from outbox.dead_letters) as dead_letters,
       (select json_agg(attempts order by message_id, ended_at) from outbox.attempts) as attempts,
       (select json_agg(gateways order by name) from outbox.gateways) as gateways`,
  );

const OUTCOMES = ["accepted", "rejected", "retry", "throttled", "unknown", "hold"] as const;

describe.each(OUTCOMES)("a stale claim (%s) changes nothing and is listed", (outcome) => {
  let owner: number;
  let other: number;
  let id: number;

  beforeEach(async () => {
    owner = (await register("owner")).id;
    other = (await register("other")).id;
    id = await insert();
    await claim(owner);
  });

  async function stale(relayer: number, shown: Shown): Promise<void> {
    const before = await everything();
    expect(await settle(relayer, [{ outcome, ...shown }])).toMatchObject({
      sent: 0,
      stale: [shown.id],
      dead: [],
      dead_reasons: [],
    });
    expect(await everything()).toEqual(before);
  }

  test("of another relayer", () => stale(other, { id }));
  test("of another attempt", async () => {
    await stale(owner, { id, attempt: 2 });
    await stale(owner, { id, attempt: 0 });
  });
  test("of a message that nobody has heard of", () => stale(owner, { id: id + 1_000 }));
  test("that was settled before", async () => {
    await settle(owner, [{ id, outcome }]);
    await stale(owner, { id });
  });
  test("that was given back", async () => {
    await outbox.pool.query("select outbox.release($1, $2)", [owner, [id]]);
    await stale(owner, { id });
    await stale(owner, { id, attempt: 0 });
  });
  test("that another relayer has now", async () => {
    await outbox.pool.query("select outbox.release($1, $2)", [owner, [id]]);
    expect(await claim(other)).toMatchObject([{ id, attempt: 1 }]);
    await stale(owner, { id });
  });
  test("of the attempt before, of the same relayer", async () => {
    await outbox.pool.query("update outbox.messages set attempts = 2");
    await stale(owner, { id });
  });
});

describe("stale and live in one batch", () => {
  test("the live ones are settled, the stale ones listed", async () => {
    const [one, two] = [(await register()).id, (await register()).id];
    const [a, b, c, d] = (await insertMany(4)) as [number, number, number, number];
    await claim(one, 2);
    await claim(two, 2);
    expect(
      await settle(one, [
        { id: a },
        { id: b, outcome: "rejected" },
        { id: c },
        { id: d, outcome: "rejected" },
      ]),
    ).toMatchObject({ sent: 1, stale: [c, d], dead: [b] });
    expect(await Promise.all([a, b, c, d].map(places))).toEqual([
      ["sent"],
      ["dead_letters"],
      ["messages"],
      ["messages"],
    ]);
  });

  test("the same message twice is settled once", async () => {
    const relayer = (await register()).id;
    const [id, next] = (await insertMany(2)) as [number, number];
    await claim(relayer);
    expect(await settle(relayer, [{ id }, { id }])).toMatchObject({ sent: 1, stale: [] });
    expect(await settle(relayer, [{ id: next }, { id: next, outcome: "rejected" }])).toMatchObject({
      sent: 1,
      dead: [],
    });
    expect([await places(id), await places(next)]).toEqual([["sent"], ["sent"]]);
  });
});

describe("two claims of one message in one batch, the earlier one's result late", () => {
  test.each(["accepted", "rejected", "retry", "unknown", "hold"] as const)(
    "%s: the later one's result alone is recorded",
    async (outcome) => {
      const relayer = (await register()).id;
      const id = (await insertMany(1))[0] as number;
      const [first] = await claim(relayer);
      await outbox.value("select outbox.release($1, $2)", [relayer, [id]]);
      const [second] = await claim(relayer);
      const shown = [
        { id, outcome: "rejected" as const, claimed_at: first?.claimed_at ?? "", error: "late" },
        { id, outcome, claimed_at: second?.claimed_at ?? "", error: "in time" },
      ];
      const settled = await settle(relayer, shown);
      expect(settled).toMatchObject({
        sent: outcome === "accepted" ? 1 : 0,
        stale: [],
        dead: outcome === "rejected" ? [id] : [],
      });
      expect(await places(id)).toHaveLength(1);
      expect(await outbox.attempts(id)).toMatchObject(
        outcome === "accepted" ? [] : [{ outcome, error: "in time" }],
      );
    },
  );
});

describe("all or nothing", () => {
  test.each(["sent", "attempts", "dead_letters", "messages", "gateways"])(
    "one row that %s refuses keeps the whole batch back",
    async (table) => {
      const relayer = (await register()).id;
      const ids = await insertMany(OUTCOMES.length);
      await claim(relayer);
      await outbox.pool.query(`
        create function outbox.refuse() returns trigger language plpgsql as
          $$begin raise exception 'refused'; end$$;
        create trigger refuse before ${table === "messages" ? "update" : "insert or update"} on outbox.${table}
          for each row execute function outbox.refuse();`);
      onTestFinished(() => outbox.pool.query("drop function outbox.refuse cascade").then(() => {}));
      const before = await everything();
      const shown = ids.map((id, i) => ({ id, outcome: OUTCOMES[i] as (typeof OUTCOMES)[number] }));
      await expect(settle(relayer, shown)).rejects.toThrow("refused");
      expect(await everything()).toEqual(before);
      await outbox.pool.query(
        "drop function outbox.refuse cascade; create function outbox.refuse() returns int language sql as 'select 1'",
      );
      expect(await settle(relayer, shown)).toMatchObject({ sent: 1, stale: [], dead: [ids[1]] });
    },
  );

  test("a settle that is cut off leaves the claims as they were", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await relayer.client.query("begin");
    await settle(relayer.id, [{ id }], { on: relayer.client });
    await relayer.client.query("rollback");
    expect(await message(id)).toMatchObject({ claimed_by: relayer.id, attempts: 1 });
    expect(await settle(relayer.id, [{ id }])).toMatchObject({ sent: 1, stale: [] });
  });
});

describe("at the same time", () => {
  test("two settles of the same claims: the second waits, and finds them stale", async () => {
    const relayer = await register();
    const again = await outbox.session();
    const ids = await insertMany(2);
    await claim(relayer.id);
    const shown: Shown[] = [{ id: ids[0] as number }, { id: ids[1] as number, outcome: "rejected" }];
    await relayer.client.query("begin");
    expect(await settle(relayer.id, shown, { on: relayer.client })).toMatchObject({ sent: 1, stale: [] });
    const second = settle(relayer.id, shown, { on: again });
    await outbox.blocked(again);
    await relayer.client.query("commit");
    expect(await second).toMatchObject({ sent: 0, stale: ids, dead: [] });
    expect(await value("select count(*)::int from outbox.sent")).toBe(1);
    expect(await value("select count(*)::int from outbox.attempts")).toBe(1);
  });

  test("settle first, then rescue: rescue leaves what is being settled alone", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await relayer.client.query("begin");
    await settle(relayer.id, [{ id }], { on: relayer.client });
    await outbox.pool.query("select outbox.rescue('0 seconds')");
    await relayer.client.query("commit");
    expect(await places(id)).toEqual(["sent"]);
    expect(await rows("select from outbox.attempts")).toEqual([]);
  });

  test("settle first and rolled back: a later rescue has it", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    const settling = await outbox.session();
    await settling.query("begin");
    await settle(relayer.id, [{ id }], { on: settling });
    await relayer.client.end();
    await outbox.pool.query("select outbox.rescue('0 seconds')");
    await settling.query("rollback");
    await outbox.pool.query("select outbox.rescue('0 seconds')");
    expect(await message(id)).toMatchObject({ claimed_by: null, attempts: 1 });
    expect(await rows("select from outbox.relayers")).toEqual([]);
  });

  test("rescue first, then settle: it waits, and finds its claim stale", async () => {
    const relayer = await register();
    const rescuer = await outbox.session();
    const ids = await insertMany(2);
    await claim(relayer.id);
    await rescuer.query("begin");
    await rescuer.query("select outbox.rescue('0 seconds')");
    const settled = settle(
      relayer.id,
      [{ id: ids[0] as number }, { id: ids[1] as number, outcome: "retry" }],
      {
        on: relayer.client,
      },
    );
    await outbox.blocked(relayer.client);
    await rescuer.query("commit");
    expect(await settled).toMatchObject({ sent: 0, stale: ids });
    expect(await Promise.all(ids.map(places))).toEqual([["messages"], ["messages"]]);
  });

  test("a settle, which takes what was accepted first, and a rescue do not deadlock", async () => {
    const relayer = await register();
    const [rescuer, person] = [await outbox.session(), await outbox.session()];
    const [first, second, third] = (await insertMany(3)) as [number, number, number];
    await claim(relayer.id);
    // It deletes the second, waits for the third, and wants the first last; the rescue goes by id.
    await person.query("begin");
    await person.query("select from outbox.messages where id = $1 for update", [third]);
    const settled = settle(relayer.id, [{ id: first, outcome: "retry" }, { id: second }, { id: third }], {
      on: relayer.client,
    });
    await outbox.blocked(relayer.client);
    const rescued = rescuer.query("select outbox.rescue('0 seconds')");
    await Promise.race([rescued, outbox.blocked(rescuer)]);
    await person.query("rollback");
    await Promise.all([settled, rescued]);
    expect(await Promise.all([first, second, third].map(places))).toEqual([["messages"], ["sent"], ["sent"]]);
  });

  test("a crowd of settles that cross does not deadlock", async () => {
    const relayer = (await register()).id;
    const sessions = await Promise.all(Array.from({ length: 4 }, () => outbox.session()));
    const ids = await insertMany(60);
    await claim(relayer);
    const shown = ids.map((id, i) => ({ id, outcome: OUTCOMES[i % 6] as (typeof OUTCOMES)[number] }));
    const parts = [shown, shown.slice(20), shown.slice(0, 40), shown.filter((_, i) => i % 2 === 0)];
    const settled = await Promise.all(sessions.map((on, i) => settle(relayer, parts[i] as Shown[], { on })));
    expect(settled.reduce((sum, { sent }) => sum + sent, 0)).toBe(10);
    expect(settled.flatMap(({ dead }) => dead)).toHaveLength(10);
    expect(await value("select count(*)::int from outbox.attempts")).toBe(50);
  });

  test("a correction that commits while a settle waits for it is kept", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const ids = await insertMany(2);
    await claim(relayer.id);
    await person.query("begin");
    await person.query(`update outbox.messages set metadata = '{"seen": true}'`);
    const settled = settle(
      relayer.id,
      [{ id: ids[0] as number }, { id: ids[1] as number, outcome: "retry" }],
      {
        on: relayer.client,
      },
    );
    await outbox.blocked(relayer.client);
    await person.query("commit");
    expect(await settled).toMatchObject({ sent: 1, stale: [] });
    expect(await rows("select metadata from outbox.all_messages")).toEqual([
      { metadata: { seen: true } },
      { metadata: { seen: true } },
    ]);
  });
});
