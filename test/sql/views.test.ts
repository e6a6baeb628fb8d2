import { describe, expect, test } from "vitest";
import { between, fromNow, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, insertMany, register, row, rows, settle } = outbox;

const health = () => row("select * from outbox.health");

/** Claims everything due of the default gateway, and settles the message with this outcome. */
async function ended(id: number, outcome: "accepted" | "rejected" | "unknown" | "retry", as_of?: string) {
  const relayer = await register();
  await claim(relayer.id, 1_000);
  await settle(
    relayer.id,
    [{ id, outcome, error: outcome === "accepted" ? null : "why", http_status: 400 }],
    { as_of },
  );
}

describe("all_messages", () => {
  const status = async (id: number) =>
    (await row("select status from outbox.all_messages where id = $1", [id])).status;

  test("knows a message that waits, that is in flight, and that was sent", async () => {
    const id = await insert();
    expect(await status(id)).toBe("pending");
    await claim((await register()).id);
    expect(await status(id)).toBe("sending");
    await outbox.pool.query("select outbox.release(claimed_by, array[id]) from outbox.messages");
    await ended(id, "accepted");
    expect(await status(id)).toBe("sent");
  });

  test.each([
    ["rejected", "failed"],
    ["exhausted", "failed"],
    ["unknown_outcome", "failed"],
    ["expired", "expired"],
    ["cancelled", "cancelled"],
  ])("shows %s as %s", async (reason, shown) => {
    const id = await insert();
    await outbox.pool.query("select outbox.bury($1, $2, '{400}', '{why}')", [[id], `{${reason}}`]);
    expect(
      await row("select status, reason, http_status, error from outbox.all_messages where id = $1", [id]),
    ).toEqual({
      status: shown,
      reason,
      http_status: 400,
      error: "why",
    });
  });

  test("has every column of a message in whichever table it stands, and what is only theirs beside them", async () => {
    const given = {
      recipient: "+4915112345678",
      content: "text",
      priority: 2,
      metadata: { order: 7 },
      dedupe_key: "k",
      expires_at: "2100-01-01T00:00:00.000000Z",
      traceparent: "00-ab",
    };
    const [waiting, sent, dead] = [
      await insert(given),
      await insert({ ...given, dedupe_key: "l" }),
      await insert({ ...given, dedupe_key: "m" }),
    ];
    await ended(sent, "accepted");
    const relayer = (await row("select claimed_by from outbox.messages limit 1")).claimed_by;
    await settle(relayer, [{ id: dead, outcome: "rejected", error: "why", http_status: 400 }]);
    for (const [table, id] of [
      ["messages", waiting],
      ["sent", sent],
      ["dead_letters", dead],
    ] as const) {
      const shown = await row("select * from outbox.all_messages where id = $1", [id]);
      expect(shown).toMatchObject(await row(`select * from outbox.${table} where id = $1`, [id]));
    }
    expect(await row("select * from outbox.all_messages where id = $1", [waiting])).toMatchObject({
      sent_at: null,
      gateway_message_id: null,
      duration_ms: null,
      died_at: null,
      reason: null,
      http_status: null,
      error: null,
    });
  });
});

describe("backlog", () => {
  const backlog = () => rows("select * from outbox.backlog");

  test("is empty when nothing waits, whatever was sent", async () => {
    const id = await insert();
    await ended(id, "accepted");
    expect(await backlog()).toEqual([]);
  });

  test("counts what is due, scheduled and in flight, for each gateway and priority", async () => {
    await outbox.addGateway("other");
    const relayer = await register();
    await insertMany(2, { priority: 0 });
    await claim(relayer.id);
    await insertMany(3, { priority: 0 });
    const next = fromNow(60_000);
    await insert({ priority: 0, available_at: fromNow(120_000) });
    await insert({ priority: 0, available_at: next });
    await insert({ priority: 2, gateway: "other", available_at: fromNow(-90_000) });
    const [codes, bulk] = await backlog();
    expect(codes).toEqual({
      gateway: "default",
      priority: 0,
      due: 3,
      scheduled: 2,
      in_flight: 2,
      oldest_due_age: expect.anything(),
      next_scheduled_at: next.replace("Z", "000Z"),
    });
    expect(bulk).toMatchObject({ gateway: "other", priority: 2, due: 1, scheduled: 0, in_flight: 0 });
    const age = await row(
      "select extract(epoch from oldest_due_age)::float8 as s from outbox.backlog where gateway = 'other'",
    );
    expect(age.s).toBeGreaterThanOrEqual(90);
    expect(age.s).toBeLessThan(120);
    expect(await backlog()).toHaveLength(2);
  });
});

describe("health", () => {
  test("is one row, also when there is nothing", async () => {
    expect(await rows("select * from outbox.health")).toEqual([
      {
        running: true,
        changed_at: expect.any(String),
        changed_by: expect.any(String),
        relayers_alive: 0,
        due: 0,
        scheduled: 0,
        in_flight: 0,
        oldest_due_age: null,
        sent_last_minute: 0,
        dead_last_minute: 0,
        stopped_gateways: [],
        failures_last_minute: 0,
        oldest_snapshot_age: null,
        oldest_snapshot_holder: null,
      },
    ]);
  });

  test("says whether it runs, since when, and who changed it", async () => {
    await outbox.pool.query("select outbox.pause(actor => 'ayşe')");
    const { running, changed_at, changed_by } = await health();
    expect({ running, changed_by }).toEqual({ running: false, changed_by: "ayşe" });
    expect(Math.abs(between(changed_at, new Date().toISOString()))).toBeLessThan(20_000);
  });

  test("counts the relayers that live", async () => {
    await register();
    const silent = await register();
    await outbox.pool.query("select outbox.heartbeat($1, as_of => now() - interval '31 seconds')", [
      silent.id,
    ]);
    const ended = await register();
    await ended.client.query("select pg_advisory_unlock_all()");
    expect((await health()).relayers_alive).toBe(1);
  });

  test("adds up what waits, over gateways and priorities", async () => {
    await outbox.addGateway("other");
    await insert({ priority: 0 });
    await claim((await register()).id);
    await insert({ gateway: "other", available_at: fromNow(-90_000) });
    await insert({ priority: 2 });
    await insert({ available_at: fromNow(60_000) });
    const { due, scheduled, in_flight } = await health();
    expect({ due, scheduled, in_flight }).toEqual({ due: 2, scheduled: 1, in_flight: 1 });
    expect((await row("select oldest_due_age > interval '89 seconds' as old from outbox.health")).old).toBe(
      true,
    );
  });

  test("counts what was sent, what failed and what died within the last minute", async () => {
    await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
    const [a, b, c, d, e] = (await insertMany(5)) as [number, number, number, number, number];
    const relayer = await register();
    await claim(relayer.id);
    await settle(relayer.id, [{ id: a }, { id: b, outcome: "rejected" }, { id: e, outcome: "retry" }]);
    await settle(relayer.id, [{ id: c }, { id: d, outcome: "rejected" }], { as_of: fromNow(-61_000) });
    expect(await health()).toMatchObject({
      sent_last_minute: 1,
      dead_last_minute: 1,
      failures_last_minute: 2,
    });
  });

  test("names the gateways that are paused or held", async () => {
    for (const name of ["paused", "held", "once-held", "fine"]) await outbox.addGateway(name);
    await outbox.pool.query("select outbox.pause('paused')");
    const hold = (name: string, until: string) =>
      outbox.pool.query("update outbox.gateways set held_until = $2, hold_reason = 'hold' where name = $1", [
        name,
        until,
      ]);
    await hold("held", fromNow(60_000));
    await hold("once-held", fromNow(-1_000));
    expect((await health()).stopped_gateways).toEqual(["held", "paused"]);
  });
});

describe("gateway_status", () => {
  const status = (gateway: string) =>
    row("select * from outbox.gateway_status where gateway = $1", [gateway]);

  test("says how each gateway is set and how it does", async () => {
    await outbox.addGateway("other", { concurrency: 7, max_attempts: 3 });
    const relayer = await register();
    const [a, b, c] = (await insertMany(3)) as [number, number, number];
    const d = await insert({ gateway: "other" });
    await claim(relayer.id);
    await claim(relayer.id, 1, { gateway: "other" });
    await settle(relayer.id, [{ id: a }, { id: b, outcome: "rejected" }]);
    await settle(relayer.id, [{ id: c }], { as_of: fromNow(-61_000) });
    await settle(relayer.id, [{ id: d, outcome: "retry" }]);
    expect(await status("default")).toMatchObject({
      state: "relaying",
      paused: false,
      concurrency: 64,
      max_attempts: 5,
      sent_last_minute: 1,
      failures_last_minute: 1,
    });
    expect(await status("other")).toMatchObject({
      concurrency: 7,
      max_attempts: 3,
      scheduled: 1,
      sent_last_minute: 0,
      failures_last_minute: 1,
    });
  });

  test("says of a gateway that it is paused, also while it is held", async () => {
    await outbox.pool.query("select outbox.pause('default')");
    await outbox.pool.query(
      "update outbox.gateways set held_until = now() + interval '1 minute', hold_reason = 'hold'",
    );
    expect(await status("default")).toMatchObject({ state: "paused", paused: true, hold_reason: "hold" });
    await outbox.pool.query("update outbox.gateways set paused = false");
    expect(await status("default")).toMatchObject({ state: "hold", paused: false });
  });
});

test("a role that may select from the views and call what they call needs no right to the tables behind them", async () => {
  await insertMany(2);
  const relayer = await register();
  await claim(relayer.id, 1);
  const reader = await outbox.session();
  const views = await rows("select viewname as name from pg_views where schemaname = 'outbox'");
  await reader.query("begin; create role only_views; grant usage on schema outbox to only_views");
  for (const { name } of views) await reader.query(`grant select on outbox.${name} to only_views`);
  await reader.query(
    "grant execute on function outbox.relayer_is_alive, outbox.tally, outbox.tally_minute, outbox.tokens to only_views",
  );
  await reader.query("set local role only_views");
  for (const { name } of views) await reader.query(`select * from outbox.${name}`);
  expect(await rows("select in_flight from outbox.health", [], reader)).toEqual([{ in_flight: 1 }]);
  await expect(reader.query("select from outbox.messages")).rejects.toThrow("permission denied");
  await reader.query("rollback");
});
