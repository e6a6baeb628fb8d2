import { describe, expect, onTestFinished, test } from "vitest";
import { failure, fromNow, noon, type On, type Row, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, dead, insert, message, places, register, rows, settle, value } = outbox;

const micros = (time: string) => time.replace("Z", "000Z");

function edit(id: number, named: Row = {}, on: On = outbox.pool): Promise<boolean> {
  const args = Object.keys(named).map((name, i) => `, ${name} => $${i + 2}`);
  return value(`select outbox.edit($1${args.join("")})`, [id, ...Object.values(named)], on);
}

const audit = () => rows("select actor, action, target, affected, details from outbox.audit order by id");

/** A dead letter of this reason. */
async function ended(reason: string, columns: Row = {}): Promise<number> {
  const id = await insert(columns);
  await outbox.pool.query("select outbox.bury(array[$1::bigint], array[$2], '{400}', '{no}')", [id, reason]);
  return id;
}

describe("edit of a message that waits", () => {
  test("changes what is named, and nothing else", async () => {
    const id = await insert({ metadata: { order: 7 }, dedupe_key: "k" });
    const before = await message(id);
    const changes = {
      recipient: "+4915112345678",
      content: "another",
      available_at: micros(fromNow(60_000)),
      expires_at: micros(fromNow(120_000)),
      priority: 2,
    };
    expect(await edit(id, { ...changes, actor: "ayşe" })).toBe(true);
    expect(await message(id)).toEqual({ ...before, ...changes });
    for (const [name, to] of [
      ["recipient", "+905551234567"],
      ["content", "third"],
      ["available_at", micros(noon())],
      ["expires_at", micros(noon(1))],
      ["priority", 0],
    ] as const) {
      const then = await message(id);
      expect(await edit(id, { [name]: to })).toBe(true);
      expect(await message(id)).toEqual({ ...then, [name]: to });
    }
  });

  test("is on record: which columns, but neither the recipient nor the text", async () => {
    const id = await insert();
    const [available_at, expires_at] = [fromNow(60_000), fromNow(120_000)];
    await edit(id, {
      recipient: "+4915112345678",
      content: "secret",
      available_at,
      expires_at,
      actor: "ayşe",
    });
    const [entry] = await audit();
    expect(entry).toEqual({
      actor: "ayşe",
      action: "edit",
      target: String(id),
      affected: 1,
      details: {
        changed: ["available_at", "content", "expires_at", "recipient"],
        available_at: expect.any(String),
        expires_at: expect.any(String),
      },
    });
    expect(Date.parse(entry?.details.available_at)).toBe(Date.parse(available_at));
    expect(JSON.stringify(entry)).not.toMatch(/secret|4915112345678/);
  });

  test("that names nothing, or what is there already, changes nothing and is not on record", async () => {
    const id = await insert({ expires_at: fromNow(60_000) });
    const before = await message(id);
    expect(await edit(id)).toBe(false);
    const { recipient, content, available_at, expires_at, priority } = before;
    expect(await edit(id, { recipient, content, available_at, expires_at, priority })).toBe(false);
    expect(await message(id)).toEqual(before);
    expect(await audit()).toEqual([]);
  });

  test("takes infinity for an end that never comes", async () => {
    const id = await insert({ expires_at: fromNow(60_000) });
    expect(await edit(id, { expires_at: "infinity" })).toBe(true);
    expect((await message(id)).expires_at).toBeNull();
    expect(await edit(id, { expires_at: "infinity" })).toBe(false);
    expect((await audit())[0]?.details).toEqual({ changed: ["expires_at"], expires_at: null });
  });

  test("raises the revision of one that was rejected and replayed as it was: the gateway knows that key", async () => {
    const { id: relayer } = await register();
    const id = await insert();
    await claim(relayer);
    await settle(relayer, [{ id, outcome: "rejected", error: "HTTP 400" }]);
    await outbox.pool.query("select outbox.replay($1)", [id]);
    expect(await edit(id, { priority: 2 })).toBe(true);
    expect((await message(id)).revision).toBe(0);
    expect(await edit(id, { content: "better" })).toBe(true);
    expect((await message(id)).revision).toBe(1);
  });

  test("does so, too, if that one expired or was cancelled before it was tried again", async () => {
    const { id: relayer } = await register();
    const id = await insert();
    await claim(relayer);
    await settle(relayer, [{ id, outcome: "rejected", error: "HTTP 400" }]);
    await outbox.pool.query("select outbox.replay($1)", [id]);
    await outbox.pool.query("select outbox.cancel($1)", [id]);
    expect(await edit(id, { content: "better" })).toBe(true);
    expect(await dead(id)).toMatchObject({ reason: "cancelled", revision: 1 });
  });

  test("keeps the revision, and attempts that were made", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id, outcome: "retry", error: "HTTP 503" }]);
    await edit(id, { content: "another" });
    expect(await message(id)).toMatchObject({ revision: 0, attempts: 1, last_error: "HTTP 503" });
  });
});

describe("edit of a dead letter", () => {
  test.each([
    ["rejected", { content: "another" }, 1],
    ["rejected", { recipient: "+4915112345678" }, 1],
    ["rejected", { priority: 0, available_at: noon(), expires_at: noon() }, 0],
    ["exhausted", { content: "another" }, 0],
    ["unknown_outcome", { recipient: "+4915112345678" }, 0],
  ] as const)("that was %s, %o: its revision is then %i", async (reason, changes, revision) => {
    const id = await ended(reason);
    expect(await edit(id, changes)).toBe(true);
    expect(await places(id)).toEqual(["dead_letters"]);
    expect(await dead(id)).toMatchObject({
      ...Object.fromEntries(
        Object.entries(changes).map(([k, v]) => [k, k.endsWith("_at") ? micros(String(v)) : v]),
      ),
      reason,
      revision,
      error: "no",
      http_status: 400,
    });
  });

  test("raises the revision with each change, and says so on record", async () => {
    const id = await ended("rejected");
    await edit(id, { content: "second" });
    await edit(id, { content: "third" });
    await edit(id, { content: "third" });
    expect((await dead(id)).revision).toBe(2);
    expect((await audit()).map(({ details }) => details)).toEqual([
      { changed: ["content", "revision"], revision: 1 },
      { changed: ["content", "revision"], revision: 2 },
    ]);
  });
});

describe("edit is refused", () => {
  const cases = [
    ["a recipient that is none", { recipient: "0555" }, "23514 recipient_not_e164"],
    ["an empty text", { content: "" }, "23514 content_empty_or_over_1600"],
    ["a text of 1,601 characters", { content: "x".repeat(1_601) }, "23514 content_empty_or_over_1600"],
    ["another priority", { priority: 3 }, "23514 priority_not_0_1_or_2"],
    ["a schedule that never comes", { available_at: "infinity" }, "23514 available_at_infinite"],
    ["an end in the past", { expires_at: fromNow(-1_000) }, "23514 expires_at_in_the_past"],
    ["an end before all time", { expires_at: "-infinity" }, "23514 expires_at_in_the_past"],
  ] as const;

  test.each(cases)("for %s, while it waits", async (_, changes, refused) => {
    const id = await insert();
    expect(await refusal(edit(id, changes))).toBe(refused);
    expect(await audit()).toEqual([]);
  });

  test.each(cases)("for %s, of a dead letter", async (_, changes, refused) => {
    const id = await ended("rejected");
    expect(await refusal(edit(id, changes))).toBe(refused);
    expect(await audit()).toEqual([]);
  });

  test("for an end in the past with a sentence that helps", async () => {
    const id = await insert();
    expect(await failure(edit(id, { expires_at: "2020-01-01T00:00:00Z" }))).toMatchObject({
      message: expect.stringMatching(/^expires_at 20.* is in the past$/),
      detail: `Message ${id} could never be sent.`,
      hint: "A message with expires_at => 'infinity' never expires.",
    });
  });

  test("of a message that is being sent, was sent, or is not there", async () => {
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    expect(await failure(edit(id, { content: "late" }))).toMatchObject({
      code: "OB005",
      message: `message ${id} is being sent by relayer ${relayer.id}`,
      detail: expect.stringContaining("it can be edited then"),
    });
    await settle(relayer.id, [{ id }]);
    expect(await failure(edit(id, { content: "late" }))).toMatchObject({
      code: "OB005",
      message: expect.stringContaining(`message ${id} was sent at`),
      detail: expect.stringContaining("can no longer be edited"),
    });
    expect((await failure(edit(404, { content: "late" }))).code).toBe("OB006");
  });
});

describe("at the same time", () => {
  test("as a claim: it waits, and finds it claimed", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await insert();
    await relayer.client.query("begin");
    await claim(relayer.id, 1, { on: relayer.client });
    const edited = failure(edit(id, { content: "late" }, person));
    await outbox.blocked(person);
    await relayer.client.query("commit");
    expect((await edited).code).toBe("OB005");
    expect((await message(id)).content).toBe("hi");
  });

  test("as a settle that buries it: it waits, and edits the dead letter by its rule", async () => {
    const relayer = await register();
    const person = await outbox.session();
    const id = await insert();
    await claim(relayer.id);
    await relayer.client.query("begin");
    await settle(relayer.id, [{ id, outcome: "rejected" }], { on: relayer.client });
    const edited = edit(id, { content: "better" }, person);
    await outbox.blocked(person);
    await relayer.client.query("commit");
    expect(await edited).toBe(true);
    expect(await dead(id)).toMatchObject({ content: "better", revision: 1 });
  });

  test("as another edit: each changes what it names", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    const id = await insert();
    await one.query("begin");
    await edit(id, { content: "one" }, one);
    const second = edit(id, { priority: 0 }, two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(true);
    expect(await message(id)).toMatchObject({ content: "one", priority: 0 });
  });
});

test("an edit of what waits wakes the relayers, which may have passed it by; of a dead letter it does not", async () => {
  const client = await outbox.session();
  const payloads: string[] = [];
  client.on("notification", ({ payload = "" }) => payloads.push(payload));
  await client.query("listen outbox");
  onTestFinished(() => void client.removeAllListeners("notification"));
  await outbox.pool.query("select outbox.stay_awake('1 minute')");
  const [buried, waiting] = [await ended("rejected"), await insert({ available_at: fromNow(60_000) })];
  await edit(buried, { content: "another" });
  await edit(waiting);
  await edit(waiting, { available_at: fromNow(0) });
  await expect.poll(() => payloads).toEqual(["edit"]);
});
