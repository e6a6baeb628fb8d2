import { beforeAll, expect, test } from "vitest";
import { listQuery, type MessageFilters } from "../../src/api/message-list.ts";
import { useDatabase } from "../support/database.ts";
import { makePastDays } from "./sent-fixture.ts";

const database = useDatabase();

const SENT = 100_000;
const DEAD = 20_000;
const WAITING = 10_000;

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly Plans?: readonly Plan[];
}

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];

async function planOf(filters: MessageFilters, from?: number): Promise<Plan> {
  const { text, values } = listQuery(filters, from === undefined ? undefined : { id: from }, 11);
  const { rows } = await database.pool.query(`explain (analyze, buffers, format json) ${text}`, values);
  return rows[0]?.["QUERY PLAN"][0].Plan;
}

const blocks = (plan: Plan) => plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];

const tables = (plan: Plan) =>
  new Set(
    nodes(plan).flatMap(({ "Relation Name": table = "" }) =>
      table === "" ? [] : [table.replace(/_(\d{8}|default)$/, "")],
    ),
  );

beforeAll(async () => {
  await makePastDays(database.pool);
  await database.pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
     select n, 'default', 1, '+905551234567', 'hi', '{}', sent_at, 1, 1, sent_at, sent_at, sent_at, 'x', 1
     from (select n, timestamptz '2026-01-01T00:00:00Z' + n * interval '1.7 s' as sent_at from generate_series(1, ${SENT}) as n) as row`,
  );
  await database.pool.query(
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at,
       died_at, reason)
     select ${SENT} + n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, now(), now(),
       case when n % 2 = 0 then 'rejected' else 'cancelled' end
     from generate_series(1, ${DEAD}) as n`,
  );
  await database.pool.query(`select setval('outbox.messages_id_seq', ${SENT + DEAD})`);
  await database.pool.query(
    `insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, ${WAITING})`,
  );
  await database.pool.query("vacuum analyze outbox.sent, outbox.dead_letters, outbox.messages");
});

test("page 10,000 reads what page 1 reads: a few blocks of the indexes on id", async () => {
  const first = await planOf({});
  const deep = await planOf({}, SENT + DEAD + WAITING - 10_000 * 10);
  for (const plan of [first, deep]) {
    expect(JSON.stringify(plan)).not.toMatch(/Seq Scan|"Sort"|Bitmap/);
    expect(tables(plan)).toEqual(new Set(["messages", "sent", "dead_letters"]));
  }
  expect(blocks(first)).toBeLessThan(100);
  expect(blocks(deep)).toBeLessThan(blocks(first) * 1.5);
});

test.each<[MessageFilters, string[], number]>([
  [{ status: ["pending"] }, ["messages"], 10],
  [{ status: ["sending"] }, ["messages"], 10],
  [{ status: ["pending", "sending"] }, ["messages"], 10],
  [{ status: ["sent"] }, ["sent"], 50],
  [{ status: ["failed"] }, ["dead_letters"], 10],
  [{ status: ["expired", "cancelled"] }, ["dead_letters"], 10],
  [{ status: ["sending", "sent", "failed"] }, ["messages", "sent", "dead_letters"], 60],
  [{ status: ["sent"], gateway: "default", priority: 1 }, ["sent"], 50],
  [{ created_after: "2026-01-01T12:00:00Z" }, ["messages", "sent", "dead_letters"], 60],
])(
  "%j reads only the tables that may have such messages, and few blocks of them",
  async (filters, kinds, most) => {
    const plan = await planOf(filters);
    const read = nodes(plan).filter((node) => blocks(node) > 0);
    for (const table of new Set(read.flatMap((node) => [...tables({ ...node, Plans: [] })])))
      expect(kinds).toContain(table);
    expect(blocks(plan)).toBeLessThanOrEqual(most);
  },
);

test("created_after leaves the days before alone", async () => {
  const plan = await planOf({ status: ["sent"], created_after: "2026-01-02T01:30:00Z" });
  const days = nodes(plan).map((node) => node["Relation Name"]);
  expect(days).toContain("sent_20260102");
  expect(days).not.toContain("sent_20260101");
});

test("sending is found by the index of claims, however long the backlog", async () => {
  await database.pool.query(
    "update outbox.messages set claimed_by = 1, claimed_at = now(), attempts = 1 where id in (select min(id) from outbox.messages)",
  );
  await database.pool.query("vacuum analyze outbox.messages");
  const plan = await planOf({ status: ["sending", "sent", "failed"] });
  expect(JSON.stringify(plan)).toContain('"messages_in_flight"');
  expect(blocks(plan)).toBeLessThan(60);
});
