import { beforeAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { callerWith } from "./caller.ts";

const database = useDatabase();
let api: ApiUnderTest;

interface Page {
  readonly messages: readonly { readonly id: number; readonly content: string }[];
  readonly next_cursor: string | null;
}

const search = (q: string, more = "") => `/api/v1/messages?q=${encodeURIComponent(q)}${more}`;

/** One in each place. */
const MESSAGES = {
  waiting: { content: "Your parcel is at the door.", metadata: { order: 1001, note: "fragile" } },
  dead: { content: "Your PARCEL came back; the door was closed.", metadata: { order: 1002 } },
  sent: { content: "Kapıda bekliyoruz: Çağrı", metadata: { deep: [{ name: "Ayşe" }] } },
} as const;

beforeAll(async () => {
  const { pool } = database;
  await pool.query("select outbox.create_search_indexes()");
  for (const { content, metadata } of Object.values(MESSAGES))
    await pool.query(
      "insert into outbox.messages (recipient, content, metadata) values ('+905551234567', $1, $2)",
      [content, metadata],
    );
  await pool.query("select outbox.cancel(id) from outbox.messages where content ~ 'PARCEL'");
  await pool.query(
    `with moved as (delete from outbox.messages where content ~ 'Kap' returning *)
     insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at,
       created_at, sent_at, gateway_message_id, duration_ms)
     select id, gateway, priority, recipient, content, metadata, available_at, 1, 1, now(), created_at, now(), 'gw', 12 from moved`,
  );
  api = apiUnderTest(poolFor(database.url));
});

test.each<[string, readonly (keyof typeof MESSAGES)[]]>([
  ["parcel", ["dead", "waiting"]],
  ["Parcel DOOR", ["dead", "waiting"]],
  ['"at the door"', ["waiting"]],
  ["parcel -closed", ["waiting"]],
  ["fragile or bekliyoruz", ["sent", "waiting"]],
  ["çağrı", ["sent"]],
  ["ayşe", ["sent"]],
  ["1002", ["dead"]],
  // Whole words, and of the metadata the values.
  ["parc", []],
  ["order", []],
  ["note", []],
  // What it is not.
  ["'; drop table outbox.messages --", []],
  ["parcel & ! | ( ) :* <->", ["dead", "waiting"]],
])("%s", async (q, expected) => {
  const { messages } = await api.json<Page>(search(q));
  expect(messages.map(({ content }) => content)).toEqual(
    expected.map((one) => MESSAGES[one].content).toSorted((a, b) => order(b) - order(a)),
  );
});

const order = (content: string) => Object.values(MESSAGES).findIndex((one) => one.content === content);

test("it goes with the other filters, and pages on with them", async () => {
  const contents = async (more: string) =>
    (await api.json<Page>(search("parcel", more))).messages.map(({ content }) => content);
  expect(await contents("&status=cancelled")).toEqual([MESSAGES.dead.content]);
  expect(await contents(`&metadata=${encodeURIComponent('{"order":1001}')}`)).toEqual([
    MESSAGES.waiting.content,
  ]);
  expect(await contents("&gateway=bulk")).toEqual([]);

  const first = await api.json<Page>(search("parcel", "&limit=1"));
  expect(first.messages.map(({ content }) => content)).toEqual([MESSAGES.dead.content]);
  const second = await api.json<Page>(search("parcel", `&limit=1&cursor=${first.next_cursor}`));
  expect(second.messages.map(({ content }) => content)).toEqual([MESSAGES.waiting.content]);
  expect(second.next_cursor).toBeNull();
  const other = await api.request(search("door", `&limit=1&cursor=${first.next_cursor}`));
  expect([other.status, await other.json()]).toEqual([
    400,
    expect.objectContaining({
      errors: [
        {
          parameter: "cursor",
          detail: expect.stringContaining("was made for another list or other filters"),
        },
      ],
    }),
  ]);
});

test.each([
  ["", "must be a text of 1 to 200 characters"],
  ["a".repeat(201), "must be a text of 1 to 200 characters"],
  ["a\0b", "must be a text of 1 to 200 characters"],
  ["!!!", "must have a word to look for: a letter or a digit"],
  [" ", "must have a word to look for: a letter or a digit"],
  ["-", "must have a word to look for: a letter or a digit"],
])("%j is refused", async (q, detail) => {
  const answer = await api.request(search(q));
  expect([answer.status, await answer.json()]).toEqual([
    400,
    expect.objectContaining({ errors: [{ parameter: "q", detail }] }),
  ]);
});

test("200 characters are 200, whatever they take", async () => {
  expect((await api.request(search(`a${"🙂".repeat(199)}`))).status).toBe(200);
});

test("to be told which messages have a word is to read them", async () => {
  const clerk = callerWith("read", "clerk");
  const reader = callerWith("read+read_pii", "reader");
  const { request } = apiUnderTest(poolFor(database.url), { keys: [clerk.key, reader.key] });
  const refused = await request(search("parcel"), { headers: clerk.headers });
  expect([refused.status, await refused.json()]).toEqual([
    403,
    expect.objectContaining({ detail: "To search takes a key with the scope read_pii." }),
  ]);
  expect((await request(search("parcel"), { headers: reader.headers })).status).toBe(200);
});
