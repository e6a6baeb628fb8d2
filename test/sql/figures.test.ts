import { beforeEach, describe, expect, test } from "vitest";
import { noon, useOutbox } from "./outbox-under-test.ts";
import { explained, nodes, type Plan } from "./plans.ts";

const outbox = useOutbox();
const { claim, register, row, rows, value } = outbox;

/** Rows that were looked at, by all nodes that read a table or an index. */
function looked(plans: readonly Plan[]): number {
  return plans
    .flatMap(nodes)
    .filter((node) => node["Relation Name"] === "messages")
    .map(
      (node) =>
        (node["Actual Loops"] ?? 1) * ((node["Actual Rows"] ?? 0) + (node["Rows Removed by Filter"] ?? 0)),
    )
    .reduce((sum, rows) => sum + rows, 0);
}

const insert = (count: number, columns = "", values = "") =>
  outbox.pool.query(
    `insert into outbox.messages (recipient, content${columns}) select '+905551234567', 'hi'${values} from generate_series(1, ${count}) as n`,
  );

beforeEach(async () => {
  await outbox.pool.query(
    "truncate outbox.messages; delete from outbox.gateways where name <> 'default'; insert into outbox.gateways (name) values ('bulk')",
  );
});

const NONE = { due: 0, scheduled: 0, in_flight: 0, oldest: null };

const queue = async (most = 100_000) =>
  await rows(
    `select gateway, priority, due::int, scheduled::int, in_flight::int, extract(epoch from oldest_due_age)::int as oldest
     from outbox.queue_figures($1, (select max(created_at) from outbox.messages) + interval '1 minute')`,
    [most],
  );

describe("queue_figures", () => {
  test("has each gateway and priority, and what waits there by its state", async () => {
    await insert(3, ", priority", ", 0");
    await insert(2, ", gateway, available_at", ", 'bulk', now() + interval '1 hour'");
    await insert(4, ", gateway, priority", ", 'bulk', 2");
    await claim((await register()).id, 3, { gateway: "bulk" });
    expect(await queue()).toEqual([
      { gateway: "bulk", priority: 0, ...NONE },
      { gateway: "bulk", priority: 1, ...NONE, scheduled: 2 },
      { gateway: "bulk", priority: 2, ...NONE, due: 1, in_flight: 3, oldest: 60 },
      { gateway: "default", priority: 0, ...NONE, due: 3, oldest: 60 },
      { gateway: "default", priority: 1, ...NONE },
      { gateway: "default", priority: 2, ...NONE },
    ]);
  });

  test("counts no further than it is told", async () => {
    await insert(30);
    await insert(30, ", available_at", ", now() + interval '1 hour'");
    await insert(30, ", gateway", ", 'bulk'");
    await claim((await register()).id, 30, { gateway: "bulk" });
    expect(await queue(7)).toMatchObject([
      {},
      { gateway: "bulk", priority: 1, in_flight: 7 },
      {},
      {},
      { gateway: "default", priority: 1, due: 7, scheduled: 7 },
      {},
    ]);
  });

  test.each(["an empty table", "a full table"])(
    "reads no more than it may count, whatever waits, with the statistics of %s",
    async (statistics) => {
      if (statistics === "an empty table") await outbox.pool.query("vacuum analyze outbox.messages");
      await insert(
        20_000,
        ", gateway, priority, available_at",
        ", case n % 2 when 0 then 'bulk' else 'default' end, n % 3, now() + case n % 7 when 0 then interval '1 day' else '0' end",
      );
      await claim((await register()).id, 5_000);
      if (statistics === "a full table") await outbox.pool.query("vacuum analyze outbox.messages");
      const { client, plans } = await explained(outbox);
      // From the sixth time on Postgres keeps a plan.
      for (let n = 0; n < 7; n++) {
        plans.length = 0;
        await client.query("select * from outbox.queue_figures(100)");
        expect(plans.length).toBeGreaterThan(0);
        expect(plans.flatMap(nodes).map((node) => node["Node Type"])).not.toContain("Seq Scan");
        // Two gateways, three priorities, due and scheduled and the oldest; what is in flight once.
        expect(looked(plans)).toBeLessThanOrEqual(2 * 3 * (100 + 100 + 1) + 100);
      }
    },
  );
});

describe("server_figures", () => {
  test("counts relayers that live and sessions, and estimates the outbox", async () => {
    await insert(500);
    await outbox.pool.query("analyze outbox.messages; delete from outbox.relayers");
    await register("one");
    const { client } = await register("two");
    expect(await row("select * from outbox.server_figures()")).toMatchObject({
      relayers_alive: 2,
      messages_estimated: 500,
      slot_retained_bytes: null,
    });
    await client.query("select pg_advisory_unlock_all()");
    const figures = await row("select * from outbox.server_figures()");
    expect(figures.relayers_alive).toBe(1);
    expect(figures.connections).toBeGreaterThanOrEqual(2);
    expect(figures.max_connections).toBe(Number(await value("show max_connections")));
  });

  test("tells how long the oldest transaction has been open", async () => {
    const other = await outbox.session();
    await other.query("begin isolation level repeatable read; select 1 from outbox.messages");
    await insert(1);
    const age = () =>
      value("select extract(epoch from oldest_transaction_age) > 0 from outbox.server_figures()");
    expect(await age()).toBe(true);
    await other.query("rollback");
  });
});

test("table_figures counts a table's partitions and indexes with it", async () => {
  await outbox.pool.query("vacuum full outbox.messages");
  await insert(1_000);
  const figures = await rows("select * from outbox.table_figures()");
  expect(figures.map(({ name }) => name)).toEqual(["attempts", "dead_letters", "messages", "sent"]);
  const [attempts, , messages] = figures;
  expect(messages?.bytes).toBe(await value("select pg_total_relation_size('outbox.messages')"));
  expect(attempts?.bytes).toBe(
    await value(
      "select sum(pg_total_relation_size(inhrelid))::bigint from pg_inherits where inhparent = 'outbox.attempts'::regclass",
    ),
  );
  expect(attempts?.bytes).toBeGreaterThan(0);
  for (const { dead_rows } of figures) expect(dead_rows).toBeGreaterThanOrEqual(0);
});

describe("claim tells how long a message has been due", () => {
  const put = async (createdMs: number, availableMs: number) =>
    await outbox.pool.query(
      "insert into outbox.messages (recipient, content, created_at, available_at) values ('+905551234567', 'hi', $1, $2)",
      [noon(createdMs), noon(availableMs)],
    );
  const claimed = async (relayer: number, afterMs: number) =>
    await rows("select id, waited_ms, attempt from outbox.claim($1, 'default', 1, $2)", [
      relayer,
      noon(afterMs),
    ]);

  test("from its INSERT", async () => {
    const { id } = await register();
    await put(0, 0);
    expect(await claimed(id, 1_234)).toMatchObject([{ waited_ms: 1_234 }]);
  });

  test("or from the time it was scheduled for", async () => {
    const { id } = await register();
    await put(0, 60_000);
    expect(await claimed(id, 60_007)).toMatchObject([{ waited_ms: 7 }]);
  });

  test("also a message whose available_at is long past, from its INSERT", async () => {
    const { id } = await register();
    await put(0, -3_600_000);
    expect(await claimed(id, 5)).toMatchObject([{ waited_ms: 5 }]);
  });

  test("a later attempt from its INSERT, whatever it waited between attempts", async () => {
    const { id } = await register();
    await put(0, 0);
    const [{ id: message, attempt } = {}] = await claimed(id, 10);
    await outbox.settle(id, [{ id: message, attempt, outcome: "retry" }], { as_of: noon(20) });
    expect(await claimed(id, 10_000)).toMatchObject([{ attempt: 2, waited_ms: 10_000 }]);
  });
});
