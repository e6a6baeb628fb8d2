import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { pageQuery } from "../../src/api/sent-messages.ts";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { insertSent, makePastDays, type Sent } from "./sent-fixture.ts";

interface Page {
  messages: { id: number; sent_at: string; [column: string]: unknown }[];
  next_cursor: string | null;
}

interface Problem {
  status: number;
  errors: { detail: string; parameter: string }[];
}

const LIST = "/api/v1/messages/sent";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(async () => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
  await makePastDays(pool);
});
beforeEach(() => pool.query("truncate outbox.sent"));
afterAll(() => pool.end());

const list = (query: Record<string, string | number>) =>
  api.json<Page>(
    `${LIST}?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, `${value}`]))}`,
  );

async function listToEnd(query: Record<string, string | number>): Promise<number[]> {
  const ids: number[] = [];
  let page = await list(query);
  ids.push(...page.messages.map(({ id }) => id));
  while (page.next_cursor !== null && page.messages.length > 0) {
    page = await list({ ...query, cursor: page.next_cursor });
    ids.push(...page.messages.map(({ id }) => id));
  }
  return ids;
}

async function faultsOf(query: string): Promise<Problem["errors"]> {
  const problem = await api.json<Problem>(`${LIST}?${query}`);
  expect(problem.status).toBe(400);
  return problem.errors;
}

/** Ties on one microsecond, neighbours one microsecond apart, and both sides of midnight. */
const MIXED: Sent[] = [
  { id: 1, sent_at: "2026-01-01T08:00:00.000001Z" },
  { id: 2, sent_at: "2026-01-01T08:00:00.000002Z" },
  ...[9, 4, 7, 3, 8, 5, 6].map((id) => ({ id, sent_at: "2026-01-01T08:00:00.000002Z" })),
  { id: 10, sent_at: "2026-01-01T08:00:00.000003Z" },
  { id: 12, sent_at: "2026-01-01T23:59:59.999999Z" },
  { id: 11, sent_at: "2026-01-02T00:00:00Z" },
];
const OLDEST_FIRST = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 11];

test("a message is its columns, with every microsecond", async () => {
  await insertSent(pool, [{ id: 42, sent_at: "2026-01-01T08:00:00.123456Z" }]);
  const { messages } = await list({});
  expect(messages).toEqual([
    {
      id: 42,
      status: "sent",
      gateway: "default",
      priority: 1,
      recipient: "+905551234567",
      content: "text 42",
      metadata: { order: 7 },
      dedupe_key: null,
      attempts: 1,
      available_at: "2026-01-01T08:00:00.123456Z",
      expires_at: null,
      created_at: "2026-01-01T08:00:00.123456Z",
      sent_at: "2026-01-01T08:00:00.123456Z",
      gateway_message_id: "gw-42",
      duration_ms: 12,
      last_error: null,
    },
  ]);
});

describe("paging", () => {
  test.each([1, 2, 3, 5, 12, 200])("each message once over ties and midnight, %i a page", async (limit) => {
    await insertSent(pool, MIXED);
    expect(await listToEnd({ limit, order: "asc" })).toEqual(OLDEST_FIRST);
    expect(await listToEnd({ limit, order: "desc" })).toEqual(OLDEST_FIRST.toReversed());
  });

  test("newest first ends with null, also when the last page is full", async () => {
    await insertSent(pool, MIXED);
    expect((await list({ limit: 12 })).next_cursor).toBeNull();
    expect((await list({ limit: 11 })).next_cursor).not.toBeNull();
  });

  test("newest first is not disturbed by what is sent meanwhile", async () => {
    await insertSent(pool, MIXED);
    const first = await list({ limit: 4 });
    await insertSent(pool, [{ id: 99, sent_at: "2026-01-02T12:00:00Z" }]);
    const rest = await list({ cursor: first.next_cursor ?? "" });
    const seen = [...first.messages, ...rest.messages].map(({ id }) => id);
    expect(seen).toEqual(OLDEST_FIRST.toReversed());
  });

  test("oldest first is a feed: it waits at an empty page, and goes on", async () => {
    expect(await list({ order: "asc" })).toEqual({ messages: [], next_cursor: null });
    await insertSent(pool, MIXED.slice(0, 5));
    const first = await list({ order: "asc" });
    const waiting = await list({ order: "asc", cursor: first.next_cursor ?? "" });
    expect(waiting).toEqual({ messages: [], next_cursor: first.next_cursor });
    await insertSent(pool, [{ id: 77, sent_at: "2026-01-02T09:00:00Z" }]);
    const next = await list({ order: "asc", cursor: waiting.next_cursor ?? "" });
    expect(next.messages.map(({ id }) => id)).toEqual([77]);
  });

  test("following the feed while messages arrive shows each exactly once", async () => {
    const total = 400;
    const at = (n: number) => new Date(Date.UTC(2026, 0, 1, 22) + n * 30_000).toISOString();
    const arriving = (async () => {
      for (let n = 0; n < total; n += 8)
        await insertSent(
          pool,
          Array.from({ length: 8 }, (_, tie) => ({ id: n + tie + 1, sent_at: at(n) })),
        );
    })();
    const seen: number[] = [];
    let cursor: string | null = null;
    for (let done = false; seen.length < total; ) {
      const page: Page = await list({ order: "asc", limit: 5, ...(cursor === null ? {} : { cursor }) });
      seen.push(...page.messages.map(({ id }) => id));
      cursor = page.next_cursor;
      if (done && page.messages.length === 0) break;
      done = await Promise.race([arriving.then(() => true), Promise.resolve(done)]);
    }
    expect(seen).toEqual(Array.from({ length: total }, (_, n) => n + 1));
  });

  test("nothing at or above the horizon is shown", async () => {
    const settling = await pool.connect();
    try {
      await settling.query("begin");
      const { rows } = await settling.query<{ now: string }>(
        "select clock_timestamp() as now, pg_advisory_xact_lock_shared(outbox.settle_lock(clock_timestamp()))",
      );
      const now = rows[0]?.now ?? "";
      // Another settle, started later, is done before the first one commits.
      await insertSent(pool, [
        { id: 1, sent_at: "2026-01-01T08:00:00Z" },
        { id: 3, sent_at: now },
      ]);
      const during = await list({ order: "asc" });
      expect(during.messages.map(({ id }) => id)).toEqual([1]);
      await settling.query("commit");
      const after = await list({ order: "asc", cursor: during.next_cursor ?? "" });
      expect(after.messages.map(({ id }) => id)).toEqual([3]);
    } finally {
      settling.release(true);
    }
  });
});

describe("filters", () => {
  beforeEach(() => insertSent(pool, MIXED));

  test("after and before are exclusive, to the microsecond, in any offset", async () => {
    const between = { after: "2026-01-01T08:00:00.000001Z", before: "2026-01-01T11:00:00.000003+03:00" };
    expect(await listToEnd({ ...between, limit: 3 })).toEqual([9, 8, 7, 6, 5, 4, 3, 2]);
    expect(await listToEnd({ ...between, order: "asc" })).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("gateway and recipient", async () => {
    await insertSent(pool, [
      { id: 50, sent_at: "2026-01-01T09:00:00Z", gateway: "backup" },
      { id: 51, sent_at: "2026-01-01T09:00:00Z", recipient: "+4915112345678" },
    ]);
    expect(await listToEnd({ gateway: "backup" })).toEqual([50]);
    expect(await listToEnd({ recipient: "+4915112345678" })).toEqual([51]);
    expect(await listToEnd({ gateway: "backup", recipient: "+4915112345678" })).toEqual([]);
  });

  test("a + that was not escaped is understood, in a number and in an offset", async () => {
    await insertSent(pool, [{ id: 51, sent_at: "2026-01-01T09:00:00Z", recipient: "+4915112345678" }]);
    const bare = await api.json<Page>(`${LIST}?recipient=+4915112345678&before=2026-01-01T12:00:01+03:00`);
    expect(bare.messages.map(({ id }) => id)).toEqual([51]);
  });

  test.each([
    ["limit=0", "limit"],
    ["limit=201", "limit"],
    ["limit=1e1", "limit"],
    ["limit=", "limit"],
    ["limit=2&limit=3", "limit"],
    ["order=down", "order"],
    ["after=2026-01-01", "after"],
    ["after=2026-01-01T00:00:00", "after"],
    ["after=2026-02-30T00:00:00Z", "after"],
    ["after=2026-01-01T24:00:00Z", "after"],
    ["after=0000-01-01T00:00:00Z", "after"],
    ["after=2026-01-01T00:00:00.1234567Z", "after"],
    ["after=2026-01-01T00:00:00%2B16:00", "after"],
    ["before=yesterday", "before"],
    ["before=infinity", "before"],
    ["recipient=05551234567", "recipient"],
    ["gateway=%00", "gateway"],
    ["gateway=", "gateway"],
    ["cursor=", "cursor"],
    ["cursor=AAAA", "cursor"],
    ["recipent=%2B905551234567", "recipent"],
  ])("%s is refused", async (query, parameter) => {
    expect(await faultsOf(query)).toEqual([{ detail: expect.any(String), parameter }]);
  });

  test.each(["2028-02-29T23:59:59.9Z", "9999-12-31T23:59:59.999999+15:59", "0001-01-01t00:00:00z"])(
    "%s is a time that Postgres knows",
    async (before) => {
      expect((await api.request(`${LIST}?${new URLSearchParams({ before })}`)).status).toBe(200);
    },
  );

  test("every fault is told at once", async () => {
    const faults = await faultsOf("limit=x&order=x&after=x&before=x&gateway=X&recipient=x&cursor=x&other=x");
    expect(faults.map(({ parameter }) => parameter)).toEqual([
      "limit",
      "order",
      "after",
      "before",
      "gateway",
      "recipient",
      "cursor",
      "other",
    ]);
  });
});

describe("a cursor", () => {
  beforeEach(() => insertSent(pool, MIXED));

  test.each([
    "order=asc",
    "gateway=default",
    "recipient=%2B905551234567",
    "after=2025-01-01T00:00:00Z",
    "before=2027-01-01T00:00:00Z",
  ])("belongs to its filters: refused with %s", async (query) => {
    const { next_cursor } = await list({ limit: 2 });
    const [fault] = await faultsOf(`cursor=${next_cursor}&${query}`);
    expect(fault).toMatchObject({ parameter: "cursor", detail: expect.stringContaining("other filters") });
  });

  test("does not belong to its page size", async () => {
    const { next_cursor } = await list({ limit: 2 });
    const page = await list({ limit: 3, cursor: next_cursor ?? "" });
    expect(page.messages.map(({ id }) => id)).toEqual([10, 9, 8]);
  });

  test("is refused with any one character changed, left out or added", async () => {
    const cursor = (await list({ limit: 2 })).next_cursor ?? "";
    for (let at = 0; at < cursor.length; at += 7) {
      const other = cursor[at] === "A" ? "B" : "A";
      await faultsOf(`cursor=${cursor.slice(0, at)}${other}${cursor.slice(at + 1)}`);
      await faultsOf(`cursor=${cursor.slice(0, at)}${cursor.slice(at + 1)}`);
    }
    await faultsOf(`cursor=${cursor}A`);
    await faultsOf(`cursor=${cursor}%3D`);
  });
});

test("a deep page costs what the first one costs", async () => {
  await pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
     select n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, 1, now(), now(),
       timestamptz '2026-01-01T00:00:00Z' + (n / 100) * interval '150 s', 'x', 1
     from generate_series(0, 99999) as n`,
  );
  await pool.query("vacuum analyze outbox.sent");

  const blocksRead = async (order: "asc" | "desc", at?: string) => {
    const from = at === undefined ? undefined : { at, id: 50_000 };
    const { text, values } = pageQuery({ order }, from, 51, "2026-11-01T00:00:00.000000Z");
    const { rows } = await pool.query(`explain (analyze, buffers, format json) ${text}`, values);
    const plan = rows[0]?.["QUERY PLAN"][0].Plan;
    expect(JSON.stringify(plan)).not.toMatch(/Seq Scan|"Sort"|Bitmap/);
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  };

  for (const order of ["asc", "desc"] as const) {
    const first = await blocksRead(order);
    expect(await blocksRead(order, "2026-01-01T20:50:00.000000Z")).toBeLessThan(first * 2);
  }
});
