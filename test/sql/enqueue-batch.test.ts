import { describe, expect, test } from "vitest";
import { failure, type On, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { insert, rows, value } = outbox;

interface Put {
  readonly id: number;
  readonly created: boolean;
}

const one = (columns: Row = {}): Row => ({ recipient: "+905551234567", content: "hi", ...columns });

const put = async (messages: Row | readonly Row[], on: On = outbox.pool) =>
  (await rows("select * from outbox.enqueue_batch($1)", [JSON.stringify(messages)], on)) as Put[];

const total = () => value("select count(*)::int from outbox.messages");

interface Fault {
  readonly place: number | null;
  readonly rule: string;
}

async function faults(messages: Row | readonly Row[]): Promise<Fault[]> {
  const { code, detail = "" } = await failure(put(messages));
  expect(code).toBe("OB009");
  return JSON.parse(detail);
}

describe("a batch", () => {
  test("is put in whole, in its order, with all that was given", async () => {
    await outbox.addGateway("bulk");
    const full = {
      recipient: "+4915112345678",
      content: "İyi günler 👋",
      gateway: "bulk",
      priority: 2,
      available_at: "2031-01-01T00:00:00.123456Z",
      expires_at: "2031-01-02T03:00:00+03:00",
      metadata: { order: 7, tags: ["a", null, { b: 1.5 }] },
      dedupe_key: "order-7",
      traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
    };
    const ids = (await put([one(), full, one({ content: "third" })])).map(({ id }) => id);
    expect(ids).toEqual(ids.toSorted((a, b) => a - b));
    expect(await outbox.message(ids[1] ?? 0)).toMatchObject({
      ...full,
      expires_at: "2031-01-02T00:00:00.000000Z",
      attempts: 0,
      claimed_by: null,
      revision: 0,
    });
    expect(await outbox.message(ids[2] ?? 0)).toMatchObject({ content: "third" });
  });

  test("has the table's defaults for what was not given", async () => {
    const [batched] = await put([one()]);
    const inserted = await outbox.message(await insert());
    const { id, available_at, created_at, ...rest } = await outbox.message(batched?.id ?? 0);
    expect(rest).toEqual(Object.fromEntries(Object.entries(inserted).filter(([key]) => key in rest)));
    expect(available_at).toBe(created_at);
  });

  test("may be one object", async () => {
    expect(await put(one())).toEqual([{ id: expect.any(Number), created: true }]);
    expect(await total()).toBe(1);
  });

  test("of none is none", async () => {
    expect(await put([])).toEqual([]);
  });

  test("sets nothing that is the relayers' to set", async () => {
    const [message] = await put([
      one({ id: 999_999, claimed_by: 1, claimed_at: "2026-01-01T00:00:00Z", attempts: 3 }),
    ]);
    expect(message?.id).not.toBe(999_999);
    expect(await outbox.message(message?.id ?? 0)).toMatchObject({ claimed_by: null, attempts: 0 });
  });

  test("of a thousand takes the ids in their order", async () => {
    const all = Array.from({ length: 1_000 }, (_, n) => one({ content: `text ${n}` }));
    const ids = (await put(all)).map(({ id }) => id);
    const contents = await rows("select content from outbox.messages where id = any ($1) order by id", [ids]);
    expect(ids).toEqual(ids.toSorted((a, b) => a - b));
    expect(contents.map(({ content }) => content)).toEqual(all.map(({ content }) => content));
  });

  test("wakes the relayers as any INSERT does: once", async () => {
    const listener = await outbox.session();
    const heard: string[] = [];
    listener.on("notification", ({ payload = "" }) => heard.push(payload));
    await listener.query("listen outbox");
    await put([one(), one(), one()]);
    await outbox.pool.query("select pg_notify('outbox', 'end')");
    await expect.poll(() => heard).toEqual(["insert", "end"]);
  });
});

describe("a batch with faults", () => {
  test("is refused with every one of them, and nothing stays", async () => {
    await outbox.addGateway("bulk");
    const batch = Array.from({ length: 1_000 }, (_, n) => one({ dedupe_key: `k${n}` }));
    batch[3] = one({ expires_at: "2020-01-01T00:00:00Z" });
    batch[500] = one({ gateway: "bulky", recipient: "05551234567" });
    batch[999] = one({ content: "x".repeat(1_601), gateway: "bulk" });
    expect(await faults(batch)).toEqual([
      { place: 3, rule: "expires_at_in_the_past" },
      { place: 500, rule: "recipient_not_e164" },
      { place: 500, rule: "unknown_gateway" },
      { place: 999, rule: "content_empty_or_over_1600" },
    ]);
    expect(await total()).toBe(0);
    expect(await rows("select from outbox.dedupe_keys")).toEqual([]);
  });

  test("says how many it refused", async () => {
    const bad = one({ content: "", recipient: "" });
    expect((await failure(put([one(), bad, bad]))).message).toBe(
      "2 of 3 messages were refused, so none was put in",
    );
    expect((await failure(put(bad))).message).toBe("1 of 1 messages were refused, so none was put in");
  });

  test.each<[Row, string]>([
    [{ recipient: "+0551234567" }, "recipient_not_e164"],
    [{ content: "" }, "content_empty_or_over_1600"],
    [{ priority: 3 }, "priority_not_0_1_or_2"],
    [{ metadata: [] }, "metadata_not_an_object"],
    [{ dedupe_key: "" }, "dedupe_key_empty_or_over_200"],
    [{ available_at: "infinity" }, "available_at_infinite"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "expires_at_in_the_past"],
    [{ expires_at: "infinity" }, "expires_at_infinite"],
    [{ gateway: "gone" }, "unknown_gateway"],
  ])("%j breaks %s", async (columns, rule) => {
    expect(await faults(one(columns))).toEqual([{ place: null, rule }]);
    expect(await faults([one(), one(columns)])).toEqual([{ place: 1, rule }]);
  });

  test("is held against the rules that a DBA has added, too", async () => {
    await outbox.pool.query(
      "alter table outbox.messages add constraint recipient_abroad check (recipient like '+90%') not valid",
    );
    try {
      expect(await faults([one(), one({ recipient: "+4915112345678", content: "" })])).toEqual([
        { place: 1, rule: "content_empty_or_over_1600" },
        { place: 1, rule: "recipient_abroad" },
      ]);
    } finally {
      await outbox.pool.query("alter table outbox.messages drop constraint recipient_abroad");
    }
  });

  test("by something else than a rule fails as that", async () => {
    expect(await failure(put([one({ content: null })]))).toMatchObject({ code: "23502", column: "content" });
  });

  test("by a rule that only the INSERT sees is not passed over", async () => {
    // The place of a default: what enqueue_batch leaves to the table is not in what it holds against the rules.
    await outbox.pool.query(
      "alter table outbox.messages add constraint attempts_none check (attempts > 0) not valid",
    );
    try {
      expect(await failure(put([one()]))).toMatchObject({ code: "23514", constraint: "attempts_none" });
    } finally {
      await outbox.pool.query("alter table outbox.messages drop constraint attempts_none");
    }
  });
});

describe("a dedupe_key in a batch", () => {
  test("that was used gives the message that has it, whatever else is said", async () => {
    const first = await insert({ dedupe_key: "k" });
    expect(await put([one({ dedupe_key: "k", content: "", gateway: "default" }), one()])).toEqual([
      { id: first, created: false },
      { id: expect.any(Number), created: true },
    ]);
    expect(await total()).toBe(2);
  });

  test("that comes twice is one message, the first of them", async () => {
    const [a, b, c] = await put([
      one({ dedupe_key: "k", content: "first" }),
      one(),
      one({ dedupe_key: "k", content: "second" }),
    ]);
    expect([a?.created, b?.created, c?.created]).toEqual([true, true, false]);
    expect(c?.id).toBe(a?.id);
    expect(await outbox.message(a?.id ?? 0)).toMatchObject({ content: "first" });
  });

  test("two batches with the same keys in opposite orders: the second waits, and gets the first's", async () => {
    const [first, second] = [await outbox.session(), await outbox.session()];
    const keys = ["a", "b", "c"].map((dedupe_key) => one({ dedupe_key }));
    await first.query("begin");
    const mine = await put(keys, first);
    const theirs = put(keys.toReversed(), second);
    await outbox.blocked(second);
    await first.query("commit");
    expect((await theirs).toReversed()).toEqual(mine.map(({ id }) => ({ id, created: false })));
  });

  test("batches that cross again and again never deadlock", async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `k${n}`);
    const shuffled = (seed: number) => keys.toSorted((a, b) => mixed(a, seed) - mixed(b, seed));
    const batches = Array.from({ length: 12 }, (_, n) =>
      put(shuffled(n).map((dedupe_key) => one({ dedupe_key }))),
    );
    const created = (await Promise.all(batches)).flat().filter((entry) => entry.created);
    expect(created).toHaveLength(keys.length);
  });
});

function mixed(text: string, seed: number): number {
  let mix = seed;
  for (const letter of text) mix = (mix * 31 + letter.charCodeAt(0)) % 997;
  return mix;
}
