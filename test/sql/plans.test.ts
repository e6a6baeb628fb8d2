import type pg from "pg";
import { beforeEach, describe, expect, test } from "vitest";
import { type Claimed, type Shown, useOutbox } from "./outbox-under-test.ts";
import { explained, nodes, type Plan } from "./plans.ts";

const outbox = useOutbox();
const { claim, register, settle } = outbox;

/** How the messages were reached: the index, or the kind of scan without one. */
function paths(plans: readonly Plan[]): Set<string> {
  return new Set(
    plans
      .flatMap(nodes)
      .filter((node) => node["Relation Name"] === "messages" && node["Node Type"] !== "ModifyTable")
      .map((node) => node["Index Name"] ?? node["Node Type"]),
  );
}

/** Rows that were looked at, by whichever node looked at most. */
function most(plans: readonly Plan[]): number {
  return Math.max(
    ...plans.flatMap(nodes).map((node) => {
      const loops = node["Actual Loops"] ?? 1;
      const thrownAway = (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Join Filter"] ?? 0);
      return loops * ((node["Actual Rows"] ?? 0) + thrownAway);
    }),
  );
}

const FEW = 5;
const MANY = 6_000;
const BATCH = 200;

const insertMany = (many: number) =>
  outbox.pool.query(
    `insert into outbox.messages (recipient, content, priority, expires_at)
     select '+905551234567', 'hi', n % 3, case when n % 10 = 0 then now() + interval '1 day' end
     from generate_series(1, $1) as n`,
    [many],
  );

const OUTCOMES = ["accepted", "retry", "accepted", "rejected", "accepted", "unknown"] as const;

const shown = (claims: readonly Claimed[]): Shown[] =>
  claims
    .map(({ id, attempt }, i) => ({ id, attempt, outcome: OUTCOMES[i % 6] as (typeof OUTCOMES)[number] }))
    .sort((a, b) => a.id - b.id);

/** Leaves the plans of `client` as they are made for so few rows, and as Postgres keeps them from the sixth time on. */
async function warmUp(client: pg.Client, relayer: number): Promise<void> {
  for (let n = 0; n < 8; n++) {
    await insertMany(FEW);
    await settle(relayer, shown(await claim(relayer, BATCH, { on: client })), { on: client });
    await client.query("select outbox.release($1, '{1,2,3}')", [relayer]);
  }
}

describe.each([
  "an empty table",
  "a tiny table",
  "a full table of which nothing was claimed",
  "a full table of which half was claimed",
])("with the statistics of %s", (statistics) => {
  let relayer: number;
  let client: pg.Client;
  let plans: Plan[];

  // As autovacuum is off here, the statistics stay those of the last ANALYZE.
  beforeEach(async () => {
    relayer = (await register()).id;
    ({ client, plans } = await explained(outbox));
    if (statistics === "a tiny table") await insertMany(FEW);
    await outbox.pool.query("vacuum analyze outbox.messages");
    if (!statistics.startsWith("a full")) await warmUp(client, relayer);
    await outbox.pool.query("delete from outbox.messages");
    await insertMany(MANY);
    if (statistics.endsWith("nothing was claimed")) await outbox.pool.query("vacuum analyze outbox.messages");
    await claim(relayer, MANY / 2);
    if (statistics.endsWith("half was claimed")) await outbox.pool.query("vacuum analyze outbox.messages");
    plans.length = 0;
  });

  test("claim walks along the index of what waits, and looks at no more than it may take", async () => {
    expect(await claim(relayer, BATCH, { on: client })).toHaveLength(BATCH);
    expect(plans.length).toBeGreaterThan(3);
    expect([...paths(plans)].sort()).toEqual(["messages_claimable", "messages_expiring", "messages_pkey"]);
    expect(most(plans)).toBeLessThanOrEqual(3 * BATCH);
  });

  test("claim buries what has expired without looking at the rest", async () => {
    await outbox.pool.query(
      "update outbox.messages set expires_at = created_at + interval '1 microsecond' where id in (select id from outbox.messages where claimed_by is null limit $1)",
      [BATCH],
    );
    expect(await claim(relayer, BATCH, { on: client })).toHaveLength(BATCH);
    expect(await outbox.value("select count(*)::int from outbox.dead_letters where reason = 'expired'")).toBe(
      BATCH,
    );
    expect([...paths(plans)].sort()).toEqual(["messages_claimable", "messages_expiring", "messages_pkey"]);
    expect(most(plans)).toBeLessThanOrEqual(3 * BATCH);
  });

  test("settle finds its rows by id, and looks at no other", async () => {
    const claims = await claim(relayer, BATCH);
    plans.length = 0;
    await settle(relayer, shown(claims), { on: client });
    expect(plans.length).toBeGreaterThan(3);
    expect([...paths(plans)]).toEqual(["messages_pkey"]);
    expect(most(plans)).toBeLessThanOrEqual(3 * BATCH);
  });

  test("release finds its rows by id", async () => {
    const claims = await claim(relayer, BATCH);
    plans.length = 0;
    await client.query("select outbox.release($1, $2)", [
      relayer,
      claims.map(({ id }) => id).sort((a, b) => a - b),
    ]);
    expect([...paths(plans)]).toEqual(["messages_pkey"]);
    expect(most(plans)).toBeLessThanOrEqual(3 * BATCH);
  });

  test("rescue looks at what was claimed and not at each for each", async () => {
    await outbox.pool.query("update outbox.relayers set heartbeat_at = '2000-01-01'");
    expect((await client.query("select rescued from outbox.rescue()")).rows).toEqual([{ rescued: MANY / 2 }]);
    expect(most(plans)).toBeLessThanOrEqual(4 * MANY);
  });

  test("next_due reads one row of each priority", async () => {
    await client.query("select outbox.next_due('default')");
    expect([...paths(plans)]).toEqual(["messages_claimable"]);
    expect(most(plans)).toBeLessThanOrEqual(10);
  });
});

test("explain looks at little more than what is of one message, whatever the statistics say", async () => {
  const history = async () => {
    await insertMany(MANY);
    await outbox.pool.query(`
      insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
      select -n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, 1, now(), now(), now() - n * interval '1 minute', 'gw', 1
      from generate_series(1, ${MANY}) as n;
      insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
      select -${MANY} - n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, now(), now(), 'rejected'
      from generate_series(1, ${MANY}) as n;
      insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, duration_ms, ended_at)
      select n, 1, 'default', 1, 'retry', 1, now() - n * interval '1 minute' from generate_series(1, ${MANY}) as n;
      insert into outbox.audit (actor, action, target) select 'alice', 'edit', n from generate_series(1, ${MANY}) as n;
      insert into outbox.audit (actor, action) select 'alice', 'pause' from generate_series(1, ${MANY});`);
  };
  const { client, plans } = await explained(outbox);
  const asked = async (ids: readonly number[]) => {
    for (const id of ids) {
      plans.length = 0;
      await client.query("select outbox.explain($1)", [id]);
      expect(plans.length).toBeGreaterThan(0);
      expect.soft(most(plans), String(id)).toBeLessThanOrEqual(1_000);
    }
  };
  await outbox.pool.query(
    "vacuum analyze outbox.messages, outbox.attempts, outbox.audit, outbox.sent, outbox.dead_letters",
  );
  await history();
  const first = await outbox.value("select min(id) from outbox.messages");
  await asked([first, -1, -MANY - 1, 1]);
  await outbox.pool.query(
    "vacuum analyze outbox.messages, outbox.attempts, outbox.audit, outbox.sent, outbox.dead_letters",
  );
  await asked([first, -1, -MANY - 1, 1]);
});

test("the scan that these tests look for is one that they see", async () => {
  const { client, plans } = await explained(outbox);
  await insertMany(FEW);
  await client.query("do $$begin perform from outbox.messages; end$$");
  expect([...paths(plans)]).toEqual(["Seq Scan"]);
});
