import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cursors, createCursors, type Position, type Scope } from "../../src/api/cursor.ts";
import { useDatabase } from "../support/database.ts";
import { poolFor } from "./api-under-test.ts";

const database = useDatabase();
let pool: ReturnType<typeof poolFor>;
let cursors: Cursors;

beforeAll(() => {
  pool = poolFor(database.url);
  cursors = createCursors(pool);
});
afterAll(() => pool.end());

const SCOPE: Scope = { list: "messages/sent", filters: { order: "desc", gateway: "bulk", after: undefined } };
const POSITION: Position = { at: "2026-11-23T09:30:00.123456Z", id: 9_007_199_254_740_991 };

const refused = (detail: RegExp) =>
  expect.objectContaining({
    slug: "invalid-request",
    errors: [{ detail: expect.stringMatching(detail), parameter: "cursor" }],
  });

test.each([POSITION, { id: 1 }])("what was sealed opens again, to the microsecond: %o", async (position) => {
  expect(await cursors.open(await cursors.seal(position, SCOPE), SCOPE)).toEqual(position);
});

test("several positions open again together, in their order", async () => {
  const positions = [POSITION, { at: "2026-01-01T00:00:00.000000Z", id: 0 }, { id: 7 }];
  const cursor = await cursors.sealAll(positions, SCOPE);
  expect(await cursors.openAll(cursor, SCOPE)).toEqual(positions);
  expect(cursor).toMatch(/^[\w-]+$/);
});

test("a fault names it as its clients do", async () => {
  const called = { parameter: "Last-Event-ID", given: "the id of the last event" };
  const scope = { list: "events", filters: {}, called };
  await expect(cursors.openAll("AAAA", scope)).rejects.toEqual(
    expect.objectContaining({
      errors: [
        { detail: expect.stringContaining("send the id of the last event"), parameter: "Last-Event-ID" },
      ],
    }),
  );
  await expect(cursors.openAll(await cursors.seal(POSITION, SCOPE), scope)).rejects.toEqual(
    expect.objectContaining({
      errors: [
        {
          detail: "was made for another list or other filters: leave it out to start again",
          parameter: "Last-Event-ID",
        },
      ],
    }),
  );
});

test("it says nothing to clients, and may stand in a URL", async () => {
  const cursor = await cursors.seal(POSITION, SCOPE);
  expect(cursor).toMatch(/^[\w-]+$/);
  expect(cursor).not.toContain("2026");
});

test("another process of the same database opens it", async () => {
  const elsewhere = createCursors(pool);
  expect(await elsewhere.open(await cursors.seal(POSITION, SCOPE), SCOPE)).toEqual(POSITION);
});

test("another database's is refused", async () => {
  const cursor = await cursors.seal(POSITION, SCOPE);
  await pool.query("update outbox.cursor_keys set key = '\\x00'");
  await expect(createCursors(pool).open(cursor, SCOPE)).rejects.toEqual(refused(/^is damaged/));
});

test.each<[string, Scope]>([
  ["another list", { ...SCOPE, list: "dead-letters" }],
  ["another filter", { ...SCOPE, filters: { ...SCOPE.filters, gateway: "default" } }],
  ["one filter more", { ...SCOPE, filters: { ...SCOPE.filters, after: "2026-11-23T09:30:00Z" } }],
  ["one filter fewer", { ...SCOPE, filters: { order: "desc" } }],
])("with %s it is refused", async (_what, scope) => {
  const cursor = await cursors.seal(POSITION, SCOPE);
  await expect(cursors.open(cursor, scope)).rejects.toEqual(refused(/other filters: send it with the order/));
});

test("the order in which filters are given is none", async () => {
  const turned = { list: SCOPE.list, filters: { gateway: "bulk", order: "desc" } };
  expect(await cursors.open(await cursors.seal(POSITION, SCOPE), turned)).toEqual(POSITION);
});

describe("tampered with", () => {
  test.each([1, 2])("each single changed bit is noticed, of %i positions", async (many) => {
    const bytes = Buffer.from(await cursors.sealAll(Array(many).fill(POSITION), SCOPE), "base64url");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      await expect(cursors.open(changed.toString("base64url"), SCOPE)).rejects.toEqual(refused(/./));
    }
  });

  test("so is what is appended, cut off or not base64url", async () => {
    const cursor = await cursors.seal(POSITION, SCOPE);
    for (const changed of [
      "",
      "A",
      `${cursor}A`,
      `${cursor}=`,
      ` ${cursor}`,
      cursor.slice(1),
      cursor.slice(0, -1),
      "é",
    ])
      await expect(cursors.open(changed, SCOPE), changed).rejects.toEqual(refused(/^is damaged/));
  });
});
