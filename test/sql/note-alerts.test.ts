import { afterEach, describe, expect, test } from "vitest";
import { noon, type On, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { row, rows, value } = outbox;

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const HELD = { kind: "gateway_held", key: "gateway_held:default", severity: "warning", summary: "held" };
const STOPPED = {
  kind: "scheduler_stopped",
  key: "scheduler_stopped",
  severity: "warning",
  summary: "stopped",
};

afterEach(async () => {
  await outbox.pool.query("delete from outbox_worker._private_jobs");
});

interface Options {
  readonly unseen?: readonly string[];
  readonly channels?: readonly string[];
  readonly on?: On;
}

async function notice(afterMs: number, findings: readonly Row[], options: Options = {}): Promise<Row | null> {
  return await value(
    "select outbox.note_alerts($1, $2, $3, as_of => $4)",
    [JSON.stringify(findings), options.channels ?? ["slack"], options.unseen ?? [], noon(afterMs)],
    options.on,
  );
}

/** What is told of a run: the event and the key of each. */
async function told(afterMs: number, findings: readonly Row[], options: Options = {}): Promise<string[]> {
  const its = await notice(afterMs, findings, options);
  return (its?.alerts ?? []).map(({ event, key }: Row) => `${event} ${key}`);
}

const open = () => rows("select * from outbox.open_alerts");

test("what is found is told once, stays open, and is told again after 4 hours", async () => {
  expect(await told(0, [HELD])).toEqual(["opened gateway_held:default"]);
  for (let minute = 1; minute < 240; minute += 20) expect(await told(minute * MINUTE, [HELD])).toEqual([]);
  expect(await told(4 * HOUR, [HELD])).toEqual(["repeated gateway_held:default"]);
  expect(await told(4 * HOUR + MINUTE, [HELD])).toEqual([]);
  expect(await told(8 * HOUR, [HELD])).toEqual(["repeated gateway_held:default"]);
  expect(await open()).toMatchObject([{ key: HELD.key, notices: 3, kind: "gateway_held" }]);
});

test("a notice has what a person wants to know", async () => {
  const its = await notice(0, [
    {
      ...HELD,
      since: noon(-7 * MINUTE),
      count: 12,
      sample_ids: [41, 42],
      help: "select outbox.resume('default');",
      request: "POST /gateways/default/resume",
    },
  ]);
  expect(its).toEqual({
    id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    at: "2030-06-01 12:00:00 UTC",
    installation: await value("select installation from outbox.scheduler"),
    alerts: [
      {
        event: "opened",
        id: expect.any(Number),
        ...HELD,
        since: "2030-06-01 11:53:00 UTC",
        lasted: "7 min",
        count: 12,
        sample_ids: [41, 42],
        help: "select outbox.resume('default');",
        request: "POST /gateways/default/resume",
        returns: 0,
      },
    ],
  });
});

test("the end is told with how long it was so, once it has been gone for 5 minutes", async () => {
  await told(0, [{ ...HELD, since: noon(-10 * MINUTE) }]);
  await told(20 * MINUTE, [HELD]);
  expect(await told(24 * MINUTE, [])).toEqual([]);
  expect(await open()).toHaveLength(1);
  expect(await notice(25 * MINUTE, [])).toMatchObject({
    alerts: [{ event: "recovered", since: "2030-06-01 11:50:00 UTC", lasted: "30 min" }],
  });
  expect(await open()).toEqual([]);
  expect(await told(26 * MINUTE, [])).toEqual([]);
});

test("becoming critical is told at once; becoming less is not, and stays critical to the end", async () => {
  await told(0, [HELD]);
  expect(await told(MINUTE, [{ ...HELD, severity: "critical" }])).toEqual(["escalated gateway_held:default"]);
  expect(await told(2 * MINUTE, [HELD])).toEqual([]);
  expect(await told(3 * MINUTE, [{ ...HELD, severity: "critical" }])).toEqual([]);
  expect(await open()).toMatchObject([{ severity: "critical" }]);
});

test("what a run tells is one notice, the critical first and what is over last", async () => {
  await told(0, [{ ...STOPPED, key: "past" }]);
  expect(
    await told(5 * MINUTE, [
      HELD,
      { ...HELD, key: "late", since: noon(-1) },
      { ...STOPPED, severity: "critical" },
    ]),
  ).toEqual(["opened scheduler_stopped", "opened late", "opened gateway_held:default", "recovered past"]);
});

describe("what has to last", () => {
  const SHORT = { ...HELD, lasting: "5 minutes" };

  test("is told when it has been found for so long", async () => {
    for (let minute = 0; minute < 5; minute++) expect(await told(minute * MINUTE, [SHORT])).toEqual([]);
    expect(await open()).toEqual([]);
    expect(await notice(5 * MINUTE, [SHORT])).toMatchObject({
      alerts: [{ event: "opened", since: "2030-06-01 12:00:00 UTC", lasted: "5 min" }],
    });
  });

  test("is told at once where it is known that it has", async () => {
    expect(await told(0, [{ ...SHORT, since: noon(-6 * MINUTE) }])).toEqual(["opened gateway_held:default"]);
  });

  test("is forgotten when it passes before, and begins anew", async () => {
    await told(0, [SHORT]);
    expect(await told(4 * MINUTE, [])).toEqual([]);
    expect(await rows("select from outbox.alerts")).toEqual([]);
    expect(await told(6 * MINUTE, [SHORT])).toEqual([]);
  });

  test("may be missed by one look", async () => {
    for (let minute = 0; minute < 6; minute += 2) {
      expect(await told(minute * MINUTE, [SHORT])).toEqual([]);
      expect(await told((minute + 1) * MINUTE, [])).toEqual([]);
    }
    expect(await told(6 * MINUTE, [SHORT])).toEqual(["opened gateway_held:default"]);
  });

  test("begins anew also when it began anew between two looks", async () => {
    await told(0, [{ ...SHORT, since: noon(-4 * MINUTE) }]);
    expect(await told(MINUTE, [{ ...SHORT, since: noon(MINUTE - 1) }])).toEqual([]);
    expect(await told(5 * MINUTE, [{ ...SHORT, since: noon(MINUTE - 1) }])).toEqual([]);
  });
});

describe("what comes and goes", () => {
  test("within minutes is one alert, told once", async () => {
    expect(await told(0, [HELD])).toHaveLength(1);
    for (let minute = 1; minute < 120; minute++)
      expect(await told(minute * MINUTE, minute % 4 === 0 ? [HELD] : [])).toEqual([]);
    expect(await rows("select from outbox.alerts")).toHaveLength(1);
  });

  test("at longer intervals has to be gone for longer each time, so that there are ever fewer notices", async () => {
    const notices: string[] = [];
    for (let minute = 0; minute < 24 * 60; minute++) {
      // Wrong for a minute in each six.
      for (const event of await told(minute * MINUTE, minute % 6 === 0 ? [HELD] : []))
        notices.push(`${Math.floor(minute / 60)}h ${event}`);
    }
    // Opened, over after 5 minutes; then 10 have to pass, and 6 never are enough: one alert, repeated each 4 hours.
    expect(notices.slice(0, 3)).toEqual([
      "0h opened gateway_held:default",
      "0h recovered gateway_held:default",
      "0h opened gateway_held:default",
    ]);
    expect(notices.slice(3).every((one) => one.endsWith("repeated gateway_held:default"))).toBe(true);
    expect(notices.length).toBeLessThan(10);
  });

  test("says how often it came back; after 2 quiet hours it is a new thing", async () => {
    await told(0, [HELD]);
    await told(5 * MINUTE, []);
    expect(await notice(6 * MINUTE, [HELD])).toMatchObject({ alerts: [{ event: "opened", returns: 1 }] });
    expect(await told(11 * MINUTE, [])).toEqual([]);
    expect(await told(16 * MINUTE, [])).toEqual(["recovered gateway_held:default"]);
    expect(await notice(137 * MINUTE, [HELD])).toMatchObject({ alerts: [{ event: "opened", returns: 0 }] });
  });
});

test("what a caller cannot look for stays as it is", async () => {
  const LAG = { ...HELD, kind: "query_store_lag", key: "query_store_lag" };
  await told(0, [LAG, HELD]);
  expect(await told(30 * MINUTE, [], { unseen: ["query_store_lag"] })).toEqual([
    "recovered gateway_held:default",
  ]);
  expect(await told(5 * HOUR, [], { unseen: ["query_store_lag"] })).toEqual([]);
  expect(await open()).toMatchObject([{ key: "query_store_lag" }]);
  expect(await told(5 * HOUR + MINUTE, [])).toEqual(["recovered query_store_lag"]);
});

test("what nobody looks for any more is over after a day", async () => {
  const LAG = { ...HELD, kind: "query_store_lag", key: "query_store_lag" };
  const unseen = { unseen: ["query_store_lag"] };
  await told(0, [LAG, { ...LAG, key: "short", lasting: "5 minutes" }]);
  expect(await told(24 * HOUR - 1, [], unseen)).toEqual([]);
  expect(await rows("select from outbox.alerts")).toHaveLength(2);
  expect(await told(24 * HOUR, [], unseen)).toEqual(["recovered query_store_lag"]);
  expect(await rows("select key from outbox.alerts")).toEqual([{ key: "query_store_lag" }]);
});

test("each channel has its job, in the same transaction, in a queue of one at a time", async () => {
  const jobs = () =>
    rows(
      `select jobs.task_identifier, jobs.queue_name, jobs.max_attempts, its.payload
       from outbox_worker.jobs join outbox_worker._private_jobs as its using (id)
       where jobs.task_identifier like 'notify%' order by 1`,
    );
  const client = await outbox.session();
  await client.query("begin");
  await notice(0, [HELD], { channels: ["slack", "email"], on: client });
  await client.query("rollback");
  expect(await jobs()).toEqual([]);
  const its = await notice(0, [HELD], { channels: ["slack", "email"] });
  const job = { queue_name: "notices", max_attempts: 10, payload: its };
  expect(await jobs()).toEqual([
    { ...job, task_identifier: "notify_email" },
    { ...job, task_identifier: "notify_slack" },
  ]);
  await notice(MINUTE, [HELD], { channels: ["slack", "email"] });
  expect(await jobs()).toHaveLength(2);
});

describe("a caller without a channel", () => {
  const logged = (afterMs: number, findings: readonly Row[]) => told(afterMs, findings, { channels: [] });

  test("is told each thing once, for its log, and queues nothing", async () => {
    expect(await logged(0, [HELD])).toEqual(["opened gateway_held:default"]);
    expect(await logged(MINUTE, [HELD])).toEqual([]);
    expect(await logged(2 * MINUTE, [{ ...HELD, severity: "critical" }])).toEqual([
      "escalated gateway_held:default",
    ]);
    expect(await logged(5 * HOUR, [HELD])).toEqual(["repeated gateway_held:default"]);
    expect(await logged(6 * HOUR, [])).toEqual(["recovered gateway_held:default"]);
    expect(await logged(6 * HOUR + MINUTE, [])).toEqual([]);
    expect(await rows("select from outbox_worker.jobs where task_identifier like 'notify%'")).toEqual([]);
  });

  test("takes no news from one that has a channel", async () => {
    await logged(0, [HELD]);
    expect(await told(MINUTE, [HELD])).toEqual(["opened gateway_held:default"]);
    expect(await logged(2 * MINUTE, [HELD])).toEqual([]);
    expect(await logged(7 * MINUTE, [])).toEqual(["recovered gateway_held:default"]);
    expect(await told(8 * MINUTE, [])).toEqual(["recovered gateway_held:default"]);
    expect(await told(9 * MINUTE, [])).toEqual([]);
  });

  test("leaves it no stale news either", async () => {
    await told(0, [HELD]);
    await logged(10 * MINUTE, []);
    expect(await told(5 * HOUR, [])).toEqual([]);
  });
});

test("without Graphile Worker's schema it is noted all the same", async () => {
  const client = await outbox.session();
  await client.query("begin; drop schema outbox_worker cascade");
  expect(await told(0, [HELD], { channels: ["slack"], on: client })).toHaveLength(1);
  await client.query("rollback");
});

test("two relayers at once tell it once", async () => {
  const [one, other] = [await outbox.session(), await outbox.session()];
  await one.query("begin");
  expect(await told(0, [HELD, STOPPED], { on: one })).toHaveLength(2);
  const second = told(1, [HELD, STOPPED], { on: other });
  await outbox.blocked(other);
  await one.query("commit");
  expect(await second).toEqual([]);
  expect(await open()).toMatchObject([{ notices: 1 }, { notices: 1 }]);
});

test("a finding that comes twice counts once, as the worse", async () => {
  expect(await notice(0, [HELD, { ...HELD, severity: "critical" }, HELD])).toMatchObject({
    alerts: [{ severity: "critical" }],
  });
});

test("what is over is kept for 30 days", async () => {
  await told(0, [HELD]);
  await told(10 * MINUTE, []);
  await told(29 * 24 * HOUR, []);
  expect(await rows("select from outbox.alerts")).toHaveLength(1);
  await told(31 * 24 * HOUR, []);
  expect(await rows("select from outbox.alerts")).toEqual([]);
});

test("what find_alerts finds is what it takes", async () => {
  await outbox.pool.query("update outbox.scheduler set running = false, changed_at = $1", [noon(-HOUR)]);
  await row(
    `select outbox.note_alerts(
       (select jsonb_agg(to_jsonb(finding)) from outbox.find_alerts(slot_wal => null, no_relayer => null, as_of => $1) as finding),
       as_of => $1
     )`,
    [noon()],
  );
  expect(await open()).toMatchObject([
    { kind: "scheduler_stopped", severity: "critical", help: "select outbox.resume();" },
  ]);
});
