import type pg from "pg";
import { describe, expect, test } from "vitest";
import { fromNow, noon, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, register, row, rows, settle, value } = outbox;

/** The lines, without those of the timeline, which begin with their time. */
const verdict = async (id: number, as_of = noon()): Promise<string[]> =>
  (await rows("select outbox.explain($1, $2) as line", [id, as_of]))
    .map(({ line }) => line as string)
    .filter((line) => !/^\d{4}-\d\d-\d\d /.test(line));

/** A message of the tests' calendar, that waits since their noon. */
const insert = (columns: Row = {}) =>
  outbox.insert({ created_at: noon(-60_000), available_at: noon(), ...columns });

const utc = (time: string) => `${time.slice(0, 19).replace("T", " ")} UTC`;
const url = (gateway = "default") =>
  outbox.pool.query("update outbox.gateways set url = 'https://example.com/' where name = $1", [gateway]);
const gateway = (set: string, values: readonly unknown[] = []) =>
  outbox.pool.query(`update outbox.gateways set ${set} where name = 'default'`, [...values]);

/** A relayer that is alive at any time of the tests' calendar. */
async function relayer(name = "host:1"): Promise<{ id: number; client: pg.Client }> {
  const registered = await register(name);
  await outbox.pool.query("update outbox.relayers set heartbeat_at = '2030-07-01' where id = $1", [
    registered.id,
  ]);
  return registered;
}

/** All is as it should be: what is in the way is the test's. */
async function ready(): Promise<{ id: number; client: pg.Client }> {
  await url();
  return await relayer();
}

/** As an operator; on record with a time of the tests' calendar. */
async function operator(call: string, at: string): Promise<void> {
  await outbox.pool.query(`select outbox.${call}`);
  await outbox.pool.query(
    "update outbox.audit set at = $1 where id = (select max(id) from outbox.audit where action not like 'replay_%')",
    [at],
  );
}

/** A session whose transaction is open, and how it is spoken of. */
async function open(...queries: string[]): Promise<{ client: pg.Client; pid: number; shown: string }> {
  const client = await outbox.session();
  await client.query("begin");
  for (const query of queries) await client.query(query);
  const { pid, usename, xact_start } = await row(
    "select pid, usename, xact_start from pg_stat_activity where pid = pg_backend_pid()",
    [],
    client,
  );
  return { client, pid, shown: `session ${pid} (${usename}, in a transaction since ${utc(xact_start)})` };
}

const IT_WAITS = (id: number, reason: string) => `Message ${id} waits: ${reason}`;
const WITHOUT_WAY = (id: number, relayers = "1 relayer is") =>
  `Message ${id} is due since 2030-06-01 12:00:00 UTC, and nothing is in its way: it goes at any moment. ${relayers} alive.`;

describe("no such message", () => {
  test("of an id that was never given out", async () => {
    const last = await insert();
    expect(await verdict(last + 5)).toEqual([
      `There is no message ${last + 5}, and there never was: the last id given out is ${last}.`,
    ]);
    expect(await verdict(0)).toEqual([
      `There is no message 0, and there never was: the last id given out is ${last}.`,
    ]);
  });

  test("where none was given out yet", async () => {
    const session = await open("alter sequence outbox.messages_id_seq restart");
    expect((await session.client.query("select outbox.explain(1) as line")).rows).toEqual([
      { line: "There is no message 1, and there never was: no id was given out yet." },
    ]);
  });

  test("that was rolled back, is not committed, or is no longer kept", async () => {
    const { client } = await open();
    const id = await outbox.insert({}, client);
    await insert();
    const said = (sent: string) =>
      `There is no message ${id}, though its id was given out: the transaction that inserted it is still open or was rolled back, or the message ended and is no longer kept (outbox.sent ${sent}).`;
    expect(await verdict(id)).toEqual([said("is empty")]);
    await client.query("rollback");
    const { id: by } = await ready();
    const [claimed] = await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id: claimed?.id ?? 0 }], { as_of: noon(1_000) });
    expect(await verdict(id)).toEqual([said("goes back to 2030-06-01 12:00:01 UTC")]);
  });

  test("any more, but it left a trace", async () => {
    const { id: by } = await ready();
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id, outcome: "rejected", error: "HTTP 400: no" }], { as_of: noon(1_000) });
    await outbox.pool.query("delete from outbox.dead_letters");
    const lines = await rows("select outbox.explain($1) as line", [id]);
    // Whether the answer quotes the message cannot be known any more.
    expect(lines.map(({ line }) => line)).toEqual([
      `There is no message ${id} any more: it ended, and was dropped by retention or deleted. What is still on record of it:`,
      `2030-06-01 12:00:01.000 UTC  attempt 1 by relayer ${by}: rejected after 7 ms: HTTP 400`,
    ]);
  });
});

describe("a message that waits", () => {
  test("and is due, with nothing in its way", async () => {
    await ready();
    const id = await insert();
    expect(await verdict(id)).toEqual([WITHOUT_WAY(id)]);
    await relayer("host:2");
    expect(await verdict(id)).toEqual([WITHOUT_WAY(id, "2 relayers are")]);
  });

  test("for its own transaction to commit", async () => {
    await ready();
    const { client } = await open();
    const id = await outbox.insert({}, client);
    const lines = await rows("select outbox.explain($1) as line", [id], client);
    expect(lines[0]?.line).toBe(IT_WAITS(id, "what this session did to it is not committed."));
  });

  test("for a relayer", async () => {
    await url();
    const id = await insert();
    expect(await verdict(id)).toEqual([IT_WAITS(id, "no relayer is alive. Start one.")]);
    const { client } = await relayer();
    await client.end();
    await outbox.pool.query("update outbox.relayers set heartbeat_at = $1", [noon(-5_000)]);
    expect(await verdict(id)).toEqual([
      IT_WAITS(id, "no relayer is alive; one was last heard of at 2030-06-01 11:59:55 UTC. Start one."),
    ]);
  });

  test("while the scheduler is stopped", async () => {
    await ready();
    const id = await insert();
    await operator("pause(actor => 'alice')", noon(-1_000));
    await outbox.pool.query("update outbox.scheduler set changed_at = $1", [noon(-1_000)]);
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "the scheduler was stopped by alice at 2030-06-01 11:59:59 UTC. select outbox.resume(); starts it.",
      ),
    ]);
  });

  test("while its gateway is paused", async () => {
    await ready();
    const id = await insert();
    await operator("pause('default', 'alice')", noon(-1_000));
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default was paused by alice at 2030-06-01 11:59:59 UTC. select outbox.resume('default'); starts it.",
      ),
    ]);
    await outbox.pool.query("delete from outbox.audit");
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default is paused, and there is no record of by whom. select outbox.resume('default'); starts it.",
      ),
    ]);
  });

  test("while somebody's pause or resume is not committed", async () => {
    await ready();
    const id = await insert();
    const { pid, shown } = await open("select outbox.resume()");
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        `${shown} has not committed its pause or resume, and until it does nothing is claimed anywhere. select pg_terminate_backend(${pid}); ends it.`,
      ),
    ]);
  });

  test("for a gateway that is gone, though that is refused", async () => {
    await ready();
    await outbox.addGateway("bulk", { url: "https://example.com/" });
    const id = await insert({ gateway: "bulk" });
    await outbox.pool.query(`
      alter table outbox.gateways disable trigger guard_gateway;
      delete from outbox.gateways where name = 'bulk';
      alter table outbox.gateways enable trigger guard_gateway`);
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "there is no gateway bulk any more. insert into outbox.gateways (name, url) values ('bulk', 'https://…'); brings it back.",
      ),
    ]);
  });

  test("for the url of its gateway", async () => {
    await relayer();
    await outbox.addGateway("bulk");
    const [id, bulk] = [await insert({ priority: 0 }), await insert({ gateway: "bulk" })];
    expect(await verdict(bulk)).toEqual([
      IT_WAITS(
        bulk,
        "gateway bulk has no url. update outbox.gateways set url = 'https://…' where name = 'bulk'; gives it one.",
      ),
    ]);
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default has no url: only a relayer outside production sends its messages, to a demo gateway of its own. update outbox.gateways set url = 'https://…' where name = 'default'; gives it one.",
      ),
    ]);
  });

  test("while its gateway is throttled", async () => {
    await ready();
    const id = await insert();
    await gateway(
      "held_until = $1, hold_reason = 'throttled', hold_detail = 'HTTP 429: +905551234567 is busy'",
      [noon(90_000)],
    );
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default asked (HTTP 429) to be left alone until 2030-06-01 12:01:30 UTC, for another 1 min 30 s. select outbox.resume('default'); ends that at once.",
      ),
    ]);
    expect(await verdict(id, noon(90_000))).toHaveLength(1);
  });

  test("while its gateway is held", async () => {
    await ready();
    const id = await insert();
    await gateway(
      "held_until = $1, hold_reason = 'hold', hold_detail = 'HTTP 401: bad key', circuit = 'open'",
      [noon(300_000)],
    );
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default is held until 2030-06-01 12:05:00 UTC, for another 5 min: its answer (HTTP 401) faults the account or the URL. Then it is probed. select outbox.resume('default'); ends that at once.",
      ),
    ]);
  });

  test("while its gateway's circuit is open, then for the probe, then while that is under way", async () => {
    await ready();
    const id = await insert();
    await gateway(
      "held_until = $1, hold_reason = 'circuit_open', hold_detail = '5 failures in a row; the last: HTTP 500: oh no', circuit = 'open'",
      [noon(2_000)],
    );
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "gateway default fails (5 failures in a row; the last: HTTP 500), so its circuit is open until 2030-06-01 12:00:02 UTC, for another 2 s. Then it is probed. select outbox.resume('default'); ends that at once.",
      ),
    ]);
    expect(await verdict(id, noon(2_000))).toEqual([
      IT_WAITS(
        id,
        "gateway default failed (5 failures in a row; the last: HTTP 500), and is due to be probed: the next claim takes at most 3 messages. If half of them pass, everything goes on.",
      ),
    ]);
    await gateway("held_until = $1, circuit = 'half_open', circuit_changed_at = $2, probes = 1", [
      noon(15_000),
      noon(2_000),
    ]);
    expect(await verdict(id, noon(2_500))).toEqual([
      IT_WAITS(
        id,
        "gateway default failed (5 failures in a row; the last: HTTP 500), and is being probed with 1 message since 2030-06-01 12:00:02 UTC. If half of them pass, everything goes on. select outbox.resume('default'); ends that at once.",
      ),
    ]);
  });

  test("while somebody has the row of its gateway locked, if claims need that", async () => {
    await ready();
    const id = await insert();
    const lock = "select from outbox.gateways where name = 'default' for update";
    const first = await open(lock);
    expect(await verdict(id)).toEqual([WITHOUT_WAY(id)]);
    await first.client.query("rollback");
    await gateway("rate_per_second = 100, tokens = 10, tokens_at = $1", [noon()]);
    const { pid, shown } = await open(lock);
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        `${shown} has the row of gateway default locked, and while it does nothing is claimed for one that has a rate or is to be probed. select pg_terminate_backend(${pid}); ends it.`,
      ),
    ]);
  });

  test("while somebody has its row locked, or is changing it", async () => {
    await ready();
    const id = await insert();
    for (const query of [
      `select from outbox.messages where id = ${id} for update`,
      `select outbox.edit(${id}, content => 'x')`,
      `savepoint s; select outbox.cancel(${id})`,
    ]) {
      const { client, pid, shown } = await open(query);
      expect(await verdict(id)).toEqual([
        IT_WAITS(
          id,
          `${shown} has its row locked, and until that ends it is neither claimed nor settled. select pg_terminate_backend(${pid}); ends it.`,
        ),
      ]);
      await client.query("rollback");
    }
    expect(await verdict(id)).toEqual([WITHOUT_WAY(id)]);
  });

  test("is not said to be locked by what comes and goes", async () => {
    await ready();
    const id = await outbox.insert();
    await open(`select from outbox.messages where id = ${id} for update`);
    const lines = await verdict(id, fromNow(0));
    expect(lines).toEqual([expect.stringContaining("nothing is in its way")]);
  });

  test("for its schedule", async () => {
    await ready();
    const id = await insert({ available_at: noon(2 * 3_600_000) });
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        `it is scheduled for 2030-06-01 14:00:00 UTC, in 2 h. select outbox.edit(${id}, available_at => now()); makes it due.`,
      ),
    ]);
  });

  test("for its next attempt", async () => {
    const { id: by } = await ready();
    await gateway("base_delay = '8 seconds', jitter = 0");
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id, outcome: "retry", error: "HTTP 500: oh no" }], { as_of: noon(1_000) });
    expect(await verdict(id, noon(1_500))).toEqual([
      IT_WAITS(
        id,
        `its next attempt is due at 2030-06-01 12:00:09 UTC, in 7.5 s. select outbox.edit(${id}, available_at => now()); makes it due.`,
      ),
      "Attempts used: 1 of 5; the last one showed: HTTP 500: oh no",
    ]);
  });

  test("behind others of its gateway and priority", async () => {
    await ready();
    await outbox.addGateway("bulk");
    await insert({ available_at: noon(-1) });
    const id = await insert();
    await insert();
    await insert({ available_at: noon(-1), priority: 0 });
    await insert({ available_at: noon(-1), gateway: "bulk" });
    expect(await verdict(id)).toEqual([
      IT_WAITS(id, "1 due message of gateway default and priority 1 stands before it."),
    ]);
    const many = (count: number) =>
      outbox.pool.query(
        "insert into outbox.messages (recipient, content, available_at, created_at) select '+905551234567', 'hi', $1, $1 from generate_series(1, $2)",
        [noon(-2), count],
      );
    await many(9_999);
    expect(await verdict(id)).toEqual([
      IT_WAITS(id, "10,000 due messages of gateway default and priority 1 stand before it."),
    ]);
    await many(1);
    expect(await verdict(id)).toEqual([
      IT_WAITS(id, "more than 10,000 due messages of gateway default and priority 1 stand before it."),
    ]);
    await gateway("rate_per_second = 50, tokens = 0, tokens_at = $1", [noon()]);
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "more than 10,000 due messages of gateway default and priority 1 stand before it, and the gateway takes 50 a second (rate_per_second): its turn comes in more than 3 min 20 s.",
      ),
    ]);
  });

  test("for the rate of its gateway", async () => {
    await ready();
    const id = await insert();
    await gateway("rate_per_second = 5, tokens = 0.25, tokens_at = $1", [noon()]);
    expect(await verdict(id)).toEqual([
      IT_WAITS(id, "gateway default takes 5 a second (rate_per_second), and the next is allowed in 150 ms."),
    ]);
    await insert({ available_at: noon(-1) });
    await insert({ available_at: noon(-1) });
    expect(await verdict(id)).toEqual([
      IT_WAITS(
        id,
        "2 due messages of gateway default and priority 1 stand before it, and the gateway takes 5 a second (rate_per_second): its turn comes in about 550 ms.",
      ),
    ]);
    // Tokens enough for all of them.
    expect(await verdict(id, noon(550))).toEqual([WITHOUT_WAY(id)]);
  });

  test("and expires soon, or too soon", async () => {
    await ready();
    const id = await insert({ expires_at: noon(180_000) });
    expect(await verdict(id)).toEqual([WITHOUT_WAY(id), "It expires at 2030-06-01 12:03:00 UTC, in 3 min."]);
    await gateway("held_until = $1, hold_reason = 'hold', hold_detail = 'HTTP 401'", [noon(300_000)]);
    expect((await verdict(id)).at(-1)).toBe(
      "It expires at 2030-06-01 12:03:00 UTC, in 3 min, which is before its gateway is claimed for again.",
    );
    const late = await insert({ expires_at: noon(180_000), available_at: noon(180_000) });
    expect((await verdict(late)).at(-1)).toBe(
      "It expires at 2030-06-01 12:03:00 UTC, in 3 min, which is before it is due: it will not be sent unless one of the two is changed (outbox.edit).",
    );
  });

  test("and has expired, but is not buried yet", async () => {
    await ready();
    const id = await insert({ expires_at: noon(-1_000) });
    await operator("pause(actor => 'alice')", noon());
    expect(await verdict(id)).toEqual([
      `Message ${id} will not be sent: it expired at 2030-06-01 11:59:59 UTC, and the next claim of its gateway or outbox.maintain() makes it a dead letter. select outbox.edit(${id}, expires_at => now() + interval '1 hour'); gives it a new end.`,
      expect.stringMatching(/^Also: the scheduler was stopped by alice/),
    ]);
  });

  test("after a replay", async () => {
    const { id: by } = await ready();
    await gateway("max_attempts = 1");
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id, outcome: "retry", error: "HTTP 500" }], { as_of: noon(1_000) });
    await operator(`replay(${id}, actor => 'alice', as_of => '${noon(2_000)}')`, noon(2_000));
    expect(await verdict(id, noon(2_000))).toEqual([
      `Message ${id} is due since 2030-06-01 12:00:02 UTC, and nothing is in its way: it goes at any moment. 1 relayer is alive.`,
      "Attempts used: 0 of 1; the last one showed: HTTP 500",
      "It had ended before, and is back by a replay of alice at 2030-06-01 12:00:02 UTC, with a fresh budget of attempts.",
    ]);
  });

  test("where relayers have gone by ticks", async () => {
    await ready();
    const id = await insert();
    await outbox.pool.query("select outbox.take_tick($1)", [noon(-30_000)]);
    expect(await verdict(id)).toEqual([
      WITHOUT_WAY(id),
      "Relayers with relay.mode 'scheduled' send at the ticks of their crontab only; the last one was at 2030-06-01 11:59:30 UTC.",
    ]);
  });

  test("for every reason at once, the most decisive first", async () => {
    const { client } = await relayer();
    await client.end();
    await outbox.pool.query("update outbox.relayers set heartbeat_at = '-infinity'");
    const id = await insert({ available_at: noon(60_000) });
    await operator("pause(actor => 'alice')", noon());
    await operator("pause('default', 'bob')", noon());
    await gateway("held_until = $1, hold_reason = 'hold', hold_detail = 'HTTP 401', circuit = 'open'", [
      noon(60_000),
    ]);
    await open(`select from outbox.messages where id = ${id} for update`);
    expect(await verdict(id)).toEqual([
      expect.stringMatching(`^Message ${id} waits: the scheduler was stopped by alice`),
      expect.stringMatching("^Also: gateway default was paused by bob"),
      "Also: no relayer is alive. Start one.",
      expect.stringMatching("^Also: gateway default is held until 2030-06-01 12:01:00 UTC"),
      expect.stringMatching("^Also: session .* has its row locked"),
      expect.stringMatching("^Also: it is scheduled for 2030-06-01 12:01:00 UTC"),
      expect.stringMatching("^Also: gateway default has no url"),
    ]);
  });
});

describe("a message that is being sent", () => {
  test("by a relayer that lives", async () => {
    const { id: by } = await ready();
    const id = await insert({ expires_at: noon(60_000) });
    await claim(by, 1, { as_of: noon() });
    expect(await verdict(id, noon(1_200))).toEqual([
      `Message ${id} is being sent: relayer ${by} (host:1), which is alive, claimed it at 2030-06-01 12:00:00 UTC, 1.2 s ago, for attempt 1 of 5.`,
      "It expires at 2030-06-01 12:01:00 UTC: it is not sent after that.",
    ]);
    expect(await verdict(id, noon(61_000))).toEqual([
      expect.stringContaining("1 min 1 s ago"),
      "That is longer than its gateway's timeout of 10 s: it waits at the relayer for a free connection, or its result cannot be recorded; the log of the relayer says more.",
      "It expired at 2030-06-01 12:01:00 UTC: it is not sent unless it has left already.",
    ]);
  });

  test("while somebody has its row locked, so that its result cannot be recorded", async () => {
    const { id: by } = await ready();
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    const { pid, shown } = await open(`select from outbox.messages where id = ${id} for update`);
    expect(await verdict(id)).toEqual([
      expect.stringContaining("is being sent"),
      `Also: ${shown} has its row locked, and until that ends it is neither claimed nor settled. select pg_terminate_backend(${pid}); ends it.`,
    ]);
  });

  test("by a relayer that is gone", async () => {
    const { id: by, client } = await ready();
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await client.end();
    await outbox.pool.query("update outbox.relayers set heartbeat_at = $1", [noon(500)]);
    const was = `Message ${id} was being sent: relayer ${by} (host:1) claimed it at 2030-06-01 12:00:00 UTC for attempt 1, and is gone (last heard of at 2030-06-01 12:00:00 UTC). Nobody knows whether that attempt arrived.`;
    expect(await verdict(id, noon(1_000))).toEqual([
      `${was} No relayer is alive to free it: start one, and then it is tried again.`,
    ]);
    await relayer("host:2");
    expect(await verdict(id, noon(1_000))).toEqual([
      `${was} Another relayer frees it within seconds, and then it is tried again.`,
    ]);
    await gateway("max_attempts = 1");
    expect(await verdict(id, noon(1_000))).toEqual([
      `${was} Another relayer frees it within seconds, and then it is a dead letter (exhausted), for that was its last attempt.`,
    ]);
    await gateway("on_unknown = 'park'");
    expect(await verdict(id, noon(1_000))).toEqual([
      `${was} Another relayer frees it within seconds, and then it is parked as a dead letter (unknown_outcome), as its gateway's on_unknown says.`,
    ]);
  });

  test("by a number that nobody has", async () => {
    const { id: by } = await ready();
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await outbox.pool.query("delete from outbox.relayers");
    expect(await verdict(id)).toEqual([
      `Message ${id} was being sent: relayer ${by} claimed it at 2030-06-01 12:00:00 UTC for attempt 1, and is gone. Nobody knows whether that attempt arrived. It is not registered, so no rescue will free it: select outbox.release(${by}, array[${id}]); gives it back.`,
    ]);
  });

  test("again, after an attempt that failed", async () => {
    const { id: by } = await ready();
    const id = await insert();
    await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id, outcome: "retry", error: "connection refused" }], { as_of: noon(1_000) });
    await claim(by, 1, { as_of: noon(60_000) });
    expect(await verdict(id, noon(60_000))).toEqual([
      expect.stringContaining("0 ms ago, for attempt 2 of 5."),
      "The last attempt before it showed: connection refused",
    ]);
  });
});

test("a message that was sent: when, by whom, as what, in which attempt, how long it took", async () => {
  const { id: by } = await ready();
  const id = await insert();
  await claim(by, 1, { as_of: noon() });
  await settle(by, [{ id, gateway_message_id: "gw-1" }], { as_of: noon(1_500) });
  expect(await verdict(id)).toEqual([
    `Message ${id} was sent: gateway default accepted it at 2030-06-01 12:00:01 UTC as gw-1, in attempt 1 by relayer ${by}, 1 min 1 s after it was inserted.`,
  ]);
  await operator(`replay(${id}, force => true, actor => 'alice', as_of => '${noon(2_000)}')`, noon(2_000));
  await claim(by, 1, { as_of: noon(3_000) });
  await settle(by, [{ id, gateway_message_id: "gw-2" }], { as_of: noon(4_000) });
  expect(await verdict(id)).toEqual([
    `Message ${id} was sent: gateway default accepted it at 2030-06-01 12:00:04 UTC as gw-2, in attempt 1 by relayer ${by}, 1 min 4 s after it was inserted.`,
    "It had ended before, and is back by a replay of alice at 2030-06-01 12:00:02 UTC, with a fresh budget of attempts.",
  ]);
});

describe("a message that ended unsent", () => {
  async function ended(outcome: "rejected" | "retry" | "unknown", error: string, columns: Row = {}) {
    const { id: by } = await ready();
    const id = await insert(columns);
    await claim(by, 1, { as_of: noon() });
    await settle(by, [{ id, outcome, error }], { as_of: noon(1_000) });
    return id;
  }

  test("rejected", async () => {
    const id = await ended("rejected", "HTTP 400: no such number");
    expect(await verdict(id)).toEqual([
      `Message ${id} was not sent: gateway default rejected it at 2030-06-01 12:00:01 UTC, in attempt 1 (HTTP 400: no such number). select outbox.replay(${id}); tries it again; with recipient => '…' or content => '…' changed.`,
    ]);
  });

  test("exhausted", async () => {
    await gateway("max_attempts = 1");
    const id = await ended("retry", "HTTP 500: oh no");
    expect(await verdict(id)).toEqual([
      `Message ${id} was not sent: all of its attempts (1) failed; the last one, at 2030-06-01 12:00:01 UTC, showed: HTTP 500: oh no. select outbox.replay(${id}); tries again with a fresh budget.`,
    ]);
  });

  test("of an unknown outcome", async () => {
    await gateway("on_unknown = 'park'");
    const id = await ended("unknown", "connection reset; outcome unknown");
    const installation = await value("select installation from outbox.scheduler");
    const said = (key: string, call: string) =>
      `Message ${id} may have been sent: what came of attempt 1 at 2030-06-01 12:00:01 UTC is unknown (connection reset; outcome unknown), and its gateway's on_unknown was 'park'. Ask the gateway for Idempotency-Key ${key}; ${call} sends it, perhaps for the second time.`;
    expect(await verdict(id)).toEqual([
      said(`msg_${installation}_${id}`, `select outbox.replay(${id}, force => true);`),
    ]);
    await outbox.pool.query("update outbox.dead_letters set revision = 2, expires_at = $1", [noon(2_000)]);
    expect(await verdict(id, noon(2_000))).toEqual([
      said(
        `msg_${installation}_${id}_2`,
        `select outbox.replay(${id}, force => true, expires_at => now() + interval '1 hour');`,
      ),
    ]);
  });

  test("expired", async () => {
    const { id: by } = await ready();
    const id = await insert({ expires_at: noon(1_000) });
    await claim(by, 1, { as_of: noon(1_000) });
    const call = `select outbox.replay(${id}, expires_at => now() + interval '1 hour'); gives it a new end ('infinity': none) and sends it.`;
    const said = (after: string) =>
      `Message ${id} was not sent: it expired at 2030-06-01 12:00:01 UTC, ${after}. ${call}`;
    expect(await verdict(id, noon(1_000))).toEqual([said("before any attempt")]);
    const tried = (attempts: number) =>
      outbox.pool.query("update outbox.dead_letters set attempts = $1, last_error = 'HTTP 500'", [attempts]);
    await tried(1);
    expect(await verdict(id, noon(1_000))).toEqual([said("after 1 attempt that failed (HTTP 500)")]);
    await tried(2);
    expect(await verdict(id, noon(1_000))).toEqual([
      said("after 2 attempts that failed, the last one with HTTP 500"),
    ]);
  });

  test("cancelled", async () => {
    const id = await insert();
    await operator(`cancel(${id}, 'alice', '${noon()}')`, noon());
    const said = (by: string) =>
      `Message ${id} was not sent: ${by} cancelled it at 2030-06-01 12:00:00 UTC. select outbox.replay(${id}); sends it all the same.`;
    expect(await verdict(id)).toEqual([said("alice")]);
    await outbox.pool.query("delete from outbox.audit");
    expect(await verdict(id)).toEqual([said("somebody")]);
  });

  test("and cannot go back: its gateway is gone, its key is another's", async () => {
    await outbox.addGateway("bulk", { url: "https://example.com/" });
    const id = await ended("rejected", "HTTP 400");
    await outbox.pool.query("update outbox.dead_letters set gateway = 'gone', dedupe_key = 'k'");
    const other = await outbox.insert({ dedupe_key: "k" });
    expect(await verdict(id, fromNow(0))).toEqual([
      expect.stringContaining("gateway gone rejected it"),
      "Its gateway gone is gone: a replay needs it back (insert into outbox.gateways …).",
      `Message ${other} has its dedupe_key now: until that is forgotten, it cannot be replayed.`,
    ]);
  });
});

test("never waits: not for a lock on the row, nor for a pause that is not committed", async () => {
  const id = await outbox.insert();
  await open(
    `select outbox.edit(${id}, content => 'x')`,
    "select outbox.pause()",
    "update outbox.gateways set paused = true",
  );
  const session = await outbox.session();
  await session.query("set lock_timeout = '1ms'");
  expect((await session.query("select outbox.explain($1)", [id])).rows.length).toBeGreaterThan(1);
});

test("says nothing of nothing", async () => {
  expect(await rows("select outbox.explain(null)")).toEqual([]);
  expect(await rows("select outbox.message_timeline(null)")).toEqual([]);
});

test("can be asked in a transaction that only reads", async () => {
  const id = await outbox.insert();
  const session = await outbox.session();
  await session.query("begin read only");
  expect((await session.query("select outbox.explain($1)", [id])).rows.length).toBeGreaterThan(1);
  expect((await session.query("select outbox.explain(-1)")).rows).toHaveLength(1);
});

test("is of one snapshot: a message that is sent meanwhile is not in two states", async () => {
  const { id: by } = await register();
  const id = await outbox.insert();
  await claim(by, 1);
  const reader = await outbox.session();
  await reader.query("begin isolation level repeatable read");
  await reader.query("select from outbox.messages");
  await settle(by, [{ id }]);
  const lines = (await reader.query("select outbox.explain($1) as line", [id])).rows.map(({ line }) => line);
  expect(lines[0]).toContain("is being sent");
  expect(lines.join("\n")).not.toContain("sent by relayer");
});
