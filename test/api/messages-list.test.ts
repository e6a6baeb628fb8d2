import { beforeEach, describe, expect, test } from "vitest";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { type MessagePage, useMessages } from "./messages-under-test.ts";

const outbox = useOutbox();
const { insert } = outbox;
const { ask, answered, problem, register, settleAs, messageThat, get } = useMessages(outbox);

type Query = Record<string, string | number>;

const query = (filters: Query) =>
  `?${new URLSearchParams(Object.entries(filters).map(([name, value]) => [name, `${value}`]))}`;

const list = (filters: Query = {}) => answered<MessagePage>(200, ask(query(filters)));

const idsOf = ({ messages }: MessagePage) => messages.map(({ id }) => id);

/** All pages, and what happens between them. */
async function listToEnd(
  filters: Query,
  between: () => Promise<unknown> = async () => {},
): Promise<number[]> {
  const ids: number[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page: MessagePage = await list(cursor === "" ? filters : { ...filters, cursor });
    ids.push(...idsOf(page));
    cursor = page.next_cursor;
    if (cursor !== null) await between();
  }
  return ids;
}

const newestFirst = (ids: readonly number[]) => ids.toSorted((a, b) => b - a);

async function faultsOf(filters: string): Promise<unknown> {
  return (await problem("invalid-request", 400, ask(filters))).errors;
}

test("a message is all its columns, wherever it is", async () => {
  const waits = await insert({ metadata: { order: 7 }, expires_at: "2031-01-01T00:00:00.000001Z" });
  const [message] = (await list()).messages;
  expect(message).toEqual({
    id: waits,
    status: "pending",
    gateway: "default",
    priority: 1,
    recipient: "+905551234567",
    content: "hi",
    metadata: { order: 7 },
    dedupe_key: null,
    attempts: 0,
    available_at: expect.stringMatching(/\.\d{6}Z$/),
    expires_at: "2031-01-01T00:00:00.000001Z",
    claimed_by: null,
    claimed_at: null,
    last_error: null,
    traceparent: null,
    created_at: expect.stringMatching(/\.\d{6}Z$/),
    sent_at: null,
    gateway_message_id: null,
    duration_ms: null,
    died_at: null,
    reason: null,
    http_status: null,
    error: null,
    revision: 0,
  });
  const sent = await messageThat("was sent");
  const rejected = await messageThat("was rejected");
  expect((await list()).messages).toMatchObject([
    { id: rejected, status: "failed", reason: "rejected", http_status: 400, died_at: expect.any(String) },
    { id: sent, status: "sent", gateway_message_id: `gw-${sent}`, sent_at: expect.any(String) },
    { id: waits, status: "pending" },
  ]);
});

describe("paging", () => {
  test.each([1, 2, 3, 7, 200])("shows each once, %i a page, whatever times they share", async (limit) => {
    // One INSERT, so one created_at; and one settle, so one sent_at.
    const ids = (
      await outbox.rows(
        "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 10) returning id",
      )
    ).map(({ id }) => id as number);
    await settleAs(await register(), new Map(ids.slice(2, 6).map((id) => [id, "accepted"])));
    expect(await listToEnd({ limit })).toEqual(newestFirst(ids));
  });

  test("ends with null, also when the last page is full", async () => {
    await outbox.insertMany(3);
    expect((await list({ limit: 3 })).next_cursor).toBeNull();
    expect((await list({ limit: 2 })).next_cursor).not.toBeNull();
    expect(await list({ gateway: "none" })).toEqual({ messages: [], next_cursor: null });
  });

  test("shows each once while they are claimed, sent, refused, cancelled, edited and replayed", async () => {
    const ids = await outbox.insertMany(120);
    const relayer = await register();
    const OUTCOMES: OutcomeKind[] = ["accepted", "rejected", "accepted", "unknown", "retry"];
    let turn = 0;
    const shake = async () => {
      const some = ids.filter((id) => (id + turn) % 6 === 0);
      await settleAs(
        relayer,
        new Map(some.map((id) => [id, OUTCOMES[(id + turn) % OUTCOMES.length] ?? "accepted"])),
      );
      const places = await outbox.rows("select id, status from outbox.all_messages where id = any ($1)", [
        ids.filter((id) => (id + turn) % 7 === 0),
      ]);
      for (const { id, status } of places)
        if (status === "pending") await outbox.pool.query("select outbox.cancel($1)", [id]);
        else await outbox.pool.query("select outbox.replay($1, force => true)", [id]);
      await insert(); // newer than where the reader is
      turn++;
    };
    expect(await listToEnd({ limit: 5 }, shake)).toEqual(newestFirst(ids));
    const places = await outbox.rows("select distinct status from outbox.all_messages");
    expect(places.length).toBeGreaterThanOrEqual(4);
  });

  test("the next page is in the Link, with the filters", async () => {
    await outbox.insertMany(3);
    const first = await ask("?limit=2&status=pending");
    const link = first.headers.get("Link") ?? "";
    const { next_cursor } = (await first.clone().json()) as MessagePage;
    const [, path] = /^<\/api\/v1\/messages(\?.*)>; rel="next"$/.exec(link) ?? [];
    expect(new URLSearchParams(path).get("cursor")).toBe(next_cursor);
    const next = await ask(path ?? "");
    expect(next.headers.get("Link")).toBeNull();
    expect(idsOf((await next.json()) as MessagePage)).toHaveLength(1);
  });
});

describe("filters", () => {
  test("status: one, or several with commas", async () => {
    const sent = await messageThat("was sent");
    const rejected = await messageThat("was rejected");
    const expired = await messageThat("expired");
    const cancelled = await insert();
    await outbox.pool.query("select outbox.cancel($1)", [cancelled]);
    const sending = await messageThat("is being sent");
    const pending = await insert();
    for (const [status, ids] of [
      ["pending", [pending]],
      ["sending", [sending]],
      ["sent", [sent]],
      ["failed", [rejected]],
      ["expired", [expired]],
      ["cancelled", [cancelled]],
      ["pending,sending", [pending, sending]],
      ["sending,sent,failed", [sending, rejected, sent]],
      ["cancelled,expired", [cancelled, expired]],
      ["sent,sent", [sent]],
      [
        "pending,sending,sent,failed,expired,cancelled",
        [pending, sending, cancelled, expired, rejected, sent],
      ],
    ] as const) {
      const { messages } = await list({ status });
      expect.soft(idsOf({ messages, next_cursor: null }), status).toEqual(ids);
      for (const message of messages) expect.soft(status.split(",")).toContain(message.status);
    }
  });

  test("gateway, recipient, priority, and all of them together", async () => {
    await outbox.addGateway("bulk");
    const recipient = "+4915112345678";
    const [plain, bulk, number, urgent, each] = [
      await insert(),
      await insert({ gateway: "bulk" }),
      await insert({ recipient }),
      await insert({ priority: 0 }),
      await insert({ gateway: "bulk", recipient, priority: 0 }),
    ];
    expect(idsOf(await list({ gateway: "bulk" }))).toEqual([each, bulk]);
    expect(idsOf(await list({ recipient }))).toEqual([each, number]);
    expect(idsOf(await list({ priority: 0 }))).toEqual([each, urgent]);
    expect(idsOf(await list({ priority: 1, gateway: "default" }))).toEqual([number, plain]);
    expect(idsOf(await list({ gateway: "bulk", recipient, priority: 0, status: "pending" }))).toEqual([each]);
    expect(idsOf(await list({ gateway: "no-such-gateway" }))).toEqual([]);
  });

  test("created_after and created_before are exclusive, to the microsecond, wherever the message is", async () => {
    const at = (micros: number) => `2026-03-01T08:00:00.00000${micros}Z`;
    const ids: number[] = [];
    for (const micros of [1, 2, 3, 4, 5]) ids.push(await insert({ created_at: at(micros) }));
    const [, sent, dead, waits] = ids as [number, number, number, number, number];
    await settleAs(
      await register(),
      new Map([
        [sent, "accepted"],
        [dead, "rejected"],
      ]),
    );
    expect(await listToEnd({ created_after: at(1), created_before: at(5), limit: 1 })).toEqual([
      waits,
      dead,
      sent,
    ]);
    expect(
      idsOf(await list({ created_after: at(2), created_before: "2026-03-01T11:00:00.000004+03:00" })),
    ).toEqual([dead]);
    expect(idsOf(await list({ created_after: at(5) }))).toEqual([]);
    expect(idsOf(await list({ created_before: at(1) }))).toEqual([]);
  });

  test("created_after finds what was sent by a clock that was set back", async () => {
    const id = await messageThat("was sent");
    await outbox.pool.query(
      "update outbox.sent set sent_at = created_at - interval '59 minutes' where id = $1",
      [id],
    );
    const { created_at } = await get(id);
    const created_after = new Date(Date.parse(created_at) - 1).toISOString();
    expect(idsOf(await list({ created_after }))).toEqual([id]);
  });

  test("metadata: what contains this object", async () => {
    const a = await insert({ metadata: { order: 7, tags: ["x", "y"], who: { id: 1, name: "a" } } });
    const b = await insert({ metadata: { order: 7 } });
    await insert({ metadata: { order: "7" } });
    const find = async (metadata: unknown) => idsOf(await list({ metadata: JSON.stringify(metadata) }));
    expect(await find({ order: 7 })).toEqual([b, a]);
    expect(await find({ tags: ["y"] })).toEqual([a]);
    expect(await find({ who: { name: "a" } })).toEqual([a]);
    expect(await find({ who: { name: "b" } })).toEqual([]);
    expect(await find({})).toHaveLength(3);
  });

  test.each([
    ["?status=", "status"],
    ["?status=Sent", "status"],
    ["?status=sent,", "status"],
    ["?status=sent%20,failed", "status"],
    ["?status=sent&status=failed", "status"],
    ["?priority=3", "priority"],
    ["?priority=01", "priority"],
    ["?gateway=Default", "gateway"],
    ["?recipient=5551234567", "recipient"],
    ["?created_after=2026-01-01", "created_after"],
    ["?created_before=infinity", "created_before"],
    ["?metadata=", "metadata"],
    ["?metadata={", "metadata"],
    ["?metadata=[]", "metadata"],
    ["?metadata=null", "metadata"],
    ['?metadata={"a":"%5Cu0000"}', "metadata"],
    ['?metadata={"%5Cu0000":1}', "metadata"],
    ['?metadata={"a":"%5Cud800"}', "metadata"],
    ['?metadata={"a":[1e400]}', "metadata"],
    ['?metadata={"a":9007199254740993}', "metadata"],
    [`?metadata=${'{"a":'.repeat(60)}1${"}".repeat(60)}`, "metadata"],
    ["?limit=0", "limit"],
    ["?order=asc", "order"],
    ["?cursor=AAAA", "cursor"],
  ])("%s is refused", async (filters, parameter) => {
    expect(await faultsOf(filters)).toEqual([{ detail: expect.any(String), parameter }]);
  });

  test("every fault is told at once", async () => {
    const faults = await faultsOf("?status=x&priority=x&created_after=x&metadata=x&other=1");
    expect(faults).toHaveLength(5);
  });
});

describe("a cursor", () => {
  beforeEach(() => outbox.insertMany(5));

  const cursorOf = async (filters: Query = {}) => (await list({ limit: 2, ...filters })).next_cursor ?? "";

  test.each<Query>([
    { status: "pending" },
    { gateway: "default" },
    { recipient: "+905551234567" },
    { priority: 1 },
    { created_after: "2020-01-01T00:00:00Z" },
    { created_before: "2040-01-01T00:00:00Z" },
    { metadata: "{}" },
  ])("belongs to its filters: refused with %j", async (filters) => {
    const refused = [{ detail: expect.stringContaining("other filters"), parameter: "cursor" }];
    expect(await faultsOf(query({ ...filters, cursor: await cursorOf() }))).toEqual(refused);
    expect(await faultsOf(query({ cursor: await cursorOf(filters) }))).toEqual(refused);
    expect(idsOf(await list({ ...filters, cursor: await cursorOf(filters) }))).toHaveLength(3);
  });

  test("knows a list of states in any order, and metadata with any spaces", async () => {
    const cursor = await cursorOf({ status: "pending,sent", metadata: "{}" });
    expect(idsOf(await list({ status: "sent,pending,sent", metadata: " { } ", cursor }))).toHaveLength(3);
  });

  test("does not belong to its page size", async () => {
    expect(idsOf(await list({ limit: 1, cursor: await cursorOf() }))).toHaveLength(1);
  });

  test("of another list is refused", async () => {
    const relayer = await register();
    const ids = idsOf(await list());
    await settleAs(relayer, new Map(ids.map((id) => [id, "accepted"])));
    const { next_cursor } = await answered<MessagePage>(200, ask("/sent?limit=2"));
    expect(await faultsOf(query({ cursor: next_cursor ?? "" }))).toEqual([
      { detail: expect.stringContaining("another list"), parameter: "cursor" },
    ]);
  });

  test("is refused with any one character changed, left out or added", async () => {
    const cursor = await cursorOf();
    for (let at = 0; at < cursor.length; at += 3) {
      const other = cursor[at] === "A" ? "B" : "A";
      await faultsOf(query({ cursor: `${cursor.slice(0, at)}${other}${cursor.slice(at + 1)}` }));
      await faultsOf(query({ cursor: `${cursor.slice(0, at)}${cursor.slice(at + 1)}` }));
    }
    await faultsOf(query({ cursor: `${cursor}A` }));
  });
});

describe("without read_pii", () => {
  test("numbers are masked, contents left out, and of answers only the status is shown", async () => {
    const id = await messageThat("was rejected");
    const { messages } = await answered<MessagePage>(200, ask("", { who: "read" }));
    expect(messages).toHaveLength(1);
    expect(messages[0]).toMatchObject({
      id,
      recipient: "+90********67",
      error: "HTTP 400",
      last_error: "HTTP 400",
    });
    expect(messages[0]).not.toHaveProperty("content");
  });

  test("nobody filters by recipient", async () => {
    const { detail } = await problem(
      "insufficient-scope",
      403,
      ask("?recipient=%2B905551234567", { who: "read" }),
    );
    expect(detail).toContain("read_pii");
  });
});

test.each(["write", "operate"] as const)("a key for %s alone does not list", async (who) => {
  await problem("insufficient-scope", 403, ask("", { who }));
});
