import { expect, test } from "vitest";
import { noon, type Row, type Shown, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, register, row, rows, settle } = outbox;

/** What happened, without when. */
const timeline = async (id: number): Promise<string[]> =>
  (await rows("select * from outbox.message_timeline($1)", [id])).map(
    ({ event, detail }) => `${event} ${detail}`,
  );

/** The same as explain() shows it. */
const dated = async (id: number): Promise<string[]> =>
  (await rows("select outbox.explain($1, $2) as line", [id, noon()]))
    .map(({ line }) => line as string)
    .filter((line) => /^\d{4}-/.test(line));

const verdict = async (id: number): Promise<string[]> =>
  (await rows("select outbox.explain($1) as line", [id]))
    .map(({ line }) => line as string)
    .filter((line) => !/^\d{4}-/.test(line));

const insert = (columns: Row = {}) =>
  outbox.insert({ created_at: noon(-60_000), available_at: noon(-60_000), ...columns });

/** One attempt, from its claim to what it showed a second later. */
async function attempt(by: number, id: number, atMs: number, shown: Omit<Shown, "id"> = {}): Promise<void> {
  await outbox.pool.query("update outbox.messages set available_at = $1 where id = $2", [noon(-60_000), id]);
  const claims = await claim(by, 1, { as_of: noon(atMs) });
  expect(claims.map((one) => one.id)).toEqual([id]);
  await settle(by, [{ id, attempt: claims[0]?.attempt ?? 0, ...shown }], { as_of: noon(atMs + 1_000) });
}

/** As an operator; on record with a time of the tests' calendar. */
async function operator(call: string, atMs: number): Promise<void> {
  await outbox.pool.query(`select outbox.${call}`);
  await outbox.pool.query("update outbox.audit set at = $1 where id = (select max(id) from outbox.audit)", [
    noon(atMs),
  ]);
}

const INSERTED = "inserted for gateway default, priority 1";

test("a whole life in order of time, in UTC whatever the session's time zone is", async () => {
  const { id: by } = await register("host:1");
  const id = await insert({ expires_at: noon(3_600_000) });
  await attempt(by, id, 0, { outcome: "throttled", error: "HTTP 429", retry_after_ms: 1_000 });
  await outbox.pool.query("select outbox.resume('default'); delete from outbox.audit");
  await attempt(by, id, 2_000, { outcome: "retry", error: "HTTP 500: oh no", duration_ms: 12 });
  await operator(`edit(${id}, priority => 0, content => 'x', actor => 'alice')`, 4_000);
  await outbox.pool.query("update outbox.messages set available_at = created_at");
  await claim(by, 1, { as_of: noon(5_000) });
  await outbox.pool.query("select outbox.rescue(as_of => $1)", [noon(40_000)]);
  await operator(`cancel(${id}, 'bob', '${noon(50_000)}')`, 50_000);
  await operator(
    `replay(${id}, recipient => '+15550001111', actor => 'alice', as_of => '${noon(60_000)}')`,
    60_000,
  );
  const { id: other } = await register("host:2");
  await outbox.pool.query("update outbox.messages set available_at = created_at");
  await claim(other, 1, { as_of: noon(70_000) });
  const before = [
    "2030-06-01 11:59:00.000 UTC  inserted for gateway default, priority 0, to expire at 2030-06-01 13:00:00 UTC",
    `2030-06-01 12:00:01.000 UTC  attempt 1 by relayer ${by}: throttled after 7 ms: HTTP 429`,
    // What it quoted of the text before the edit nobody knows.
    `2030-06-01 12:00:03.000 UTC  attempt 1 by relayer ${by}: retry after 12 ms: HTTP 500`,
    "2030-06-01 12:00:04.000 UTC  edit by alice, changed content and priority",
    `2030-06-01 12:00:40.000 UTC  rescue of attempt 2: claimed by relayer ${by} (host:1), which died; outcome unknown`,
    "2030-06-01 12:00:50.000 UTC  cancel by bob",
    "2030-06-01 12:01:00.000 UTC  replay by alice, of one cancelled, changed recipient",
  ];
  expect(await dated(id)).toEqual([
    ...before,
    `2030-06-01 12:01:10.000 UTC  claim by relayer ${other} for attempt 1`,
  ]);
  await settle(other, [{ id, gateway_message_id: "gw-1" }], { as_of: noon(71_000) });
  const session = await outbox.session();
  await session.query(
    "set timezone = 'Asia/Kolkata'; set datestyle = 'German'; set intervalstyle = 'iso_8601'",
  );
  const { rows: lines } = await session.query("select outbox.explain($1) as line", [id]);
  expect(lines.slice(2).map(({ line }) => line)).toEqual([
    ...before,
    `2030-06-01 12:01:11.000 UTC  sent by relayer ${other} in attempt 1, after 7 ms, as gw-1`,
  ]);
  expect(await row("select * from outbox.message_timeline($1) limit 1", [id])).toEqual({
    at: "2030-06-01T11:59:00.000000Z",
    event: "inserted",
    detail: "for gateway default, priority 0, to expire at 2030-06-01 13:00:00 UTC",
  });
});

test("every way to end", async () => {
  const { id: by } = await register();
  const rejected = await insert();
  await attempt(by, rejected, 0, { outcome: "rejected", error: "HTTP 400: no" });
  expect(await timeline(rejected)).toEqual([
    INSERTED,
    `attempt 1 by relayer ${by}: rejected after 7 ms: HTTP 400: no`,
    "ended as rejected",
  ]);
  const expired = await insert({ expires_at: noon() });
  await claim(by, 1, { as_of: noon() });
  expect(await timeline(expired)).toEqual([
    `${INSERTED}, to expire at 2030-06-01 12:00:00 UTC`,
    "ended as expired",
  ]);
  const cancelled = await insert();
  await operator(`cancel(${cancelled}, 'bob', '${noon()}')`, 0);
  expect(await timeline(cancelled)).toEqual([INSERTED, "cancel by bob"]);
  await outbox.pool.query("delete from outbox.audit");
  expect(await timeline(cancelled)).toEqual([INSERTED, "ended as cancelled"]);
});

test("a message sent twice, by force, and every attempt where the gateway keeps all", async () => {
  const { id: by } = await register();
  const id = await insert();
  await attempt(by, id, 0, { gateway_message_id: "gw-1" });
  await operator(`replay(${id}, force => true, actor => 'alice', as_of => '${noon(2_000)}')`, 2_000);
  await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
  await attempt(by, id, 3_000, { gateway_message_id: "gw-2" });
  expect(await timeline(id)).toEqual([
    INSERTED,
    `attempt 1 by relayer ${by}: accepted after 7 ms as gw-1`,
    "replay by alice, of one sent, with force",
    `sent by relayer ${by} in attempt 1, after 7 ms, as gw-2`,
  ]);
});

test("pauses of everything and of its gateway that fell into its wait", async () => {
  const { id: by } = await register();
  await outbox.addGateway("bulk");
  await operator("pause(actor => 'alice')", -90_000);
  await operator("resume(actor => 'alice')", -80_000);
  await operator("pause('default', 'alice')", -70_000);
  const id = await insert();
  await operator("pause('bulk', 'carol')", -50_000);
  await operator("pause('default', 'carol')", -40_000); // changes nothing
  await operator("resume('default', 'bob')", -30_000);
  await operator("pause(actor => 'bob')", -20_000);
  await operator("resume(actor => 'alice')", -10_000);
  const before = [
    "pause of gateway default by alice",
    INSERTED,
    "resume of gateway default by bob",
    "pause of everything by bob",
    "resume of everything by alice",
  ];
  expect(await timeline(id)).toEqual(before);
  await attempt(by, id, 0);
  await operator("pause(actor => 'dave')", 60_000);
  expect(await timeline(id)).toEqual([...before, expect.stringMatching(/^sent/)]);
});

test("the last hundred attempts, and where the others are", async () => {
  const id = await insert();
  await outbox.pool.query(
    `insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, error, duration_ms, ended_at)
     select $1, 1, 'default', n, 'throttled', 'HTTP 429', 7, $2::timestamptz + n * interval '1 second' from generate_series(1, 150) as n`,
    [id, noon()],
  );
  const lines = await timeline(id);
  expect(lines.slice(0, 3)).toEqual([
    INSERTED,
    "attempt 1 and those before it are in outbox.attempts",
    "attempt 1 by relayer 51: throttled after 7 ms: HTTP 429",
  ]);
  expect(lines).toHaveLength(102);
});

test("shows neither recipient nor content, whatever the gateway answered", async () => {
  const { id: by } = await register();
  const secret = { recipient: "+905551234567", content: "Şifreniz: 123456\nKimseyle paylaşmayın" };
  const id = await insert(secret);
  const answers = [
    "HTTP 500: +905551234567 is busy",
    "HTTP 500: 0555 123 45 67 is busy",
    `HTTP 500: {"text":${JSON.stringify(secret.content)}}`,
    "HTTP 500: Şifreniz: 123 (the answer was too long)",
    "HTTP 500: +15550001111 is busy",
    "HTTP 500: try again",
  ];
  await outbox.pool.query("update outbox.gateways set max_attempts = 1000, circuit_failures = 1000");
  for (const [n, error] of answers.entries()) await attempt(by, id, n * 2_000, { outcome: "retry", error });
  const QUOTED = /1234567|123 45|1555|123456|Kimse|Şifre/;
  const shown = async () => (await rows("select outbox.explain($1) as line", [id])).map(({ line }) => line);
  const outcome = (n: number, error: string) =>
    expect.stringMatching(new RegExp(`attempt ${n} by relayer ${by}: retry after 7 ms: ${error}$`));
  expect((await shown()).slice(-6)).toEqual([
    outcome(1, "HTTP 500"),
    outcome(2, "HTTP 500"),
    outcome(3, "HTTP 500"),
    outcome(4, "HTTP 500"),
    outcome(5, "HTTP 500"),
    outcome(6, "HTTP 500: try again"),
  ]);
  for (const [n, error] of [...answers, "HTTP 429: +905551234567"].entries()) {
    await outbox.pool.query("update outbox.messages set last_error = $1", [error]);
    await outbox.pool.query(
      "update outbox.gateways set held_until = '2100-01-01', hold_reason = 'throttled', hold_detail = $1",
      [error],
    );
    expect((await shown()).join("\n"), String(n)).not.toMatch(QUOTED);
    await outbox.pool.query("update outbox.gateways set held_until = null, hold_reason = null");
    await attempt(by, id, 60_000 + n * 10_000, { outcome: "rejected", error });
    expect((await shown()).join("\n"), String(n)).not.toMatch(QUOTED);
    await outbox.pool.query(`select outbox.replay(${id})`);
  }
});

test("may be called by one who may read no table", async () => {
  const id = await insert();
  const session = await outbox.session();
  await session.query(`
    begin;
    create role outbox_test_reader;
    grant usage on schema outbox to outbox_test_reader;
    grant execute on function outbox.explain, outbox.message_timeline to outbox_test_reader;
    set local role outbox_test_reader`);
  expect((await session.query("select outbox.explain($1) as line", [id])).rows.at(-1).line).toContain(
    INSERTED,
  );
  expect((await session.query("select outbox.explain(-1)")).rows).toHaveLength(1);
  expect((await session.query("select * from outbox.message_timeline($1)", [id])).rows).toHaveLength(1);
});

/** One that is dead since this moment, by the real clock, as replays of many go by it. */
async function dead(
  outcome: "rejected" | "retry" | "unknown" = "rejected",
  columns: Row = {},
): Promise<number> {
  const { id: by, client } = await register();
  const id = await outbox.insert(columns);
  await claim(by, 1);
  await settle(by, [{ id, outcome, error: "HTTP 400: no" }]);
  await client.end();
  return id;
}

const replayWhere = (args: string) =>
  row(`select * from outbox.replay_where(dry_run => false, actor => 'alice', ${args})`);

test("a replay of many that brought it back, as far as can be inferred", async () => {
  const id = await dead();
  const { replay_id: wrong } = await replayWhere("reason => 'exhausted'");
  const { replay_id: right } = await replayWhere("reason => 'rejected'");
  expect(right).not.toBe(wrong);
  const took = `replay_where by alice: replay ${right} brought it back (inferred: a replay of many records no ids)`;
  expect(await timeline(id)).toEqual([INSERTED, expect.stringMatching(/^attempt/), took]);
  expect((await verdict(id)).at(-1)).toMatch(
    new RegExp(
      `^It had ended before, and is back by replay ${right} of alice at .* UTC, with a fresh budget of attempts\\.$`,
    ),
  );
  await outbox.pool.query("update outbox.replays set status = 'running', finished_at = null");
  expect((await verdict(id)).at(-1)).toContain(`is back by replay ${right} of alice (still running) at `);
  // It dies again: then this replay is still what brought it back the first time.
  const { id: by } = await register();
  await claim(by, 1);
  await settle(by, [{ id, outcome: "rejected", error: "HTTP 400: no" }]);
  expect(await timeline(id)).toEqual([
    INSERTED,
    expect.stringMatching(/^attempt 1.* rejected/),
    took,
    expect.stringMatching(/^attempt 1.* rejected/),
    "ended as rejected",
  ]);
});

test.each(["exhausted", "cancelled", "expired"])(
  "a replay of many that brought back one %s",
  async (reason) => {
    await outbox.pool.query("update outbox.gateways set max_attempts = 3, base_delay = '1 microsecond'");
    const { id: by } = await register();
    const id = await outbox.insert(
      reason === "expired" ? { expires_at: new Date(Date.now() + 60_000).toISOString() } : {},
    );
    if (reason === "expired")
      await outbox.pool.query(
        "update outbox.messages set expires_at = created_at + interval '1 microsecond'",
      );
    if (reason === "cancelled") await outbox.pool.query(`select outbox.cancel(${id})`);
    for (let n = 1; n <= 3; n++) {
      const [one] = await claim(by, 1, { as_of: new Date(Date.now() + 60_000).toISOString() });
      if (one) await settle(by, [{ id, attempt: one.attempt, outcome: "retry", error: "HTTP 500" }]);
    }
    expect((await outbox.dead(id)).reason).toBe(reason);
    if (reason === "expired") await outbox.pool.query("update outbox.dead_letters set died_at = now()");
    const { replay_id } = await replayWhere("expires_at => '2100-01-01'");
    expect((await timeline(id)).filter((line) => line.startsWith("replay"))).toEqual([
      `replay_where by alice: replay ${replay_id} brought it back (inferred: a replay of many records no ids)`,
    ]);
  },
);

test("not a replay of many that only ran while it was tried again", async () => {
  const { id: by } = await register();
  await outbox.pool.query("update outbox.gateways set base_delay = '1 microsecond'");
  const gone = await dead("rejected");
  const id = await outbox.insert();
  await claim(by, 1);
  await settle(by, [{ id, outcome: "retry", error: "HTTP 500" }]);
  await replayWhere("reason => 'rejected'");
  await outbox.pool.query("delete from outbox.messages where id = $1", [gone]);
  await claim(by, 1);
  await settle(by, [{ id, attempt: 2, outcome: "retry", error: "HTTP 500" }]);
  expect((await timeline(id)).filter((line) => line.startsWith("replay"))).toEqual([]);
  // Nor one that came when a replay of its own had brought it back.
  await claim(by, 1);
  await settle(by, [{ id, attempt: 3, outcome: "rejected", error: "HTTP 400" }]);
  await outbox.pool.query("select outbox.replay($1, actor => 'bob')", [id]);
  await dead("rejected");
  await replayWhere("reason => 'rejected'");
  expect((await timeline(id)).filter((line) => line.startsWith("replay"))).toEqual([
    "replay by bob, of one rejected",
  ]);
});

test("a replay of many that is to take it, passed it by, or ended before its turn", async () => {
  await outbox.pool.query("update outbox.gateways set on_unknown = 'park'");
  const first = await dead();
  const id = await dead("unknown");
  const passed = (await replayWhere("max_messages => 5")).replay_id;
  expect(await outbox.places(first)).toEqual(["messages"]);
  const running = async (columns: string, values: string) =>
    outbox.value(
      `insert into outbox.replays (actor, until, matched, ${columns}) values ('bob', clock_timestamp(), 7, ${values}) returning id`,
    );
  const [taking, leaving, other, ended, cancelled] = [
    await running("force", "true"),
    await running("force", "false"),
    await running("reason", "'expired'"),
    await running("status, finished_at, max_messages", "'done', now(), 1"),
    await running("status, finished_at", "'cancelled', now()"),
  ];
  expect(other).toBeGreaterThan(leaving);
  expect((await timeline(id)).slice(2)).toEqual([
    "ended as unknown_outcome",
    `replay_where by alice: replay ${passed} passed it by`,
    `replay_where by bob: replay ${taking} is to take it in its turn`,
    `replay_where by bob: replay ${leaving} is to take it in its turn`,
    `replay_where by bob: replay ${ended} was at its limit before its turn`,
    `replay_where by bob: replay ${cancelled} was cancelled before its turn`,
  ]);
  expect((await verdict(id)).slice(1)).toEqual([
    `Replay ${taking} of bob is running (0 of 7 are back), and takes it in its turn.`,
    `Replay ${leaving} of bob is running (0 of 7 are back), and takes it in its turn, or rather passes it by, for it cannot go back as it is.`,
  ]);
});
