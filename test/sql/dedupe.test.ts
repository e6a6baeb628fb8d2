import { describe, expect, test } from "vitest";
import { failure, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { enqueue, insert, rows, value } = outbox;

const messages = () => value("select count(*)::int from outbox.messages");
const windowOver = () => outbox.pool.query("update outbox.dedupe_keys set expires_at = clock_timestamp()");

describe("a dedupe_key used within the window", () => {
  test("is refused by a plain INSERT, which names the key and its message", async () => {
    const id = await insert({ dedupe_key: "order-7" });
    expect(await failure(insert({ dedupe_key: "order-7" }))).toMatchObject({
      code: "23505",
      schema: "outbox",
      table: "messages",
      column: "dedupe_key",
      constraint: "dedupe_key_seen_before",
      message: 'dedupe_key "order-7" was used before',
      detail: `Message ${id} has it.`,
    });
    expect(await messages()).toBe(1);
  });

  test("makes enqueue return the message that has it, whatever else it was told", async () => {
    const id = await enqueue({ dedupe_key: "order-7" });
    expect(await enqueue({ dedupe_key: "order-7", content: "another text" })).toBe(id);
    expect(await enqueue({ dedupe_key: "order-7", content: "" })).toBe(id);
    expect(await messages()).toBe(1);
  });

  test("is one for INSERT and enqueue", async () => {
    const inserted = await insert({ dedupe_key: "a" });
    expect(await enqueue({ dedupe_key: "a" })).toBe(inserted);
    await enqueue({ dedupe_key: "b" });
    expect(await refusal(insert({ dedupe_key: "b" }))).toBe("23505 dedupe_key_seen_before");
  });

  test("is one over all gateways, and as it is written", async () => {
    await outbox.addGateway("other");
    const id = await enqueue({ dedupe_key: "a" });
    expect(await enqueue({ dedupe_key: "a", gateway: "other" })).toBe(id);
    expect(await enqueue({ dedupe_key: "A" })).not.toBe(id);
    expect(await enqueue({ dedupe_key: "a " })).not.toBe(id);
  });

  test("is refused twice in one statement", async () => {
    const twice = outbox.pool.query(
      "insert into outbox.messages (recipient, content, dedupe_key) select '+905551234567', 'hi', 'k' from generate_series(1, 2)",
    );
    expect(await refusal(twice)).toBe("23505 dedupe_key_seen_before");
    expect(await messages()).toBe(0);
    expect(await rows("select from outbox.dedupe_keys")).toEqual([]);
  });

  test("stays used after the message was sent, and after it died", async () => {
    const relayer = await outbox.register();
    const [sent, rejected] = [
      await enqueue({ dedupe_key: "sent" }),
      await enqueue({ dedupe_key: "rejected" }),
    ];
    await outbox.claim(relayer.id);
    await outbox.settle(relayer.id, [{ id: sent }, { id: rejected, outcome: "rejected" }]);
    expect(await messages()).toBe(0);
    expect(await enqueue({ dedupe_key: "sent" })).toBe(sent);
    expect(await enqueue({ dedupe_key: "rejected" })).toBe(rejected);
    expect(await refusal(insert({ dedupe_key: "sent" }))).toBe("23505 dedupe_key_seen_before");
  });
});

describe("the window", () => {
  test("is the gateway's, from the insert on", async () => {
    await outbox.addGateway("short", { dedupe_window: "1 minute" });
    await insert({ dedupe_key: "long" });
    await insert({ dedupe_key: "short", gateway: "short" });
    const keys = await rows(
      `select dedupe_key, round(extract(epoch from expires_at - clock_timestamp()) / 60)::int as minutes
       from outbox.dedupe_keys order by dedupe_key`,
    );
    expect(keys).toEqual([
      { dedupe_key: "long", minutes: 24 * 60 },
      { dedupe_key: "short", minutes: 1 },
    ]);
  });

  test("once over lets the key be used again, by INSERT and by enqueue", async () => {
    const first = await insert({ dedupe_key: "k" });
    await windowOver();
    const second = await insert({ dedupe_key: "k" });
    await windowOver();
    const third = await enqueue({ dedupe_key: "k" });
    expect(new Set([first, second, third]).size).toBe(3);
    expect(await enqueue({ dedupe_key: "k" })).toBe(third);
    expect(await messages()).toBe(3);
  });

  test("is not made longer by those who are refused", async () => {
    await insert({ dedupe_key: "k" });
    const before = await value("select expires_at from outbox.dedupe_keys");
    await enqueue({ dedupe_key: "k" });
    await refusal(insert({ dedupe_key: "k" }));
    expect(await value("select expires_at from outbox.dedupe_keys")).toBe(before);
  });
});

describe("two at once with one key", () => {
  test("enqueue: the second waits for the first and gets its id", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    const first = await enqueue({ dedupe_key: "k" }, one);
    const second = enqueue({ dedupe_key: "k" }, two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(first);
    expect(await messages()).toBe(1);
  });

  test("enqueue: the second has it after all when the first is rolled back", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    const first = await enqueue({ dedupe_key: "k" }, one);
    const second = enqueue({ dedupe_key: "k" }, two);
    await outbox.blocked(two);
    await one.query("rollback");
    expect(await second).not.toBe(first);
    expect(await outbox.places(await second)).toEqual(["messages"]);
    expect(await value("select message_id from outbox.dedupe_keys")).toBe(await second);
  });

  test("enqueue then INSERT: the INSERT is refused once the first commits", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    await enqueue({ dedupe_key: "k" }, one);
    const second = refusal(insert({ dedupe_key: "k" }, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe("23505 dedupe_key_seen_before");
  });

  test("INSERT then enqueue: enqueue gets the id that was inserted", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    const first = await insert({ dedupe_key: "k" }, one);
    const second = enqueue({ dedupe_key: "k" }, two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(first);
  });

  test("a key whose window is over is taken over once", async () => {
    await insert({ dedupe_key: "k" });
    await windowOver();
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    const first = await enqueue({ dedupe_key: "k" }, one);
    const second = enqueue({ dedupe_key: "k" }, two);
    await outbox.blocked(two);
    await one.query("commit");
    expect(await second).toBe(first);
    expect(await messages()).toBe(2);
  });

  test("a crowd makes one message", async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => enqueue({ dedupe_key: "k" })));
    expect(new Set(ids).size).toBe(1);
    expect(await messages()).toBe(1);
  });

  test("in a serializable transaction the second fails, to be tried again, and does not spin", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await two.query("begin isolation level serializable");
    await two.query("select from outbox.messages");
    await one.query("begin");
    await enqueue({ dedupe_key: "k" }, one);
    const second = failure(enqueue({ dedupe_key: "k" }, two));
    await outbox.blocked(two);
    await one.query("commit");
    expect((await second).code).toBe("40001");
  });
});

describe("a rolled back use", () => {
  test("to a savepoint frees the key", async () => {
    const producer = await outbox.session();
    await producer.query("begin");
    await producer.query("savepoint before");
    const first = await enqueue({ dedupe_key: "k" }, producer);
    await producer.query("rollback to before");
    const second = await enqueue({ dedupe_key: "k" }, producer);
    await producer.query("commit");
    expect(second).not.toBe(first);
    expect(await outbox.places(second)).toEqual(["messages"]);
  });

  test("by a bad row frees the key", async () => {
    await refusal(insert({ dedupe_key: "k", content: "" }));
    await refusal(enqueue({ dedupe_key: "k", content: "" }));
    await insert({ dedupe_key: "k" });
  });
});

test("remember_key for a gateway that is gone fails, and does not spin", async () => {
  const session = await outbox.session();
  await session.query("set statement_timeout = '2s'");
  expect(await refusal(session.query("select outbox.remember_key('k', 1, 'gone')"))).toBe(
    "OB001 unknown_gateway",
  );
});
