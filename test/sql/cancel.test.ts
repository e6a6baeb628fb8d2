import { describe, expect, test } from "vitest";
import { failure, noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, dead, insert, places, register, row, rows, settle, value } = outbox;

const cancel = (id: number, on = outbox.pool as Parameters<typeof value>[2]) =>
  value("select outbox.cancel($1, 'ayşe')", [id], on);
const audit = () => rows("select actor, action, target, affected, details from outbox.audit order by id");

describe("cancel", () => {
  test("withdraws a message that waits, and is on record without its text", async () => {
    const id = await insert({ metadata: { order: 7 }, dedupe_key: "k", priority: 0 });
    await value("select outbox.cancel($1, 'ayşe', $2)", [id, noon()]);
    expect(await places(id)).toEqual(["dead_letters"]);
    expect(await dead(id)).toMatchObject({
      reason: "cancelled",
      died_at: noon().replace("Z", "000Z"),
      attempts: 0,
      metadata: { order: 7 },
      dedupe_key: "k",
      priority: 0,
      claimed_by: null,
      error: null,
    });
    expect(await value("select status from outbox.all_messages")).toBe("cancelled");
    expect(await claim((await register()).id)).toEqual([]);
    expect(await audit()).toEqual([
      { actor: "ayşe", action: "cancel", target: String(id), affected: 1, details: {} },
    ]);
  });

  test("keeps the history of one that waits for its next attempt", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id, outcome: "retry", error: "HTTP 503" }]);
    await cancel(id);
    expect(await dead(id)).toMatchObject({
      reason: "cancelled",
      attempts: 1,
      error: null,
      last_error: "HTTP 503",
    });
    expect(await outbox.attempts(id)).toHaveLength(1);
  });

  test("by whom nobody says is by the role that is logged in", async () => {
    await outbox.pool.query("select outbox.cancel($1)", [await insert()]);
    expect(await row("select actor = session_user as own from outbox.audit")).toEqual({ own: true });
  });

  test("of a message that is being sent is refused, and works once the attempt has failed", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    expect(await failure(cancel(id))).toMatchObject({
      code: "OB005",
      message: `message ${id} is being sent by relayer ${relayer.id}`,
      detail: expect.stringMatching(
        /^Claimed at .+ for attempt 1\. If that fails, it can be cancelled then\.$/,
      ),
    });
    expect(await audit()).toEqual([]);
    await settle(relayer.id, [{ id, outcome: "retry" }]);
    await cancel(id);
    expect(await places(id)).toEqual(["dead_letters"]);
  });

  test("of a message that was sent is refused", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id }]);
    expect(await failure(cancel(id))).toMatchObject({
      code: "OB005",
      message: expect.stringMatching(new RegExp(`^message ${id} was sent at \\d{4}-`)),
      detail: `The gateway accepted it as gw-${id}. It can no longer be cancelled.`,
    });
  });

  test("of a message that has ended is refused", async () => {
    const relayer = await register();
    const [rejected, cancelled] = [await insert(), await insert()];
    await claim(relayer.id, 1);
    await settle(relayer.id, [{ id: rejected, outcome: "rejected", error: "HTTP 400: no" }]);
    expect(await failure(cancel(rejected))).toMatchObject({
      code: "OB005",
      message: expect.stringMatching(new RegExp(`^message ${rejected} ended at \\d{4}-.*: rejected$`)),
      detail: "HTTP 400: no",
    });
    await cancel(cancelled);
    expect(await failure(cancel(cancelled))).toMatchObject({
      code: "OB005",
      message: expect.stringMatching(/: cancelled$/),
      detail: "It was never sent.",
    });
    expect(await audit()).toHaveLength(1);
  });

  test("of a message that there is not is refused", async () => {
    expect(await failure(cancel(404))).toMatchObject({ code: "OB006", message: "there is no message 404" });
  });
});

describe("at the same time", () => {
  test("as a claim: it waits, and finds it claimed", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await insert();
    await relayer.client.query("begin");
    await claim(relayer.id, 1, { on: relayer.client });
    const cancelled = failure(cancel(id, person));
    await outbox.blocked(person);
    await relayer.client.query("commit");
    expect(await cancelled).toMatchObject({ code: "OB005", message: expect.stringContaining("being sent") });
    expect(await places(id)).toEqual(["messages"]);
  });

  test("as a claim that is rolled back: it cancels", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await insert();
    await relayer.client.query("begin");
    await claim(relayer.id, 1, { on: relayer.client });
    const cancelled = cancel(id, person);
    await outbox.blocked(person);
    await relayer.client.query("rollback");
    await cancelled;
    expect(await places(id)).toEqual(["dead_letters"]);
  });

  test.each([
    ["accepted", "sent", /was sent at/],
    ["rejected", "dead_letters", /ended at .*: rejected/],
  ] as const)(
    "as a settle that ends it as %s: it waits, and finds it there",
    async (outcome, place, told) => {
      const relayer = await register();
      const person = await outbox.session();
      const id = await insert();
      await claim(relayer.id);
      await relayer.client.query("begin");
      await settle(relayer.id, [{ id, outcome }], { on: relayer.client });
      const cancelled = failure(cancel(id, person));
      await outbox.blocked(person);
      await relayer.client.query("commit");
      expect(await cancelled).toMatchObject({ code: "OB005", message: expect.stringMatching(told) });
      expect(await places(id)).toEqual([place]);
    },
  );

  test("as a settle that gives it back: it waits, and cancels", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await insert();
    await claim(relayer.id);
    await relayer.client.query("begin");
    await settle(relayer.id, [{ id, outcome: "retry" }], { on: relayer.client });
    const cancelled = cancel(id, person);
    await outbox.blocked(person);
    await relayer.client.query("commit");
    await cancelled;
    expect(await dead(id)).toMatchObject({ reason: "cancelled", attempts: 1 });
  });

  test("as another cancel: one of them does it", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await insert();
    await one.query("begin");
    await cancel(id, one);
    const second = failure(cancel(id, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("OB005");
    expect(await audit()).toHaveLength(1);
  });

  test("a claim does not wait for a cancel, and does not get it", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const [id, other] = [await insert(), await insert()];
    await person.query("begin");
    await cancel(id, person);
    expect(await claim(relayer.id)).toMatchObject([{ id: other }]);
    await person.query("commit");
    expect(await claim(relayer.id)).toEqual([]);
  });

  test("a crowd of relayers and of people who cancel: each message ends once", async () => {
    const relayers = await Promise.all(Array.from({ length: 3 }, () => register()));
    const people = await Promise.all(Array.from({ length: 3 }, () => outbox.session()));
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 300)",
    );
    const ids = (await rows("select id from outbox.messages order by random()")).map(
      ({ id }) => id as number,
    );
    const codes: string[] = [];
    await Promise.all([
      ...relayers.map(async ({ id, client }) => {
        for (let claims = await claim(id, 7, { on: client }); claims.length > 0; ) {
          const shown = claims.map((one) => ({ id: one.id })).sort((a, b) => a.id - b.id);
          expect(await settle(id, shown, { on: client })).toMatchObject({ sent: shown.length, stale: [] });
          claims = await claim(id, 7, { on: client });
        }
      }),
      ...people.map(async (person, i) => {
        for (const id of ids.filter((_, n) => n % 3 === i))
          await cancel(id, person).catch(({ code }) => codes.push(code));
      }),
    ]);
    expect(new Set(codes)).toEqual(new Set(["OB005"]));
    expect(
      await row(
        `select (select count(*)::int from outbox.sent) as sent, (select count(*)::int from outbox.dead_letters) as dead,
           (select count(*)::int from outbox.messages) as left`,
      ),
    ).toEqual({ sent: codes.length, dead: 300 - codes.length, left: 0 });
  });
});
