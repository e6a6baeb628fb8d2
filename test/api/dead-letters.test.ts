import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { deadLettersQuery } from "../../src/api/dead-letters.ts";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { bury, type Dead, DIED_AT } from "./dead-letters-fixture.ts";
import { as, OPERATORS_KEYS } from "./operators-keys.ts";

interface Page {
  dead_letters: { id: number; [column: string]: unknown }[];
  next_cursor: string | null;
}

interface Problem {
  status: number;
  errors: { detail: string; parameter: string }[];
}

const LIST = "/api/v1/dead-letters";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
});
beforeEach(() => pool.query("truncate outbox.dead_letters"));
afterAll(() => pool.end());

const list = (query: Record<string, string | number>, init?: RequestInit, of = api) =>
  of.json<Page>(
    `${LIST}?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, `${value}`]))}`,
    init,
  );

async function listToEnd(query: Record<string, string | number>): Promise<number[]> {
  const ids: number[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page: Page = await list(cursor === "" ? query : { ...query, cursor });
    ids.push(...page.dead_letters.map(({ id }) => id));
    cursor = page.next_cursor;
  }
  return ids;
}

/** Ties on one microsecond, and neighbours one microsecond apart. */
const MIXED: Dead[] = [
  { id: 1, died_at: "2026-01-01T08:00:00.000001Z", reason: "rejected" },
  ...[9, 4, 7].map((id) => ({ id, died_at: "2026-01-01T08:00:00.000002Z", reason: "exhausted" })),
  ...[3, 8, 5, 6].map((id) => ({ id, died_at: "2026-01-01T08:00:00.000002Z", reason: "expired" })),
  { id: 2, died_at: "2026-01-01T08:00:00.000003Z", reason: "cancelled", gateway: "backup" },
  { id: 10, died_at: "2026-01-02T08:00:00.000000Z", reason: "unknown_outcome", recipient: "+4915112345678" },
];
const OLDEST_FIRST = [1, 3, 4, 5, 6, 7, 8, 9, 2, 10];

test("a dead letter is its columns, with every microsecond, and its status", async () => {
  await bury(pool, [{ id: 42, died_at: "2026-01-01T08:00:00.123456Z" }]);
  await pool.query(`
    update outbox.dead_letters set
      dedupe_key = 'k', claimed_by = 3, claimed_at = '2026-01-01T08:00:00Z', last_error = 'why', traceparent = '00-ab',
      http_status = 503, error = 'HTTP 503 for 905551234567', revision = 2, expires_at = '2100-01-01T00:00:00Z'`);
  expect(await list({})).toEqual({
    dead_letters: [
      {
        id: 42,
        status: "failed",
        gateway: "default",
        priority: 1,
        recipient: "+905551234567",
        content: "text 42",
        metadata: { order: 7 },
        dedupe_key: "k",
        attempts: 5,
        available_at: "2026-01-01T07:00:00.000000Z",
        expires_at: "2100-01-01T00:00:00.000000Z",
        created_at: "2026-01-01T07:00:00.000000Z",
        last_error: "why",
        claimed_by: 3,
        claimed_at: "2026-01-01T08:00:00.000000Z",
        traceparent: "00-ab",
        revision: 2,
        died_at: "2026-01-01T08:00:00.123456Z",
        reason: "exhausted",
        http_status: 503,
        error: "HTTP 503 for 905551234567",
      },
    ],
    next_cursor: null,
  });
  const { rows } = await pool.query("select * from outbox.dead_letters");
  expect(Object.keys((await list({})).dead_letters[0] ?? {}).sort()).toEqual(
    [...Object.keys(rows[0]), "status"].sort(),
  );
});

test("its status is the one that outbox.all_messages shows", async () => {
  await bury(pool, MIXED);
  const { rows } = await pool.query("select id, status from outbox.all_messages order by id");
  const shown = (await list({})).dead_letters.map(({ id, status }) => ({ id, status }));
  expect(shown.toSorted((a, b) => a.id - b.id)).toEqual(rows);
});

test("without read_pii numbers are masked, contents left out, and of answers only the status is shown", async () => {
  await bury(pool, [{ id: 42, error: "HTTP 400: 905551234567 is unknown" }]);
  await pool.query("update outbox.dead_letters set last_error = error");
  const guarded = apiUnderTest(pool, { keys: OPERATORS_KEYS });
  const [masked] = (await list({}, as("operator"), guarded)).dead_letters;
  expect(masked).toMatchObject({
    recipient: "+90********67",
    last_error: "HTTP 400",
    error: "HTTP 400",
  });
  expect(masked).not.toHaveProperty("content");
  const [whole] = (await list({}, as("lead"), guarded)).dead_letters;
  expect(whole).toMatchObject({ recipient: "+905551234567", content: "text 42" });
});

test("to filter by recipient takes read_pii", async () => {
  const guarded = apiUnderTest(pool, { keys: OPERATORS_KEYS });
  const path = `${LIST}?recipient=%2B905551234567`;
  expect((await guarded.request(path, as("operator"))).status).toBe(403);
  expect((await guarded.request(path, as("lead"))).status).toBe(200);
});

describe("paging", () => {
  beforeEach(() => bury(pool, MIXED));

  test.each([1, 2, 3, 10, 200])("each once over ties, %i a page", async (limit) => {
    expect(await listToEnd({ limit })).toEqual(OLDEST_FIRST.toReversed());
    expect(await listToEnd({ limit, order: "asc" })).toEqual(OLDEST_FIRST);
  });

  test("the next page is linked, and the last one has none", async () => {
    const answer = await api.request(`${LIST}?limit=4&reason=expired`);
    expect(answer.headers.get("Link")).toBeNull();
    const first = await api.request(`${LIST}?limit=3&reason=expired`);
    const next = /^<(?<path>.+)>; rel="next"$/.exec(first.headers.get("Link") ?? "")?.groups?.path ?? "";
    expect((await api.json<Page>(next)).dead_letters.map(({ id }) => id)).toEqual([3]);
  });

  test("is not disturbed by what is replayed or dies meanwhile", async () => {
    const first = await list({ limit: 4 });
    await pool.query("delete from outbox.dead_letters where id in (2, 6)");
    await bury(pool, [{ id: 99, died_at: "2026-01-03T00:00:00Z" }]);
    const rest = await list({ cursor: first.next_cursor ?? "" });
    expect(first.dead_letters.map(({ id }) => id)).toEqual([10, 2, 9, 8]);
    expect(rest.dead_letters.map(({ id }) => id)).toEqual([7, 5, 4, 3, 1]);
  });

  test.each([
    ["order", "asc"],
    ["reason", "expired"],
    ["gateway", "default"],
    ["recipient", "+905551234567"],
    ["died_after", "2025-01-01T00:00:00Z"],
    ["died_before", "2027-01-01T00:00:00Z"],
  ])("a cursor belongs to its filters: refused with another %s", async (parameter, value) => {
    const { next_cursor } = await list({ limit: 2 });
    const query = new URLSearchParams({ cursor: next_cursor ?? "", [parameter]: value });
    const { status, errors } = await api.json<Problem>(`${LIST}?${query}`);
    expect(status).toBe(400);
    expect(errors).toEqual([{ detail: expect.stringContaining("other filters"), parameter: "cursor" }]);
  });
});

describe("a filter", () => {
  beforeEach(() => bury(pool, MIXED));

  test.each<[Record<string, string>, number[]]>([
    [{ reason: "expired" }, [8, 6, 5, 3]],
    [{ reason: "unknown_outcome" }, [10]],
    [{ gateway: "backup" }, [2]],
    [{ recipient: "+4915112345678" }, [10]],
    [{ died_after: "2026-01-01T08:00:00.000002Z" }, [10, 2]],
    [{ died_before: "2026-01-01T11:00:00.000002+03:00" }, [1]],
    [{ reason: "rejected", gateway: "backup" }, []],
    [{ reason: "exhausted", gateway: "default", died_after: DIED_AT }, [9, 7, 4]],
  ])("%o", async (filter, ids) => {
    expect(await listToEnd({ ...filter, limit: 2 })).toEqual(ids);
    expect(await listToEnd({ ...filter, limit: 2, order: "asc" })).toEqual(ids.toReversed());
  });

  test.each([
    ["reason=sent", "reason"],
    ["reason=expired,rejected", "reason"],
    ["reason=expired&reason=rejected", "reason"],
    ["limit=201", "limit"],
    ["order=newest", "order"],
    ["gateway=", "gateway"],
    ["recipient=05551234567", "recipient"],
    ["died_after=yesterday", "died_after"],
    ["died_before=2026-02-30T00:00:00Z", "died_before"],
    ["cursor=AAAA", "cursor"],
    ["resaon=expired", "resaon"],
  ])("%s is refused", async (query, parameter) => {
    const { status, errors } = await api.json<Problem>(`${LIST}?${query}`);
    expect(status).toBe(400);
    expect(errors).toEqual([{ detail: expect.any(String), parameter }]);
  });
});

test("a rare reason among many others costs what a page costs, the first and a deep one", async () => {
  await pool.query(
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       created_at, died_at, reason)
     select n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, now(), timestamptz '2026-01-01' + n * interval '1 ms',
       case when n % 500 = 0 and n < 80000 then 'rejected' else 'expired' end
     from generate_series(1, 100000) as n`,
  );
  await pool.query("vacuum analyze outbox.dead_letters");
  const blocks = async (reason: "rejected" | "expired" | "exhausted", order: "asc" | "desc", id?: number) => {
    const at = new Date(Date.parse("2026-01-01T00:00:00Z") + (id ?? 0)).toISOString();
    const { text, values } = deadLettersQuery(
      { reason, order },
      id === undefined ? undefined : { at, id },
      51,
    );
    const { rows } = await pool.query(`explain (analyze, buffers, format json) ${text}`, values);
    const plan = rows[0]?.["QUERY PLAN"][0].Plan;
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  };
  for (const order of ["asc", "desc"] as const) {
    expect(await blocks("rejected", order)).toBeLessThan(70);
    expect(await blocks("rejected", order, 40_000)).toBeLessThan(70);
    expect(await blocks("expired", order, 40_000)).toBeLessThan(70);
    expect(await blocks("exhausted", order)).toBeLessThan(10);
  }
});
