import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { bury, buryMany, DIED_AT } from "./dead-letters-fixture.ts";
import { as, OPERATORS_KEYS } from "./operators-keys.ts";

interface Replay {
  id: number;
  status: string;
  matched: number;
  replayed: number;
  skipped: number;
  [column: string]: unknown;
}

interface DryRun {
  dry_run: boolean;
  matched: number;
  replayable: number;
  sample: { id: number; error: string | null; obstacle: string | null; [column: string]: unknown }[];
}

interface Problem {
  type: string;
  status: number;
  detail: string;
  errors: { detail: string; pointer?: string; parameter?: string }[];
}

const REPLAY = "/api/v1/dead-letters/replay";
const REPLAYS = "/api/v1/replays";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;
let guarded: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
  guarded = apiUnderTest(pool, { keys: OPERATORS_KEYS });
});
beforeEach(() =>
  pool.query(`
    truncate outbox.messages, outbox.dead_letters, outbox.replays, outbox.audit, outbox.dedupe_keys restart identity;
    delete from outbox.gateways where name <> 'default'`),
);
afterAll(() => pool.end());

const body = (value: unknown): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});
const dryRun = (asked: object = {}) => api.json<DryRun>(REPLAY, body(asked));
const begin = (asked: object = {}) => api.json<Replay>(REPLAY, body({ dry_run: false, ...asked }));
const get = (id: number) => api.json<Replay>(`${REPLAYS}/${id}`);
const cancel = (id: number) => api.request(`${REPLAYS}/${id}/cancel`, { method: "POST" });
const waiting = async () =>
  (await pool.query<{ id: number }>("select id from outbox.messages order by id")).rows.map(({ id }) => id);
const count = async (table: string) =>
  (await pool.query<{ n: number }>(`select count(*)::int as n from outbox.${table}`)).rows[0]?.n;

/** What the relayers' task does. */
const slice = (id: number) => pool.query("select outbox.replay_slice($1)", [id]);
/** The gateways take all that is back. */
const takeAll = () => pool.query("update outbox.messages set available_at = now() + interval '1 hour'");

describe("a dry run", () => {
  test("says what matches, what would go, and what keeps the rest; and changes nothing", async () => {
    await bury(pool, [
      { id: 1, died_at: "2026-01-01T08:00:00.000001Z", reason: "unknown_outcome", error: "reset" },
      { id: 2, reason: "exhausted", error: "HTTP 503", died_at: "2026-01-01T08:00:00.000002Z" },
      { id: 3, reason: "expired", expires_at: DIED_AT, died_at: "2026-01-01T08:00:00.000003Z" },
    ]);
    const before = await pool.query("select * from outbox.dead_letters order by id");
    const answers = [await dryRun(), await dryRun({ dry_run: true })];
    for (const answer of answers)
      expect(answer).toEqual({
        dry_run: true,
        matched: 3,
        replayable: 1,
        sample: [
          {
            id: 1,
            died_at: "2026-01-01T08:00:00.000001Z",
            gateway: "default",
            reason: "unknown_outcome",
            error: "reset",
            obstacle: "needs_force",
          },
          expect.objectContaining({ id: 2, error: "HTTP 503", obstacle: null }),
          expect.objectContaining({ id: 3, error: null, obstacle: "needs_expires_at" }),
        ],
      });
    expect((await pool.query("select * from outbox.dead_letters order by id")).rows).toEqual(before.rows);
    for (const table of ["messages", "replays", "audit"]) expect(await count(table)).toBe(0);
  });

  test("its times are UTC whatever the session's time zone is", async () => {
    await bury(pool, [{ id: 1 }]);
    const url = new URL(database.url);
    url.searchParams.set("options", "-c timezone=Asia/Kolkata");
    const elsewhere = poolFor(url.href);
    try {
      const { sample } = await apiUnderTest(elsewhere).json<DryRun>(REPLAY, body({}));
      expect(sample[0]?.died_at).toBe(DIED_AT);
    } finally {
      await elsewhere.end();
    }
  });

  test("of many shows the first ten", async () => {
    await buryMany(pool, 30);
    const { matched, replayable, sample } = await dryRun({ max_messages: 20 });
    expect({ matched, replayable }).toEqual({ matched: 30, replayable: 20 });
    expect(sample.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("of none says so", async () => {
    expect(await dryRun()).toEqual({ dry_run: true, matched: 0, replayable: 0, sample: [] });
  });

  test("shows of answers only the status without read_pii", async () => {
    await bury(pool, [{ id: 1, error: "HTTP 400: 905551234567 is unknown" }]);
    const sampleOf = async (key: string) =>
      (await guarded.json<DryRun>(REPLAY, as(key, body({})))).sample[0]?.error;
    expect(await sampleOf("operator")).toBe("HTTP 400");
    expect(await sampleOf("lead")).toBe("HTTP 400: 905551234567 is unknown");
  });
});

describe("a filter", () => {
  beforeEach(async () => {
    await pool.query("insert into outbox.gateways (name) values ('backup')");
    await bury(pool, [
      { id: 1, reason: "rejected", error: "HTTP 400: Blocked" },
      { id: 2, gateway: "backup", died_at: "2026-01-01T09:00:00Z", error: "100%" },
      { id: 3, died_at: "2026-01-01T10:00:00Z" },
      { id: 4, reason: "unknown_outcome", died_at: "2026-01-01T11:00:00Z" },
      { id: 5, reason: "expired", expires_at: DIED_AT, died_at: "2026-01-01T12:00:00Z" },
    ]);
  });

  test.each<[object, number[]]>([
    [{}, [1, 2, 3]],
    [{ reason: "rejected" }, [1]],
    [{ gateway: "backup" }, [2]],
    [{ since: "2026-01-01T12:00:00+03:00" }, [2, 3]],
    [{ until: "2026-01-01T09:00:00Z" }, [1]],
    [{ error_like: "%blocked" }, [1]],
    [{ error_like: "%\\%" }, [2]],
    [{ max_messages: 2 }, [1, 2]],
    [{ force: true }, [1, 2, 3, 4]],
    [{ expires_at: "2100-01-01T00:00:00Z" }, [1, 2, 3, 5]],
    [{ expires_at: null, force: true }, [1, 2, 3, 4, 5]],
  ])("%o", async (asked, ids) => {
    expect((await dryRun(asked)).replayable).toBe(ids.length);
    expect(await begin(asked)).toMatchObject({ status: "done", replayed: ids.length });
    expect(await waiting()).toEqual(ids);
  });

  test.each<[unknown, string]>([
    [{ reason: "sent" }, "#/reason"],
    [{ gateway: "No" }, "#/gateway"],
    [{ gateway: null }, "#/gateway"],
    [{ since: "yesterday" }, "#/since"],
    [{ until: "infinity" }, "#/until"],
    [{ until: 7 }, "#/until"],
    [{ error_like: "" }, "#/error_like"],
    [{ error_like: "half\\" }, "#/error_like"],
    [{ error_like: "\\\\\\" }, "#/error_like"],
    [{ error_like: "a\0" }, "#/error_like"],
    [{ error_like: "\\\0" }, "#/error_like"],
    [{ error_like: "x".repeat(201) }, "#/error_like"],
    [{ max_messages: 0 }, "#/max_messages"],
    [{ max_messages: 1.5 }, "#/max_messages"],
    [{ max_messages: 1e300 }, "#/max_messages"],
    [{ dry_run: "false" }, "#/dry_run"],
    [{ dry_run: null }, "#/dry_run"],
    [{ force: 1 }, "#/force"],
    [{ expires_at: "infinity" }, "#/expires_at"],
    [{ expires_at: "2026-02-30T00:00:00Z" }, "#/expires_at"],
    [{ dryrun: false }, "#/dryrun"],
    [[], "#"],
  ])("%j is refused", async (asked, pointer) => {
    const { status, errors } = await api.json<Problem>(REPLAY, body(asked));
    expect(status).toBe(400);
    expect(errors).toEqual([{ detail: expect.any(String), pointer }]);
  });

  test.each([
    [{ gateway: "nope" }, "#/gateway", "unknown gateway"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "#/expires_at", "in the past"],
  ])("%j is refused by the outbox", async (asked, pointer, detail) => {
    for (const dry_run of [true, false]) {
      const problem = await api.json<Problem>(REPLAY, body({ ...asked, dry_run }));
      expect(problem).toMatchObject({ status: 422, type: "urn:outbox-relayer:problem:refused-message" });
      expect(problem.errors).toEqual([{ detail: expect.stringContaining(detail), pointer }]);
    }
    expect(await count("replays")).toBe(0);
  });

  test.each([
    ["no JSON", "{", "application/json", 400],
    ["another type", "reason=expired", "application/x-www-form-urlencoded", 415],
  ])("as %s is refused", async (_, text, type, status) => {
    const init = { method: "POST", headers: { "Content-Type": type }, body: text };
    expect((await api.request(REPLAY, init)).status).toBe(status);
  });

  test("that looks for a number takes read_pii", async () => {
    const status = async (error_like: string, key = "operator") =>
      (await guarded.request(REPLAY, as(key, body({ error_like })))).status;
    for (const pattern of ["%+90555%", "%5%", "%HTTP 9055%", "%HTTP 503% 5%", "%HTTP 905%", "%HTTP 5\\03%"])
      expect(await status(pattern), pattern).toBe(403);
    for (const pattern of ["%blocked%", "HTTP 400%", "%http 503%"])
      expect(await status(pattern), pattern).toBe(200);
    expect(await status("%+90555%", "lead")).toBe(200);
  });
});

describe("a replay", () => {
  test("of few is done at once, and is found where Location says", async () => {
    await buryMany(pool, 3);
    const answer = await api.request(REPLAY, body({ dry_run: false, reason: "exhausted" }));
    expect(answer.status).toBe(202);
    const replay = (await answer.json()) as Replay;
    expect(replay).toEqual({
      id: 1,
      status: "done",
      actor: "api",
      reason: "exhausted",
      gateway: null,
      since: null,
      until: expect.stringMatching(/\.\d{6}Z$/),
      error_like: null,
      max_messages: null,
      force: false,
      matched: 3,
      replayed: 3,
      skipped: 0,
      reached_at: "2026-01-01T08:00:00.002000Z",
      reached_id: 3,
      created_at: expect.stringMatching(/\.\d{6}Z$/),
      finished_at: expect.stringMatching(/\.\d{6}Z$/),
    });
    expect(answer.headers.get("Location")).toBe("/api/v1/replays/1");
    expect(await api.json(answer.headers.get("Location") ?? "")).toEqual(replay);
    expect(await waiting()).toEqual([1, 2, 3]);
  });

  test("of nothing is done, and has reached nothing", async () => {
    expect(await begin({ since: DIED_AT })).toMatchObject({
      status: "done",
      matched: 0,
      since: DIED_AT,
      reached_at: null,
      reached_id: null,
    });
  });

  test("shows the end it gives as it was asked for: a time, null for never, or none", async () => {
    const end = "2100-01-01T00:00:00.000000Z";
    expect(await begin({ expires_at: end })).toMatchObject({ expires_at: end });
    expect(await begin({ expires_at: null })).toMatchObject({ expires_at: null });
    expect(await begin()).not.toHaveProperty("expires_at");
  });

  test("gives that end to all, and none means never", async () => {
    await bury(pool, [{ id: 1, reason: "expired", expires_at: DIED_AT }]);
    await begin({ expires_at: null });
    expect((await pool.query("select expires_at from outbox.messages")).rows).toEqual([{ expires_at: null }]);
  });

  test("is on record under the name of the key", async () => {
    await buryMany(pool, 2);
    await guarded.request(REPLAY, as("operator", body({ dry_run: false })));
    const { rows } = await pool.query("select actor, action, affected from outbox.audit");
    expect(rows).toEqual([{ actor: "operator", action: "replay_where", affected: 2 }]);
    expect(await get(1)).toMatchObject({ actor: "operator" });
  });

  test("shows a pattern with its numbers masked without read_pii", async () => {
    await pool.query(
      "select outbox.replay_where(error_like => '%+905551234567%', dry_run => false, actor => 'dba')",
    );
    const shown = async (key: string) => [
      (await guarded.json<Replay>(`${REPLAYS}/1`, as(key))).error_like,
      (await guarded.json<{ replays: Replay[] }>(REPLAYS, as(key))).replays[0]?.error_like,
    ];
    expect(await shown("reader")).toEqual(Array(2).fill("%+90********67%"));
    expect(await shown("lead")).toEqual(Array(2).fill("%+905551234567%"));
  });

  test("takes the scope operate, to look as well as to begin and to cancel", async () => {
    for (const path of [REPLAY, `${REPLAYS}/1/cancel`])
      expect((await guarded.request(path, as("reader", body({})))).status).toBe(403);
    expect(await count("replays")).toBe(0);
  });

  test("of many goes on in the relayers' slices until it is done", async () => {
    await buryMany(pool, 2_500);
    const begun = await begin();
    expect(begun).toMatchObject({ status: "running", matched: 2_500, replayed: 1_000, finished_at: null });
    await slice(begun.id);
    expect(await get(begun.id)).toMatchObject({ status: "running", replayed: 2_000, reached_id: 2_000 });
    await slice(begun.id); // waits for the gateway: more than a thousand are due
    expect(await get(begun.id)).toMatchObject({ status: "running", replayed: 2_000, reached_id: 2_000 });
    await takeAll();
    await slice(begun.id);
    expect(await get(begun.id)).toMatchObject({ status: "done", replayed: 2_500, skipped: 0 });
    expect((await get(begun.id)).finished_at).not.toBeNull();
    expect(await count("dead_letters")).toBe(0);
    expect(await waiting()).toHaveLength(2_500);
  });

  test("that is cancelled midway has ended, and the rest stays", async () => {
    await buryMany(pool, 2_500);
    const begun = await begin();
    const answer = await cancel(begun.id);
    expect(answer.status).toBe(200);
    const cancelled = (await answer.json()) as Replay;
    expect(cancelled).toEqual({ ...begun, status: "cancelled", finished_at: expect.stringMatching(/Z$/) });
    await slice(begun.id);
    expect(await get(begun.id)).toEqual(cancelled);
    expect(await count("dead_letters")).toBe(1_500);
    const { rows } = await pool.query(
      "select actor, action, details from outbox.audit order by id desc limit 1",
    );
    expect(rows).toEqual([
      { actor: "api", action: "cancel_replay", details: { replay: begun.id, replayed: 1_000, skipped: 0 } },
    ]);
  });

  test("that has ended is not cancelled again", async () => {
    await buryMany(pool, 1_500);
    const { id } = await begin();
    await cancel(id);
    const again = await cancel(id);
    expect(again.status).toBe(409);
    expect(await again.json()).toMatchObject({
      type: "urn:outbox-relayer:problem:replay-not-running",
      detail: expect.stringContaining(`replay ${id} is cancelled since`),
    });
    expect((await cancel((await begin({ max_messages: 1 })).id)).status).toBe(409);
  });

  test("whose slice is under way is cancelled after it, or not at all in time", async () => {
    await buryMany(pool, 1_500);
    const { id } = await begin();
    const relayer = await pool.connect();
    try {
      await relayer.query("begin");
      await relayer.query("select from outbox.replays where id = $1 for update", [id]);
      const late = await cancel(id);
      expect(late.status).toBe(503);
      expect(await late.json()).toMatchObject({ type: "urn:outbox-relayer:problem:busy" });
      const cancelling = cancel(id);
      await eventually(
        async () =>
          (
            await pool.query(
              "select from pg_locks where not granted and locktype in ('tuple', 'transactionid')",
            )
          ).rowCount,
        (waiters) => waiters === 1,
      );
      await relayer.query("commit");
      expect((await cancelling).status).toBe(200);
    } finally {
      relayer.release(true);
    }
    expect(await get(id)).toMatchObject({ status: "cancelled" });
  });

  test("that there is none of is 404", async () => {
    for (const [method, path] of [
      ["GET", `${REPLAYS}/7`],
      ["GET", `${REPLAYS}/9007199254740991`],
      ["POST", `${REPLAYS}/7/cancel`],
    ] as const) {
      const answer = await api.request(path, { method });
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({ type: "urn:outbox-relayer:problem:unknown-replay" });
    }
  });

  test.each(["0", "x", "1.5", "-1", "9007199254740992", "99999999999999999999"])(
    "by the number %s is refused",
    async (id) => {
      const { status, errors } = await api.json<Problem>(`${REPLAYS}/${id}`);
      expect(status).toBe(400);
      expect(errors).toEqual([{ detail: expect.stringContaining("whole number"), parameter: "id" }]);
    },
  );
});

describe("the list of replays", () => {
  const list = (query = "") =>
    api.json<{ replays: Replay[]; next_cursor: string | null }>(`${REPLAYS}${query}`);

  beforeEach(async () => {
    await buryMany(pool, 1_002);
    await begin({ max_messages: 1 });
    await begin(); // 1,001 to go
    await begin({ reason: "rejected" });
  });

  test("is the newest first, each as it is found by its number", async () => {
    const { replays, next_cursor } = await list();
    expect(replays.map(({ id }) => id)).toEqual([3, 2, 1]);
    expect(next_cursor).toBeNull();
    for (const replay of replays) expect(replay).toEqual(await get(replay.id));
  });

  test("by status", async () => {
    const ids = async (status: string) => (await list(`?status=${status}`)).replays.map(({ id }) => id);
    expect(await ids("running")).toEqual([2]);
    expect(await ids("done")).toEqual([3, 1]);
    expect(await ids("cancelled")).toEqual([]);
  });

  test("has pages, whose cursors belong to their filter", async () => {
    const first = await list("?limit=1&status=done");
    expect(first.replays.map(({ id }) => id)).toEqual([3]);
    const second = await list(`?limit=1&status=done&cursor=${first.next_cursor}`);
    expect(second.replays.map(({ id }) => id)).toEqual([1]);
    expect(second.next_cursor).toBeNull();
    for (const query of ["", "&status=running"])
      expect((await api.request(`${REPLAYS}?cursor=${first.next_cursor}${query}`)).status).toBe(400);
  });

  test.each(["status=ended", "limit=0", "cursor=AAAA", "order=asc"])("%s is refused", async (query) => {
    expect((await api.request(`${REPLAYS}?${query}`)).status).toBe(400);
  });
});
