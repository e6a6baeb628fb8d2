import { describe, expect, test } from "vitest";
import { noon, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, insert, register, rows, row, value } = outbox;

const MINUTE = 60_000;

/** What is found at a time of the tests' calendar; nothing there is looked for that a test does not ask for. */
async function found(thresholds: Row, as_of = noon()): Promise<Row[]> {
  const all: Row = {
    new_dead_letters: null,
    dead_letters: null,
    oldest_due_age: null,
    gateway_held: null,
    scheduler_stopped: null,
    no_relayer: null,
    slot_wal: null,
    ...thresholds,
    as_of,
  };
  return await rows(
    `select * from outbox.find_alerts(${Object.keys(all).map((name, i) => `${name} => $${i + 1}`)})`,
    Object.values(all),
  );
}

/** Ends a message as a dead letter, so many milliseconds after noon. */
async function die(afterMs: number, columns: Row = {}): Promise<number> {
  const { reason = "rejected", ...its } = columns;
  const id = await insert(its);
  await outbox.pool.query(
    "select outbox.bury(array[$1::bigint], array[$2]::outbox.dead_reason[], '{null}', '{null}', $3)",
    [id, reason, noon(afterMs)],
  );
  return id;
}

test("a migrated database in which nothing has happened has no relayer, and nothing else is wrong", async () => {
  expect((await rows("select * from outbox.find_alerts(slot_wal => null)")).map(({ key }) => key)).toEqual([
    "no_relayer",
  ]);
});

test("what is off is not looked for", async () => {
  await die(-1);
  await insert({ available_at: noon(-60 * MINUTE) });
  await outbox.pool.query("select outbox.pause(); select outbox.pause('default')");
  expect(await found({})).toEqual([]);
});

describe("dead letters", () => {
  test("a warning for each gateway and reason, of the last 10 minutes, without what a person cancelled", async () => {
    await addGateway("bulk");
    await die(-10 * MINUTE);
    await die(1);
    await die(-5, { reason: "cancelled" });
    const rejected = [await die(-9 * MINUTE), await die(-2), await die(-1)];
    const expired = await die(-3, { gateway: "bulk", reason: "expired" });
    const all = await found({ new_dead_letters: 1 });
    expect(all.sort((a, b) => b.count - a.count)).toMatchObject([
      {
        kind: "new_dead_letters",
        key: "new_dead_letters:default:rejected",
        severity: "warning",
        summary: "3 new dead letters within 10 minutes at gateway default: rejected",
        count: 3,
        sample_ids: rejected.reverse(),
        help: `select outbox.explain(${rejected[0]});`,
        request: "GET /dead-letters?gateway=default&reason=rejected",
      },
      { key: "new_dead_letters:bulk:expired", count: 1, sample_ids: [expired] },
    ]);
    expect(Date.parse(all[0]?.since)).toBe(Date.parse(noon(-9 * MINUTE)));
    expect(await found({ new_dead_letters: 4 })).toEqual([]);
  });

  test("more than so many of all are critical", async () => {
    for (let n = 0; n < 7; n++) await die(-n - 1, { reason: n % 2 ? "rejected" : "exhausted" });
    expect(await found({ dead_letters: 7 })).toEqual([]);
    const [alert, ...others] = await found({ dead_letters: 6 });
    expect(others).toEqual([]);
    expect(alert).toMatchObject({
      key: "dead_letters",
      severity: "critical",
      summary: "7 dead letters within 10 minutes, more than 6",
      count: 7,
    });
    expect(alert?.sample_ids).toHaveLength(5);
  });

  test("of a flood it counts 10000", async () => {
    await outbox.pool.query(
      `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
       select n, 'default', 1, '+905551234567', 'hi', '{}', $1, 1, $1, $1, 'exhausted' from generate_series(1000001, 1010500) as n`,
      [noon(-1)],
    );
    expect(await found({ dead_letters: 100 })).toMatchObject([
      { count: 10_000, summary: "at least 10000 dead letters within 10 minutes, more than 100" },
    ]);
    const earlier = await die(-2);
    expect(await found({ new_dead_letters: 1 })).toMatchObject([
      { summary: "at least 10000 new dead letters within 10 minutes at gateway default: exhausted" },
      { count: 1, sample_ids: [earlier] },
    ]);
  });

  test("of every reason there is, but a person's", async () => {
    const { definition } = await row(
      "select pg_get_constraintdef(oid) as definition from pg_constraint where conname = 'not_a_dead_reason'",
    );
    const reasons = [...String(definition).matchAll(/'(\w+)'/g)].map(([, reason = ""]) => reason);
    for (const reason of reasons) await die(-1, { reason });
    const told = (await found({ new_dead_letters: 1 })).map(({ key }) => key.split(":")[2]);
    expect(told.concat("cancelled").sort()).toEqual(reasons.sort());
  });
});

describe("the oldest due message", () => {
  test("is a warning once it is older than allowed, critical at five times that, with the ids to ask about", async () => {
    await insert({ available_at: noon(-5 * MINUTE) });
    const oldest = await insert({ available_at: noon(-7 * MINUTE), priority: 2 });
    await insert({ available_at: noon(-4 * MINUTE) });
    await insert({ available_at: noon(60 * MINUTE) });
    const [alert, ...others] = await found({ oldest_due_age: "5 minutes" });
    expect(others).toEqual([]);
    expect(alert).toMatchObject({
      key: "oldest_due_age:default",
      severity: "warning",
      summary: "gateway default: 2 messages have been due for more than 5 min, the oldest for 7 min",
      count: 2,
      help: `select outbox.explain(${oldest});`,
      request: `GET /messages/${oldest}/explanation`,
    });
    expect(alert?.sample_ids[0]).toBe(oldest);
    expect(await found({ oldest_due_age: "5 minutes" }, noon(-3 * MINUTE))).toEqual([]);
    expect(await found({ oldest_due_age: "5 minutes" }, noon(18 * MINUTE))).toMatchObject([
      { severity: "critical" },
    ]);
  });

  test("counts no more than a thousand of each priority, and not what is claimed", async () => {
    await outbox.pool.query(
      `insert into outbox.messages (recipient, content, available_at, priority)
       select '+905551234567', 'hi', $1, n % 3 from generate_series(1, 3300) as n`,
      [noon(-10 * MINUTE)],
    );
    expect(await found({ oldest_due_age: "5 minutes" })).toMatchObject([
      {
        count: 3_000,
        summary:
          "gateway default: at least 1000 messages have been due for more than 5 min, the oldest for 10 min",
      },
    ]);
    const { id } = await register();
    await outbox.pool.query("update outbox.messages set claimed_by = $1, claimed_at = now(), attempts = 1", [
      id,
    ]);
    expect(await found({ oldest_due_age: "5 minutes" })).toEqual([]);
  });

  test.each([
    ["the scheduler is stopped", "update outbox.scheduler set running = false"],
    ["its gateway is paused", "update outbox.gateways set paused = true"],
    [
      "its gateway is held",
      `update outbox.gateways set held_until = '${noon(1)}', hold_reason = 'throttled'`,
    ],
    ["its gateway's circuit is open", "update outbox.gateways set circuit = 'open'"],
  ])("is nobody's second alert while %s", async (_why, statement) => {
    await insert({ available_at: noon(-60 * MINUTE) });
    await outbox.pool.query(statement);
    expect(await found({ oldest_due_age: "5 minutes" })).toEqual([]);
  });
});

describe("what stands still", () => {
  test("the scheduler: who stopped it and when; critical at four times what is allowed", async () => {
    await outbox.pool.query(
      "update outbox.scheduler set running = false, changed_at = $1, changed_by = 'ayse'",
      [noon()],
    );
    const [alert] = await found({ scheduler_stopped: "15 minutes" }, noon(MINUTE));
    expect(alert).toMatchObject({
      key: "scheduler_stopped",
      severity: "warning",
      summary: "the scheduler was stopped by ayse: nothing is sent anywhere, with no message due",
      help: "select outbox.resume();",
      request: "POST /scheduler/start",
    });
    expect(Date.parse(alert?.since)).toBe(Date.parse(noon()));
    expect(await value("select $1::interval = '15 minutes'", [alert?.lasting])).toBe(true);
    expect(await found({ scheduler_stopped: "15 minutes" }, noon(60 * MINUTE))).toMatchObject([
      { severity: "critical" },
    ]);
  });

  test("a gateway that a person paused", async () => {
    await outbox.pool.query("select outbox.pause('default', 'ayse')");
    const at = await value("select max(at) from outbox.audit");
    expect(await found({ scheduler_stopped: "15 minutes", gateway_held: "5 minutes" })).toMatchObject([
      {
        key: "gateway_paused:default",
        summary: "gateway default was paused by ayse: nothing is sent to it, with no message due",
        since: at,
        help: "select outbox.resume('default');",
        request: "POST /gateways/default/resume",
      },
    ]);
  });

  test.each([
    ["throttled", "warning", "asks to be left alone"],
    ["hold", "critical", "is held, for its answer faults the account or the URL"],
    ["circuit_open", "critical", "fails, and its circuit is open"],
  ])("a gateway that is held (%s) is %s", async (reason, severity, words) => {
    await outbox.pool.query(
      "update outbox.gateways set held_until = $1, hold_reason = $2, hold_detail = 'HTTP 500'",
      [noon(1_000), reason],
    );
    expect(await found({ gateway_held: "5 minutes" })).toMatchObject([
      {
        key: "gateway_held:default",
        severity,
        summary: `gateway default ${words}: nothing but probes is sent to it, with no message due (HTTP 500)`,
        since: null,
      },
    ]);
    expect(await found({ gateway_held: "5 minutes" }, noon(2_000))).toEqual([]);
  });

  test("between the probes of an open circuit it is not over; and the gateway's words, which may quote a number, are left out", async () => {
    await outbox.pool.query(
      "update outbox.gateways set circuit = 'half_open', hold_reason = 'hold', hold_detail = 'HTTP 403: +905551234567 has no credit', held_until = $1",
      [noon(-1)],
    );
    const [alert] = await found({ gateway_held: "5 minutes" });
    expect(alert?.summary).toContain("(HTTP 403)");
  });

  test("with how many messages are due meanwhile, and the oldest of them", async () => {
    await addGateway("bulk");
    const late = await insert({ available_at: noon(-2), priority: 2 });
    const [first] = [await insert({ available_at: noon(-3) }), await insert({ available_at: noon(1) })];
    const bulk = await insert({ gateway: "bulk", available_at: noon(-1) });
    const { id } = await register();
    const claimed = await insert({ gateway: "bulk", available_at: noon(-9) });
    await outbox.pool.query(
      "update outbox.messages set claimed_by = $1, claimed_at = now(), attempts = 1 where id = $2",
      [id, claimed],
    );
    const held = "update outbox.gateways set held_until = $1, hold_reason = 'hold' where name = 'default'";
    await outbox.pool.query(held, [noon(1_000)]);
    await outbox.pool.query("select outbox.pause(); select outbox.pause('bulk')");
    const all = await found({ gateway_held: "5 minutes", scheduler_stopped: "15 minutes" });
    expect(all.map(({ kind, count, sample_ids }) => ({ kind, count, sample_ids }))).toEqual([
      { kind: "scheduler_stopped", count: 3, sample_ids: [first, late, bulk] },
      { kind: "gateway_paused", count: 1, sample_ids: [bulk] },
      { kind: "gateway_held", count: 2, sample_ids: [first, late] },
    ]);
    expect(all.map(({ summary }) => /with (.*) due/.exec(summary)?.[1])).toEqual([
      "3 messages",
      "1 message",
      "2 messages",
    ]);
  });

  test("no relayer is alive: since one was last heard of", async () => {
    const { id, client } = await register();
    await outbox.pool.query("update outbox.relayers set heartbeat_at = $1", [noon()]);
    expect(await found({ no_relayer: "1 minute" }, noon(1))).toEqual([]);
    await client.end();
    await expect
      .poll(async () =>
        (await found({ no_relayer: "1 minute" }, noon(1))).map(({ severity, key }) => `${severity} ${key}`),
      )
      .toEqual(["critical no_relayer"]);
    const [alert] = await found({ no_relayer: "1 minute" }, noon(1));
    expect(Date.parse(alert?.since)).toBe(Date.parse(noon()));
    await outbox.pool.query("delete from outbox.relayers where id = $1", [id]);
    expect(await found({ no_relayer: "1 minute" })).toMatchObject([
      { key: "no_relayer", since: null, count: 0, sample_ids: [] },
    ]);
  });
});

test("a replication slot of a query store that keeps too much WAL", async () => {
  const name = `outbox_${await value("select current_database()")}`;
  await outbox.pool.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
  try {
    // Switches to a new file, so that the slot surely is behind.
    await outbox.pool.query(
      "select pg_switch_wal(); create table outbox_wal (n int); select pg_switch_wal(); drop table outbox_wal",
    );
    const { retained } = await row(
      "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint as retained from pg_replication_slots where slot_name = $1",
      [name],
    );
    const ours = async (slot_wal: number) =>
      (await found({ slot_wal })).filter(({ key }) => key === `slot_wal:${name}`);
    expect(await ours(retained * 1_000)).toEqual([]);
    const [alert] = await ours(1);
    expect(alert).toMatchObject({ kind: "slot_wal", severity: "critical" });
    expect(alert?.summary).toMatch(
      new RegExp(
        `^replication slot ${name}, not in use, keeps \\d+ [kM]?B of WAL from being removed, more than 1 bytes?$`,
      ),
    );
    expect(await ours(Math.ceil(retained * 0.9))).toMatchObject([{ severity: "warning" }]);
  } finally {
    await outbox.pool.query("select pg_drop_replication_slot($1)", [name]);
  }
});

test("a channel by which notices could not be sent for a quarter of an hour", async () => {
  const job = (channel: string) =>
    outbox.pool.query("select outbox.queue_notice('{}', $1)", [channel]).then(() => value("select now()"));
  const from = Date.parse(await job("email"));
  await job("email");
  const to = Date.parse(await job("slack"));
  const after = async (minutes: number, since = to) =>
    await found({}, new Date(since + minutes * MINUTE).toISOString());
  expect(await after(14, from)).toEqual([]);
  const about = { kind: "notices_unsent", severity: "warning", count: null, help: "npm run alert:test" };
  const all = await after(15);
  expect(all.sort((a, b) => a.key.localeCompare(b.key))).toMatchObject([
    {
      ...about,
      key: "notices_unsent:email",
      summary: "2 notices could not be sent by email for more than 15 min",
    },
    {
      ...about,
      key: "notices_unsent:slack",
      summary: "a notice could not be sent by slack for more than 15 min",
    },
  ]);
  expect(Date.parse(all[0]?.since)).toBeLessThanOrEqual(to);
  // Given up: the log has it.
  await outbox.pool.query(
    "update outbox_worker._private_jobs set attempts = max_attempts where task_id = (select id from outbox_worker._private_tasks where identifier = 'notify_slack')",
  );
  expect((await after(15)).map(({ key }) => key)).toEqual(["notices_unsent:email"]);
  expect(await after(25 * 60)).toEqual([]);
  await outbox.pool.query("delete from outbox_worker._private_jobs");
});

test("without Graphile Worker's schema there is no notice to find", async () => {
  const client = await outbox.session();
  await client.query("begin; drop schema outbox_worker cascade");
  expect(await rows("select * from outbox.find_unsent_notices()", [], client)).toEqual([]);
  await client.query("rollback");
});

test("a person who may read may look, and sees neither numbers nor texts", async () => {
  await die(-1);
  const { client } = await outbox.login("outbox_auditor");
  const all = await rows("select * from outbox.find_alerts(slot_wal => null, as_of => $1)", [noon()], client);
  expect(all.length).toBeGreaterThan(0);
  expect(JSON.stringify(all)).not.toContain("905551234567");
});

test("reads a bounded number of rows, along the indexes, however much waits and dies", async () => {
  const client = await outbox.session();
  await client.query("begin");
  await client.query(
    `insert into outbox.messages (recipient, content, available_at, priority)
     select '+905551234567', 'hi', $1, n % 2 from generate_series(1, 20000) as n`,
    [noon(-10 * MINUTE)],
  );
  await client.query(
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
     select n, 'default', 1, '+905551234567', 'hi', '{}', $1, 1, $1, $1, case n % 2 when 0 then 'exhausted' else 'cancelled' end
     from generate_series(1000001, 1040000) as n`,
    [noon(-1)],
  );
  const read = () =>
    rows(
      `select relname, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables
       where schemaname = 'outbox' and relname in ('messages', 'dead_letters') order by 1`,
      [],
      client,
    );
  const before = await read();
  expect(
    await rows("select * from outbox.find_alerts(slot_wal => null, as_of => $1)", [noon()], client),
  ).toHaveLength(4);
  const after = await read();
  const fetched = after.map((table, n) => table.idx_tup_fetch - before[n]?.idx_tup_fetch);
  expect(after.map((table, n) => table.seq_scan - before[n]?.seq_scan)).toEqual([0, 0]);
  expect(fetched[0]).toBeLessThanOrEqual(10_001);
  // The whole is its parts: what is overdue, and, with no relayer alive but the scheduler running, what stands still.
  expect(fetched[1]).toBeLessThanOrEqual(2 * 3_003);
  for (const part of [
    "find_waiting('5 minutes', $1)",
    "find_stopped('15 minutes', '5 minutes', '1 minute', $1)",
  ]) {
    const [, then] = await read();
    await rows(`select * from outbox.${part}`, [noon()], client);
    const [, now] = await read();
    expect(now?.idx_tup_fetch - then?.idx_tup_fetch, part).toBeLessThanOrEqual(3_003);
  }
  await client.query("rollback");
});
