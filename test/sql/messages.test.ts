import { describe, expect, test } from "vitest";
import { failure, fromNow, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { insert, message, rows, value } = outbox;

describe("INSERT INTO outbox.messages", () => {
  test("needs a recipient and a content, and has a default for the rest", async () => {
    const id = await value(
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi') returning id",
    );
    expect(await message(id)).toEqual({
      id,
      gateway: "default",
      priority: 1,
      recipient: "+905551234567",
      content: "hi",
      metadata: {},
      dedupe_key: null,
      available_at: expect.any(String),
      expires_at: null,
      attempts: 0,
      claimed_by: null,
      claimed_at: null,
      last_error: null,
      traceparent: null,
      created_at: expect.any(String),
      revision: 0,
    });
    expect(
      await value(
        `select available_at = created_at and created_at between now() - interval '1 minute' and now()
         from outbox.messages`,
      ),
    ).toBe(true);
  });

  test("takes many rows at once, by VALUES and by SELECT, each with its own id", async () => {
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'a'), ('+905551234568', 'b')",
    );
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content) select '+90555' || 1000000 + n, 'c' from generate_series(1, 1000) as n",
    );
    expect(await value("select count(distinct id)::int from outbox.messages")).toBe(1002);
  });

  test("takes COPY, which refuses the same", async () => {
    // COPY … FROM STDIN needs a library; the server reads the same rows from a program.
    const copy = (rows: string) =>
      outbox.pool.query(
        `copy outbox.messages (recipient, content, gateway, dedupe_key) from program $$printf '${rows}'$$`,
      );
    await copy("+905551234567\\tone\\tdefault\\t\\\\N\\n+905551234567\\ttwo\\tdefault\\tk\\n");
    expect(await rows("select content, dedupe_key from outbox.messages order by id")).toEqual([
      { content: "one", dedupe_key: null },
      { content: "two", dedupe_key: "k" },
    ]);
    expect(await refusal(copy("123\\tone\\tdefault\\t\\\\N\\n"))).toBe("23514 recipient_not_e164");
    expect(await refusal(copy("+905551234567\\tone\\tdefault\\tk\\n"))).toBe("23505 dedupe_key_seen_before");
    expect(await refusal(copy("+905551234567\\tone\\tnope\\t\\\\N\\n"))).toBe("OB001 unknown_gateway");
    expect(await value("select count(*)::int from outbox.messages")).toBe(2);
  });

  test("refuses all rows of a statement for one that is bad", async () => {
    const error = await refusal(
      outbox.pool.query(
        "insert into outbox.messages (recipient, content) values ('+905551234567', 'a'), ('+905551234568', '')",
      ),
    );
    expect(error).toBe("23514 content_empty_or_over_1600");
    expect(await value("select count(*)::int from outbox.messages")).toBe(0);
  });

  test("leaves nothing when its transaction is rolled back, a dedupe key neither", async () => {
    const producer = await outbox.session();
    await producer.query("begin");
    await insert({ dedupe_key: "k" }, producer);
    await outbox.enqueue({ dedupe_key: "k2" }, producer);
    await producer.query("rollback");
    expect(await rows("select from outbox.messages")).toEqual([]);
    expect(await rows("select from outbox.dedupe_keys")).toEqual([]);
  });

  test("does not take an id from a producer", async () => {
    expect((await failure(insert({ id: 5 }))).code).toBe("428C9");
  });
});

const ACCEPTED: Record<string, readonly unknown[]> = {
  recipient: ["+1234567", "+123456789012345", "+905551234567"],
  content: ["x", "x".repeat(1600), "ğ".repeat(1600), "😀".repeat(1600), " ", "two\nlines"],
  priority: [0, 1, 2],
  metadata: [{}, { order: 7, nested: { list: [1, null] } }],
  dedupe_key: [null, "x", "y".repeat(200)],
  available_at: ["2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"],
  expires_at: [null, fromNow(60_000)],
  traceparent: [null, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
};

const REFUSED: readonly (readonly [string, string, readonly unknown[]])[] = [
  [
    "recipient_not_e164",
    "recipient",
    [
      "",
      "905551234567",
      "+0905551234567",
      "+123456",
      "+1234567890123456",
      "+90 555 123 45 67",
      "+90555123456x",
      " +905551234567",
      "+905551234567\n",
      "+905551234567\n+905551234568",
      "+٩٠٥٥٥١٢٣٤٥٦٧",
    ],
  ],
  ["content_empty_or_over_1600", "content", ["", "x".repeat(1601)]],
  ["priority_not_0_1_or_2", "priority", [-1, 3]],
  ["metadata_not_an_object", "metadata", ["[]", "1", '"text"', "null", "true"]],
  ["dedupe_key_empty_or_over_200", "dedupe_key", ["", "x".repeat(201)]],
  ["available_at_infinite", "available_at", ["infinity", "-infinity"]],
  ["expires_at_in_the_past", "expires_at", [fromNow(-1_000), "-infinity"]],
  ["expires_at_infinite", "expires_at", ["infinity"]],
  ["attempts_negative", "attempts", [-1]],
];

describe("a message's columns", () => {
  test.each(Object.entries(ACCEPTED))("%s takes what it should", async (column, values) => {
    for (const accepted of values) {
      const id = await insert({ [column]: accepted });
      if (!column.endsWith("_at")) expect((await message(id))[column]).toEqual(accepted);
    }
  });

  test.each(REFUSED)("%s refuses", async (constraint, column, values) => {
    for (const refused of values)
      expect.soft(await refusal(insert({ [column]: refused })), String(refused)).toBe(`23514 ${constraint}`);
  });

  test("recipient, content, gateway, priority, metadata and available_at refuse null", async () => {
    for (const column of ["recipient", "content", "priority", "metadata", "available_at"])
      expect.soft(await failure(insert({ [column]: null }))).toMatchObject({ code: "23502", column });
    expect(await refusal(insert({ gateway: null }))).toBe("OB001 unknown_gateway");
  });

  test("expires_at may not be the very moment of the insert", async () => {
    const error = refusal(
      outbox.pool.query(
        "insert into outbox.messages (recipient, content, expires_at) values ('+905551234567', 'hi', now())",
      ),
    );
    expect(await error).toBe("23514 expires_at_in_the_past");
  });

  test("a claim is whole and counted, or it is none", async () => {
    const id = await insert();
    const set = (columns: string) =>
      outbox.pool.query(`update outbox.messages set ${columns} where id = ${id}`);
    expect(await refusal(set("claimed_by = 1, attempts = 1"))).toBe("23514 claimed_by_without_claimed_at");
    expect(await refusal(set("claimed_at = now(), attempts = 1"))).toBe(
      "23514 claimed_by_without_claimed_at",
    );
    expect(await refusal(set("claimed_by = 1, claimed_at = now()"))).toBe("23514 claimed_but_not_counted");
    await set("claimed_by = 1, claimed_at = now(), attempts = 1");
  });

  test("an id is one message", async () => {
    const id = await insert();
    const again = outbox.pool.query(
      `insert into outbox.messages (id, recipient, content) overriding system value values (${id}, '+905551234567', 'hi')`,
    );
    expect(await refusal(again)).toBe("23505 messages_pkey");
  });
});

describe("outbox.enqueue", () => {
  test("with a recipient and a content is the plain INSERT", async () => {
    const enqueued = await message(await outbox.enqueue());
    const inserted = await message(await insert());
    expect(enqueued).toEqual({
      ...inserted,
      id: inserted.id - 1,
      available_at: expect.any(String),
      created_at: expect.any(String),
    });
    expect(enqueued.available_at).toBe(enqueued.created_at);
  });

  test("takes every column that is a producer's", async () => {
    await outbox.addGateway("other");
    const columns = {
      recipient: "+4915112345678",
      content: "all of it",
      gateway: "other",
      priority: 0,
      available_at: "2100-01-01T00:00:00.000000Z",
      expires_at: "2100-01-02T00:00:00.000000Z",
      metadata: { order: 7 },
      dedupe_key: "order-7",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    };
    expect(await message(await outbox.enqueue(columns))).toMatchObject(columns);
  });

  test("works with its arguments in order, and never clashes with the ids of plain INSERTs", async () => {
    const ids = [
      await value("select outbox.enqueue('+905551234567', 'a')"),
      await insert(),
      await value("select outbox.enqueue('+905551234567', 'b', 'default', 2)"),
      await insert(),
    ];
    expect(new Set(ids).size).toBe(4);
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
  });

  test("refuses what the table refuses, by the same names", async () => {
    for (const [constraint, column, values] of REFUSED) {
      if (column === "attempts") continue;
      for (const refused of values)
        expect
          .soft(await refusal(outbox.enqueue({ [column]: refused })), String(refused))
          .toBe(`23514 ${constraint}`);
    }
    expect(await refusal(outbox.enqueue({ gateway: "nope" }))).toBe("OB001 unknown_gateway");
    expect(await refusal(outbox.enqueue({ gateway: "nope", dedupe_key: "k" }))).toBe("OB001 unknown_gateway");
    expect(await rows("select from outbox.dedupe_keys")).toEqual([]);
  });

  test("is one call for each row of a query", async () => {
    await outbox.pool.query(
      "select outbox.enqueue('+905551234567', 'text ' || n) from generate_series(1, 50) as n",
    );
    expect(await value("select count(*)::int from outbox.messages")).toBe(50);
  });
});

test("a message that says it is claimed or tried is refused: nobody would ever send or rescue it", async () => {
  expect(await refusal(insert({ attempts: 1 }))).toBe("OB004 claimed_at_insert");
  expect(await refusal(insert({ claimed_by: 7, claimed_at: fromNow(0), attempts: 1 }))).toBe(
    "OB004 claimed_at_insert",
  );
});

test("a waiting message that a person moves to another gateway needs one that there is", async () => {
  const id = await insert({});
  const moved = outbox.pool.query("update outbox.messages set gateway = 'typo' where id = $1", [id]);
  expect(await refusal(moved)).toBe("OB001 unknown_gateway");
  await outbox.pool.query("insert into outbox.gateways (name) values ('bulk')");
  await outbox.pool.query("update outbox.messages set gateway = 'bulk' where id = $1", [id]);
  expect(await message(id)).toMatchObject({ gateway: "bulk" });
});

test("a key that a person gives to a waiting message is seen from then on", async () => {
  const [first, second] = [await insert({}), await insert({})];
  await outbox.pool.query("update outbox.messages set dedupe_key = 'k' where id = $1", [first]);
  const again = outbox.pool.query("update outbox.messages set dedupe_key = 'k' where id = $1", [second]);
  expect(await refusal(again)).toBe("23505 dedupe_key_seen_before");
});
