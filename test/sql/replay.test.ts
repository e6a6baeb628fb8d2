import { describe, expect, onTestFinished, test } from "vitest";
import { failure, fromNow, noon, type On, type Row, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { attempts, claim, dead, insert, message, places, register, row, rows, settle, value } = outbox;

const micros = (time: string) => time.replace("Z", "000Z");

async function replay(id: number, named: Row = {}, on: On = outbox.pool): Promise<void> {
  const args = Object.keys(named).map((name, i) => `, ${name} => $${i + 2}`);
  await value(`select outbox.replay($1${args.join("")})`, [id, ...Object.values(named)], on);
}

const audit = () => rows("select actor, action, target, affected, details from outbox.audit order by id");

/** A dead letter of this reason, with the attempt it died of. */
async function ended(reason: string, columns: Row = {}): Promise<number> {
  const relayer = await register();
  const id = await insert(columns);
  await claim(relayer.id, 1, { gateway: columns.gateway ?? "default" });
  await settle(relayer.id, [{ id, outcome: "rejected", http_status: 400, error: "HTTP 400: no" }]);
  await outbox.pool.query("update outbox.dead_letters set reason = $2 where id = $1", [id, reason]);
  if (reason !== "rejected")
    await outbox.pool.query("update outbox.attempts set outcome = 'unknown' where message_id = $1", [id]);
  return id;
}

/** A message that was sent at its first attempt. */
async function sent(columns: Row = {}): Promise<{ id: number; relayer: number }> {
  const relayer = await register();
  const id = await insert(columns);
  await claim(relayer.id);
  await settle(relayer.id, [{ id }]);
  return { id, relayer: relayer.id };
}

describe("replay of a dead letter", () => {
  test.each(["rejected", "exhausted", "cancelled"])(
    "that was %s puts it back, with all it was",
    async (reason) => {
      const columns = {
        recipient: "+4915112345678",
        content: "text",
        priority: 0,
        metadata: { order: 7 },
        dedupe_key: "k",
        expires_at: micros(noon(60_000)),
        traceparent: "00-ab",
      };
      const id = await ended(reason, columns);
      const { created_at } = await dead(id);
      await replay(id, { actor: "ayşe", as_of: noon() });
      expect(await places(id)).toEqual(["messages"]);
      expect(await message(id)).toEqual({
        id,
        gateway: "default",
        ...columns,
        available_at: micros(noon()),
        attempts: 0,
        claimed_by: null,
        claimed_at: null,
        last_error: "HTTP 400: no",
        created_at,
        revision: 0,
      });
      expect(await attempts(id)).toMatchObject([
        { attempt: 1, outcome: reason === "rejected" ? "rejected" : "unknown", error: "HTTP 400: no" },
      ]);
      expect(await audit()).toEqual([
        {
          actor: "ayşe",
          action: "replay",
          target: String(id),
          affected: 1,
          details: { changed: [], was: reason, force: false },
        },
      ]);
    },
  );

  test("gives it all attempts again, and is sent under its id", async () => {
    await outbox.pool.query("update outbox.gateways set max_attempts = 1");
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id, outcome: "retry" }]);
    expect((await dead(id)).reason).toBe("exhausted");
    await replay(id);
    expect(await claim(relayer.id)).toMatchObject([{ id, attempt: 1 }]);
    await settle(relayer.id, [{ id }]);
    expect(await places(id)).toEqual(["sent"]);
    expect(await row("select attempts, revision from outbox.sent")).toEqual({ attempts: 1, revision: 0 });
    expect(await attempts(id)).toMatchObject([{ attempt: 1, outcome: "retry" }]);
  });

  test("that was scheduled goes when it was to go", async () => {
    const id = await insert({ available_at: noon(60_000) });
    await outbox.pool.query("select outbox.cancel($1)", [id]);
    await replay(id, { as_of: noon() });
    expect((await message(id)).available_at).toBe(micros(noon(60_000)));
  });

  test("wakes the relayers", async () => {
    const client = await outbox.session();
    const payloads: string[] = [];
    const id = await ended("rejected");
    client.on("notification", ({ payload = "" }) => payloads.push(payload));
    await client.query("listen outbox");
    onTestFinished(() => void client.removeAllListeners("notification"));
    await replay(id);
    await expect.poll(() => payloads).toEqual(["insert"]);
  });
});

describe("a change with it", () => {
  test.each([
    ["rejected", { content: "better" }, 1],
    ["rejected", { recipient: "+4915112345678" }, 1],
    ["rejected", { recipient: "+4915112345678", content: "better" }, 1],
    ["rejected", { recipient: "+905551234567", content: "hi" }, 0],
    ["rejected", { expires_at: micros(fromNow(60_000)) }, 0],
    ["exhausted", { content: "better" }, 0],
    ["cancelled", { recipient: "+4915112345678" }, 0],
  ] as const)("of one that was %s, %o: revision %i", async (reason, changes, revision) => {
    const id = await ended(reason);
    await replay(id, changes);
    expect(await message(id)).toMatchObject({ ...changes, revision });
    expect(await claim((await register()).id)).toMatchObject([{ id, attempt: 1, revision }]);
  });

  test("is on record by its columns, not by its text", async () => {
    const id = await ended("rejected");
    await replay(id, { recipient: "+4915112345678", content: "secret", expires_at: fromNow(60_000) });
    const [entry] = await audit();
    expect(entry?.details).toEqual({
      changed: ["content", "expires_at", "recipient", "revision"],
      expires_at: expect.any(String),
      revision: 1,
      was: "rejected",
      force: false,
    });
    expect(JSON.stringify(entry)).not.toMatch(/secret|4915112345678/);
  });

  test("after an edit adds to its revision", async () => {
    const id = await ended("rejected");
    await outbox.pool.query("select outbox.edit($1, content => 'second')", [id]);
    await replay(id);
    expect((await message(id)).revision).toBe(1);
    await outbox.pool.query("select outbox.bury(array[$1::bigint], '{rejected}', '{400}', '{no}')", [id]);
    await replay(id, { content: "third" });
    expect((await message(id)).revision).toBe(2);
  });

  test("that an INSERT would be refused for is refused, and the dead letter stays", async () => {
    const id = await ended("rejected");
    const before = await dead(id);
    for (const [changes, refused] of [
      [{ recipient: "0555" }, "recipient_not_e164"],
      [{ content: "" }, "content_empty_or_over_1600"],
      [{ expires_at: fromNow(-1_000) }, "expires_at_in_the_past"],
    ] as const)
      expect(await refusal(replay(id, changes))).toBe(`23514 ${refused}`);
    expect(await dead(id)).toEqual(before);
    expect(await audit()).toEqual([]);
  });
});

describe("an expired one", () => {
  test("needs a new end, whatever it died of", async () => {
    for (const reason of ["expired", "exhausted"]) {
      const id = await ended(reason, { expires_at: noon(-1) });
      expect(await failure(replay(id, { as_of: noon() }))).toMatchObject({
        code: "OB007",
        constraint: "replay_needs_expires_at",
        message: expect.stringMatching(new RegExp(`^message ${id} expired at 20`)),
        hint: expect.stringContaining("'infinity'"),
      });
      expect(await refusal(replay(id, { as_of: noon(), force: true }))).toBe("OB007 replay_needs_expires_at");
      await replay(id, { as_of: noon(), expires_at: noon(60_000) });
      expect(await message(id)).toMatchObject({
        expires_at: micros(noon(60_000)),
        available_at: micros(noon()),
      });
    }
  });

  test("may never expire again", async () => {
    const id = await ended("expired", { expires_at: noon(-1) });
    await replay(id, { as_of: noon(), expires_at: "infinity" });
    expect((await message(id)).expires_at).toBeNull();
  });

  test("that was given a new end by an edit needs no other", async () => {
    const id = await ended("expired", { expires_at: noon(-1) });
    await outbox.pool.query("select outbox.edit($1, expires_at => $2, as_of => $3)", [id, noon(1), noon()]);
    await replay(id, { as_of: noon() });
    expect(await places(id)).toEqual(["messages"]);
  });
});

describe("of an unknown outcome", () => {
  test("needs force, and keeps its key", async () => {
    const id = await ended("unknown_outcome");
    for (const force of [false, null])
      expect(await failure(replay(id, { force }))).toMatchObject({
        code: "OB007",
        constraint: "replay_needs_force",
        message: `message ${id} may have been sent: HTTP 400: no`,
        detail: expect.stringContaining("the same Idempotency-Key"),
        hint: expect.stringContaining("force => true"),
      });
    await replay(id, { force: true, content: "better" });
    expect(await message(id)).toMatchObject({ content: "better", revision: 0 });
    expect((await audit())[0]?.details).toMatchObject({ was: "unknown_outcome", force: true });
  });
});

describe("of a message that was sent", () => {
  test("needs force; then its acceptance is among its attempts", async () => {
    const { id, relayer } = await sent();
    const { sent_at } = await row("select sent_at from outbox.sent");
    expect(await failure(replay(id))).toMatchObject({
      code: "OB007",
      constraint: "replay_needs_force",
      message: expect.stringMatching(new RegExp(`^message ${id} was sent at 20`)),
    });
    expect(await places(id)).toEqual(["sent"]);
    await replay(id, { force: true });
    expect(await places(id)).toEqual(["messages"]);
    expect(await message(id)).toMatchObject({ attempts: 0, claimed_by: null, claimed_at: null, revision: 0 });
    expect(await attempts(id)).toEqual([
      {
        message_id: id,
        attempt: 1,
        gateway: "default",
        relayer,
        outcome: "accepted",
        http_status: null,
        gateway_message_id: `gw-${id}`,
        error: null,
        duration_ms: 7,
        ended_at: sent_at,
      },
    ]);
    expect((await audit())[0]?.details).toEqual({ changed: [], was: "sent", force: true });
  });

  test("does not record it twice where every attempt is kept", async () => {
    await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
    const { id } = await sent();
    await replay(id, { force: true });
    expect(await attempts(id)).toHaveLength(1);
  });

  test("again and again keeps every acceptance", async () => {
    const { id } = await sent();
    const relayer = await register();
    for (let n = 0; n < 2; n++) {
      await replay(id, { force: true });
      await claim(relayer.id);
      await settle(relayer.id, [{ id }]);
    }
    expect(await places(id)).toEqual(["sent"]);
    expect(await attempts(id)).toMatchObject([{ outcome: "accepted" }, { outcome: "accepted" }]);
  });

  test("cannot change what was sent, but its end", async () => {
    const { id } = await sent({ expires_at: noon(-1) });
    expect(await failure(replay(id, { force: true, content: "better", as_of: noon(-2) }))).toMatchObject({
      code: "OB005",
      detail: expect.stringContaining("can no longer be changed"),
    });
    expect(await refusal(replay(id, { force: true, as_of: noon() }))).toBe("OB007 replay_needs_expires_at");
    await replay(id, { force: true, content: "hi", expires_at: noon(1), as_of: noon() });
    expect((await message(id)).expires_at).toBe(micros(noon(1)));
  });
});

describe("is refused", () => {
  test("of a message that is in the outbox already", async () => {
    const relayer = await register();
    const id = await insert();
    expect(await failure(replay(id, { force: true }))).toMatchObject({
      code: "OB005",
      message: `message ${id} is in the outbox`,
      detail: expect.stringMatching(/^It is due at 20/),
    });
    // Told of the error before its transaction has let go of the message, which a claim passes by until then.
    await expect.poll(() => claim(relayer.id), { interval: 5 }).toHaveLength(1);
    expect(await failure(replay(id, { force: true }))).toMatchObject({
      code: "OB005",
      message: `message ${id} is being sent by relayer ${relayer.id}`,
    });
  });

  test("of a message that there is not", async () => {
    expect((await failure(replay(404, { force: true }))).code).toBe("OB006");
  });

  test("when its gateway is gone, and the dead letter stays", async () => {
    await outbox.addGateway("gone");
    const id = await ended("rejected", { gateway: "gone" });
    await outbox.pool.query("delete from outbox.gateways where name = 'gone'");
    expect(await refusal(replay(id))).toBe("OB001 unknown_gateway");
    expect(await places(id)).toEqual(["dead_letters"]);
    expect(await audit()).toEqual([]);
  });

  test("when another message has its dedupe_key now, and nothing is lost", async () => {
    const id = await ended("rejected", { dedupe_key: "order-7" });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = clock_timestamp()");
    const other = await insert({ dedupe_key: "order-7" });
    expect(await failure(replay(id, { content: "better" }))).toMatchObject({
      code: "23505",
      constraint: "dedupe_key_seen_before",
      message: 'dedupe_key "order-7" was used before',
      detail: `Message ${other} has it.`,
    });
    expect(await dead(id)).toMatchObject({ content: "hi", revision: 0 });
    expect(await places(other)).toEqual(["messages"]);
  });
});

test("the dedupe_key is its own again for a whole window", async () => {
  const id = await ended("rejected", { dedupe_key: "k" });
  await outbox.pool.query("delete from outbox.dedupe_keys");
  await replay(id);
  expect(await refusal(insert({ dedupe_key: "k" }))).toBe("23505 dedupe_key_seen_before");
  expect(await outbox.enqueue({ dedupe_key: "k" })).toBe(id);
});

describe("at the same time", () => {
  test("as another replay: one wins", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await ended("rejected");
    await one.query("begin");
    await replay(id, {}, one);
    const second = failure(replay(id, {}, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("OB005");
    expect(await places(id)).toEqual(["messages"]);
  });

  test("as another one of what was sent: one wins, and its attempt is recorded once", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const { id } = await sent();
    await one.query("begin");
    await replay(id, { force: true }, one);
    const second = failure(replay(id, { force: true }, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("OB005");
    expect(await attempts(id)).toHaveLength(1);
  });

  test("as one that is rolled back: the other wins", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await ended("rejected");
    await one.query("begin");
    await replay(id, { content: "one" }, one);
    const second = replay(id, { content: "two" }, two);
    await outbox.blocked(two);
    await one.query("rollback");
    await second;
    expect((await message(id)).content).toBe("two");
  });

  test("as an edit: it waits, and sends what was edited", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await ended("rejected");
    await one.query("begin");
    await one.query("select outbox.edit($1, content => 'better')", [id]);
    const second = replay(id, {}, two);
    await outbox.blocked(two);
    await one.query("commit");
    await second;
    expect(await message(id)).toMatchObject({ content: "better", revision: 1 });
  });

  test("as a settle that ends it again: it waits, and goes by how it ended", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await ended("rejected");
    await replay(id);
    await claim(relayer.id);
    await relayer.client.query("begin");
    await settle(relayer.id, [{ id }], { on: relayer.client });
    const again = refusal(replay(id, {}, person));
    await outbox.blocked(person);
    await relayer.client.query("commit");
    expect(await again).toBe("OB007 replay_needs_force");
  });

  test("as the retention that drops it: it waits, and there is none", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await ended("rejected");
    await one.query("begin");
    await one.query("delete from outbox.dead_letters");
    const second = failure(replay(id, {}, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("OB006");
  });

  test("a crowd of replays, edits and cancels: each message is in one place", async () => {
    const people = await Promise.all(Array.from({ length: 6 }, () => outbox.session()));
    const ids = await Promise.all(Array.from({ length: 5 }, () => ended("exhausted")));
    const codes = new Set<string>();
    await Promise.all(
      people.map(async (person, i) => {
        for (let n = 0; n < 60; n++) {
          const id = ids[(n * 7 + i) % ids.length] as number;
          const deed = [`replay(${id})`, `cancel(${id})`, `edit(${id}, content => 'by ${i} at ${n}')`][
            (n + i) % 3
          ];
          await person.query(`select outbox.${deed}`).catch(({ code }) => codes.add(code));
        }
      }),
    );
    expect([...codes].filter((code) => code !== "OB005")).toEqual([]);
    for (const id of ids) expect(await places(id)).toHaveLength(1);
  });
});
