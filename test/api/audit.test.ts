import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { auditQuery } from "../../src/api/routes/audit.ts";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { as, OPERATORS_KEYS } from "./operators-keys.ts";

interface Page {
  entries: { id: number; [column: string]: unknown }[];
  next_cursor: string | null;
}

const AUDIT = "/api/v1/audit";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
});
beforeEach(() => pool.query("truncate outbox.audit, outbox.messages, outbox.dead_letters restart identity"));
afterAll(() => pool.end());

const list = (query: Record<string, string | number> = {}) =>
  api.json<Page>(
    `${AUDIT}?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, `${value}`]))}`,
  );

async function listToEnd(query: Record<string, string | number>): Promise<number[]> {
  const ids: number[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page: Page = await list(cursor === "" ? query : { ...query, cursor });
    ids.push(...page.entries.map(({ id }) => id));
    cursor = page.next_cursor;
  }
  return ids;
}

/** With ties, and an id that came later than its time. */
const fill = () =>
  pool.query(`
    insert into outbox.audit (at, actor, action, target)
    values
      ('2026-01-01T08:00:00.000001Z', 'api', 'pause', null),
      ('2026-01-01T08:00:00.000002Z', 'api', 'edit', '7'),
      ('2026-01-01T08:00:00.000002Z', 'ayşe', 'cancel', '7'),
      ('2026-01-01T08:00:00.000002Z', 'api', 'pause', 'bulk'),
      ('2026-01-01T09:00:00Z', 'api', 'resume', 'bulk'),
      ('2026-01-01T08:30:00Z', 'ayşe', 'resume', null)`);
const NEWEST_FIRST = [5, 6, 4, 3, 2, 1];

test("an entry is its columns, with every microsecond", async () => {
  await pool.query(
    "insert into outbox.audit (at, actor, action, target, affected, details) values ('2026-01-01T08:00:00.123456Z', 'ayşe', 'replay_where', null, 5000000000, '{\"replay\": 3}')",
  );
  const { rows } = await pool.query("select session_user");
  expect(await list()).toEqual({
    entries: [
      {
        id: 1,
        at: "2026-01-01T08:00:00.123456Z",
        actor: "ayşe",
        db_role: rows[0].session_user,
        action: "replay_where",
        target: null,
        affected: 5_000_000_000,
        details: { replay: 3 },
      },
    ],
    next_cursor: null,
  });
});

test("what was done in SQL and over REST is there, under whose name it was done", async () => {
  await pool.query("select outbox.pause('default', actor => 'night shift')");
  await api.request("/api/v1/gateways/default/resume", { method: "POST" });
  expect((await list()).entries).toMatchObject([
    { actor: "api", action: "resume", target: "default", affected: 1 },
    { actor: "night shift", action: "pause", target: "default", affected: 1 },
  ]);
});

test("no action leaves a recipient or a text in its details", async () => {
  const { rows } = await pool.query(
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'private') returning id",
  );
  const id = rows[0].id;
  for (const call of [
    "edit($1, recipient => '+4915112345678', content => 'secret', priority => 2)",
    "cancel($1)",
    "edit($1, recipient => '+4915112345679')",
    "replay($1, recipient => '+4915112345670', content => 'hidden')",
    "cancel($1)",
  ])
    await pool.query(`select outbox.${call}`, [id]);
  await pool.query("select outbox.replay_where(error_like => '%+4915112345678%', dry_run => false)");
  const { entries } = await list();
  expect(entries).toHaveLength(6);
  expect(JSON.stringify(entries)).not.toMatch(/5551234567|15112345|private|secret|hidden/);
});

test("should a number be in the details after all, it is masked without read_pii", async () => {
  await pool.query(
    `insert into outbox.audit (actor, action, target, details)
     values ('x', 'note', '123456789', '{"why": "asked by +905551234567", "of": [{"at": "2026-01-01T08:00:00.123456+00:00", "id": 123456789}]}')`,
  );
  const guarded = apiUnderTest(pool, { keys: OPERATORS_KEYS });
  const [masked] = (await guarded.json<Page>(AUDIT, as("reader"))).entries;
  expect(masked).toMatchObject({
    target: "123456789",
    details: {
      why: "asked by +90********67",
      of: [{ at: "2026-01-01T08:00:00.123456+00:00", id: 123456789 }],
    },
  });
  const [whole] = (await guarded.json<Page>(AUDIT, as("lead"))).entries;
  expect(whole).toMatchObject({ details: { why: "asked by +905551234567" } });
});

describe("paging", () => {
  beforeEach(fill);

  test.each([1, 2, 3, 6, 200])("each once, by time and then number, %i a page", async (limit) => {
    expect(await listToEnd({ limit })).toEqual(NEWEST_FIRST);
  });

  test("is not disturbed by what is done meanwhile", async () => {
    const first = await list({ limit: 3 });
    await pool.query("select outbox.pause()");
    const rest = await list({ cursor: first.next_cursor ?? "" });
    expect([...first.entries, ...rest.entries].map(({ id }) => id)).toEqual(NEWEST_FIRST);
  });

  test("the next page is linked", async () => {
    const answer = await api.request(`${AUDIT}?limit=5&before=2999-01-01T00:00:00%2B00:00`);
    const next = /^<(?<path>.+)>; rel="next"$/.exec(answer.headers.get("Link") ?? "")?.groups?.path ?? "";
    expect((await api.json<Page>(next)).entries.map(({ id }) => id)).toEqual([1]);
  });

  test.each([
    ["actor", "api"],
    ["action", "pause"],
    ["target", "7"],
    ["after", "2025-01-01T00:00:00Z"],
    ["before", "2027-01-01T00:00:00Z"],
  ])("a cursor belongs to its filters: refused with another %s", async (parameter, value) => {
    const { next_cursor } = await list({ limit: 2 });
    const query = new URLSearchParams({ cursor: next_cursor ?? "", [parameter]: value });
    const answer = await api.request(`${AUDIT}?${query}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ parameter: "cursor" }] });
  });
});

describe("a filter", () => {
  beforeEach(fill);

  test.each<[Record<string, string>, number[]]>([
    [{ actor: "ayşe" }, [6, 3]],
    [{ action: "pause" }, [4, 1]],
    [{ target: "7" }, [3, 2]],
    [{ target: "bulk", actor: "api", action: "resume" }, [5]],
    [{ after: "2026-01-01T08:00:00.000002Z" }, [5, 6]],
    [{ before: "2026-01-01T11:00:00.000002+03:00" }, [1]],
    [{ after: "2026-01-01T08:00:00.000001Z", before: "2026-01-01T09:00:00Z" }, [6, 4, 3, 2]],
    [{ actor: "nobody" }, []],
  ])("%o", async (filter, ids) => {
    expect(await listToEnd({ ...filter, limit: 1 })).toEqual(ids);
  });

  test.each([
    ["actor=", "actor"],
    ["actor=%00", "actor"],
    [`target=${"x".repeat(201)}`, "target"],
    ["action=pause&action=resume", "action"],
    ["after=yesterday", "after"],
    ["before=2026-13-01T00:00:00Z", "before"],
    ["limit=0", "limit"],
    ["cursor=AAAA", "cursor"],
    ["order=asc", "order"],
  ])("%s is refused", async (query, parameter) => {
    const answer = await api.request(`${AUDIT}?${query}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ parameter }] });
  });
});

test("what is rare among much else costs what a page costs, and so does a deep page", async () => {
  await pool.query(`
    insert into outbox.audit (at, actor, action, target)
    select
      timestamptz '2026-01-01' + n * interval '1 ms',
      case when n < 500 and n % 10 = 0 then 'rare' else 'api' end,
      case when n < 500 and n % 10 = 0 then 'pause' else 'edit' end,
      n::text
    from generate_series(1, 50000) as n`);
  await pool.query("vacuum analyze outbox.audit");
  const blocks = async (...asked: Parameters<typeof auditQuery>) => {
    const { text, values } = auditQuery(...asked);
    const { rows } = await pool.query(`explain (analyze, buffers, format json) ${text}`, values);
    const plan = rows[0]?.["QUERY PLAN"][0].Plan;
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  };
  const deep = { at: "2026-01-01T00:00:20Z", id: 20_000 };
  for (const [filters, from] of [
    [{}, undefined],
    [{}, deep],
    [{ before: "2026-01-01T00:00:30Z" }, deep],
    [{ after: "2026-01-01T00:00:10Z", before: "2026-01-01T00:00:20Z" }, undefined],
    [{ actor: "rare" }, undefined],
    [{ actor: "api" }, deep],
    [{ action: "pause" }, undefined],
    [{ actor: "nobody" }, undefined],
  ] as const)
    expect(await blocks(filters, from, 51), JSON.stringify(filters)).toBeLessThan(70);
});
