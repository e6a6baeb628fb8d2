import { describe, expect, test } from "vitest";
import { failure, type On, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { insert, rows, value } = outbox;

const HI = [
  { recipient: "+905551234567", content: "one" },
  { recipient: "+905551234567", content: "two" },
];

const once = (
  key: string,
  {
    messages = HI as unknown,
    actor = "ali",
    as_of = undefined as string | undefined,
    on = outbox.pool as On,
  } = {},
): Promise<Row[]> =>
  rows(
    "select * from outbox.enqueue_once($1, $2, $3, coalesce($4, clock_timestamp()))",
    [key, typeof messages === "string" ? messages : JSON.stringify(messages), actor, as_of],
    on,
  );

const total = () => value("select count(*)::int from outbox.messages");
const replayed = (put: Row[]) => put.map((entry) => ({ ...entry, replayed: true }));

test("the same key with the same messages puts nothing in, and returns what it returned", async () => {
  const used = await insert({ dedupe_key: "k" });
  const messages = [...HI, { ...HI[0], dedupe_key: "k" }];
  const first = await once("key", { messages });
  expect(first).toEqual([
    { id: expect.any(Number), created: true, replayed: false },
    { id: expect.any(Number), created: true, replayed: false },
    { id: used, created: false, replayed: false },
  ]);
  expect(await once("key", { messages })).toEqual(replayed(first));
  expect(await once("key", { messages })).toEqual(replayed(first));
  expect(await total()).toBe(3);
});

test("the same messages are the same whatever the order of their keys and the spaces", async () => {
  const first = await once("key", { messages: '[{"recipient":"+905551234567","content":"hi"}]' });
  const again = ' [ { "content" : "hi", "recipient" : "+905551234567" } ] ';
  expect(await once("key", { messages: again })).toEqual(replayed(first));
});

test.each([
  ["another text", [{ ...HI[0], content: "One" }, HI[1]]],
  ["another order", HI.toReversed()],
  ["one more", [...HI, HI[0]]],
  ["one object", HI[0]],
])("%s is refused", async (_name, messages) => {
  await once("key");
  expect(await failure(once("key", { messages }))).toMatchObject({
    code: "OB010",
    message: 'the key "key" came with another request',
  });
  expect(await total()).toBe(2);
});

test("a key is one of its actor alone", async () => {
  const ali = await once("key");
  const veli = await once("key", { actor: "veli", messages: [HI[0]] });
  expect(veli).toEqual([{ id: expect.any(Number), created: true, replayed: false }]);
  expect(await once("key")).toEqual(replayed(ali));
});

test("a key is free again after 24 hours", async () => {
  const first = await once("key", { as_of: "2030-06-01T12:00:00Z" });
  expect(await once("key", { as_of: "2030-06-02T11:59:59.999999Z" })).toEqual(replayed(first));
  const next = await once("key", { as_of: "2030-06-02T12:00:00Z", messages: [HI[1]] });
  expect(next).toEqual([{ id: expect.any(Number), created: true, replayed: false }]);
  expect(await once("key", { as_of: "2030-06-03T11:00:00Z", messages: [HI[1]] })).toEqual(replayed(next));
});

test("a batch that is refused leaves the key free", async () => {
  expect((await failure(once("key", { messages: [{ ...HI[0], content: "" }] }))).code).toBe("OB009");
  expect(await once("key")).toHaveLength(2);
});

describe("two at once with one key", () => {
  test("the second waits, and gets the first's messages", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    const first = await once("key", { on: one });
    const second = once("key", { on: two });
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toEqual(replayed(first));
    expect(await total()).toBe(2);
  });

  test("the second puts them in after all when the first is rolled back", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    await once("key", { on: one });
    const second = once("key", { on: two });
    await outbox.blocked(two);
    await one.query("rollback");
    expect((await second).map((entry) => entry.replayed)).toEqual([false, false]);
    expect(await total()).toBe(2);
  });

  test("the second is refused when its messages are others", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    await once("key", { on: one });
    const second = failure(once("key", { on: two, messages: [HI[0]] }));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("OB010");
  });
});
