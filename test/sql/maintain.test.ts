import { describe, expect, onTestFinished, test } from "vitest";
import { useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, places, register, rows, settle, value } = outbox;

interface Kept {
  readonly sent?: string | null;
  readonly attempts?: string | null;
  readonly deadLetters?: string | null;
  readonly audit?: string | null;
  readonly events?: string | null;
}

/** What it did, with nothing kept for less than ever unless said. */
const maintain = async (
  as_of: string,
  { sent = null, attempts = null, deadLetters = null, audit = null, events = null }: Kept = {},
) =>
  (
    await rows("select outbox.maintain($1, $2, $3, $4, $5, $6) as did", [
      sent,
      attempts,
      deadLetters,
      audit,
      events,
      as_of,
    ])
  ).map(({ did }) => did as string);

const partitions = async (parent: string): Promise<string[]> =>
  (
    await rows(
      `select child.relname as name
       from pg_inherits
       join pg_class as child on child.oid = inhrelid
       where inhparent = $1::regclass
       order by child.relname`,
      [`outbox.${parent}`],
    )
  ).map(({ name }) => name);

const named = (parent: string, ...days: string[]) => days.map((day) => `${parent}_${day}`);
const made = (parent: string, ...days: string[]) =>
  named(parent, ...days).map((name) => `made outbox.${name}`);

/** Eight days of a month, from this one on. */
const eightDays = (month: string, first: number) =>
  Array.from({ length: 8 }, (_, ahead) => `${month}${String(first + ahead).padStart(2, "0")}`);

/** Leaves only the default partitions, so that a test may say of which days there are others. */
async function onlyDefault(): Promise<void> {
  for (const parent of ["sent", "attempts"])
    for (const name of await partitions(parent))
      if (!name.endsWith("_default")) await outbox.pool.query(`drop table outbox.${name}`);
}

/** A message sent, and before that tried once in vain, at a time. */
async function sentAt(as_of: string): Promise<number> {
  const relayer = await register();
  const id = await insert({ available_at: "2000-01-01" });
  await claim(relayer.id, 1, { as_of });
  await settle(relayer.id, [{ id, outcome: "retry" }], { as_of });
  await outbox.pool.query("update outbox.messages set available_at = '2000-01-01'");
  await claim(relayer.id, 1, { as_of });
  await settle(relayer.id, [{ id, attempt: 2 }], { as_of });
  return id;
}

const partitionOf = (table: string) =>
  value(`select relname from outbox.${table} join pg_class on pg_class.oid = ${table}.tableoid`);

describe("partitions", () => {
  test("are made for today and the seven days ahead, by UTC", async () => {
    await onlyDefault();
    const days = eightDays("203006", 1);
    expect(await maintain("2030-06-01T23:59:59Z")).toEqual([
      ...made("sent", ...days),
      ...made("attempts", ...days),
    ]);
    expect(await partitions("sent")).toEqual([...named("sent", ...days), "sent_default"]);
    expect(await partitions("attempts")).toEqual([...named("attempts", ...days), "attempts_default"]);
    expect(await maintain("2030-06-02T00:00:00Z")).toEqual([
      ...made("sent", "20300609"),
      ...made("attempts", "20300609"),
    ]);
  });

  test("are made by UTC in a session of another time zone, too", async () => {
    await onlyDefault();
    const session = await outbox.session();
    await session.query("set timezone = 'Pacific/Kiritimati'");
    await session.query("select outbox.maintain(null, null, as_of => '2030-06-01T23:00:00Z')");
    expect(await partitions("sent")).toEqual([...named("sent", ...eightDays("203006", 1)), "sent_default"]);
    await sentAt("2030-06-01T00:00:00Z");
    expect(await partitionOf("sent")).toBe("sent_20300601");
    await session.query("select outbox.maintain('1 hour', null, as_of => '2030-06-02T00:59:00Z')");
    expect(await partitions("sent")).toContain("sent_20300601");
  });

  test("are made once: a second run does nothing", async () => {
    await maintain("2030-06-01T12:00:00Z");
    expect(await maintain("2030-06-01T12:05:00Z")).toEqual([]);
  });

  test("each say what they are, and have the indexes and the columns' comments of their parent", async () => {
    await onlyDefault();
    await maintain("2030-06-01T12:00:00Z");
    expect(await value("select obj_description('outbox.sent_20300601'::regclass)")).toBe(
      "Partition of outbox.sent for 2030-06-01 (UTC).",
    );
    expect(await value("select col_description('outbox.sent_20300601'::regclass, 1)")).toBe(
      "The message's id.",
    );
    expect(
      await value("select count(*)::int from pg_index where indrelid = 'outbox.sent_20300601'::regclass"),
    ).toBe(2);
  });

  test("take the rows of their day", async () => {
    await maintain("2030-06-01T12:00:00Z");
    await sentAt("2030-06-03T00:00:00Z");
    expect(await partitionOf("sent")).toBe("sent_20300603");
    expect(await partitionOf("attempts")).toBe("attempts_20300603");
  });

  test("that are missing never fail a settle; what came meanwhile moves into its day", async () => {
    await onlyDefault();
    const id = await sentAt("2077-07-07T07:07:07Z");
    expect(await partitionOf("sent")).toBe("sent_default");
    expect(await partitionOf("attempts")).toBe("attempts_default");
    const [before] = await rows("select * from outbox.sent");
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual([
      ...made("sent", ...eightDays("203006", 1), "20770707"),
      ...made("attempts", ...eightDays("203006", 1), "20770707"),
    ]);
    expect(await partitionOf("sent")).toBe("sent_20770707");
    expect(await partitionOf("attempts")).toBe("attempts_20770707");
    expect(await rows("select * from outbox.sent")).toEqual([before]);
    expect(await places(id)).toEqual(["sent"]);
  });

  test("of a rescue may be missing, too", async () => {
    await onlyDefault();
    const relayer = await register();
    await insert();
    await claim(relayer.id);
    await outbox.pool.query("select outbox.rescue(as_of => '2077-07-07')");
    expect(await partitionOf("attempts")).toBe("attempts_default");
  });
});

describe("a busy table", () => {
  const LOCK_TIMEOUT_MS = 2_000;

  test("is left for the next run: nothing fails, and nobody waits for long", async () => {
    await onlyDefault();
    const reader = await outbox.session();
    await reader.query("begin");
    await reader.query("select from outbox.sent_default");
    const start = performance.now();
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual([
      "outbox.sent_default is busy: partitions are made next time",
      ...made("attempts", ...eightDays("203006", 1)),
    ]);
    expect(performance.now() - start).toBeLessThan(LOCK_TIMEOUT_MS * 3);
    expect(await partitions("sent")).toEqual(["sent_default"]);
    await sentAt("2030-06-01T12:00:00Z");
    await reader.query("commit");
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual(made("sent", ...eightDays("203006", 1)));
    expect(await partitionOf("sent")).toBe("sent_20300601");
  });

  test("keeps its old days, and what was dropped before it got busy is dropped", async () => {
    await onlyDefault();
    await maintain("2030-06-01T12:00:00Z");
    const reader = await outbox.session();
    await reader.query("begin");
    await reader.query("select from outbox.sent_20300602");
    const did = await maintain("2030-06-03T12:00:00Z", { sent: "1 hour" });
    expect(did.slice(-2)).toEqual([
      "dropped outbox.sent_20300601",
      "outbox.sent is busy: old partitions are dropped next time",
    ]);
    await reader.query("commit");
    expect(await partitions("sent")).not.toContain("sent_20300601");
    expect(await partitions("sent")).toContain("sent_20300602");
    expect(await maintain("2030-06-03T12:00:00Z", { sent: "1 hour" })).toEqual([
      "dropped outbox.sent_20300602",
    ]);
  });

  test("does not keep a settle waiting while partitions are made", async () => {
    await onlyDefault();
    await outbox.pool.query("select outbox.make_partitions('sent', 'sent_at', '2030-06-01')");
    const session = await outbox.session();
    await session.query("begin");
    // It keeps its locks until the commit.
    await session.query("select outbox.maintain(null, null, as_of => '2030-06-04T12:00:00Z')");
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id, 1);
    await relayer.client.query("set lock_timeout = '10s'");
    await settle(relayer.id, [{ id }], { as_of: "2030-06-02T12:00:00Z", on: relayer.client });
    await session.query("commit");
    expect(await places(id)).toEqual(["sent"]);
  });
});

describe("retention", () => {
  test("drops whole days only, and those that are older as a whole", async () => {
    await onlyDefault();
    await maintain("2030-06-01T12:00:00Z");
    await sentAt("2030-06-01T12:00:00Z");
    expect(await maintain("2030-06-02T23:59:59Z", { sent: "1 day", attempts: "1 day" })).toEqual([
      ...made("sent", "20300609"),
      ...made("attempts", "20300609"),
    ]);
    expect(await maintain("2030-06-03T00:00:00Z", { sent: "1 day", attempts: "1 day" })).toEqual([
      ...made("sent", "20300610"),
      ...made("attempts", "20300610"),
      "dropped outbox.sent_20300601",
      "dropped outbox.attempts_20300601",
    ]);
    expect(await rows("select from outbox.sent union all select from outbox.attempts")).toEqual([]);
  });

  test("keeps sent and attempts each for its own time, and for ever where that is null", async () => {
    await onlyDefault();
    await maintain("2030-06-01T12:00:00Z");
    const kept = await maintain("2031-06-01T12:00:00Z", { attempts: "1 day" });
    expect(kept.filter((did) => did.startsWith("dropped"))).toEqual(
      eightDays("203006", 1).map((day) => `dropped outbox.attempts_${day}`),
    );
    expect(await partitions("sent")).toContain("sent_20300601");
  });

  test("drops what the default partition had of an old day", async () => {
    await onlyDefault();
    await sentAt("2029-01-01T12:00:00Z");
    const did = await maintain("2030-06-01T12:00:00Z", { sent: "1 day", attempts: "1 day" });
    expect(did).toContain("dropped outbox.sent_20290101");
    expect(did).toContain("dropped outbox.attempts_20290101");
  });

  test("of dead letters and audit is for ever unless a time is given", async () => {
    await outbox.pool.query(
      `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
       select n, 'default', 1, '+905551234567', 'hi', '{}', died_at, 1, died_at, died_at, 'rejected'
       from (values (1, timestamptz '2030-01-01T00:00:00Z'), (2, '2030-05-31T12:00:00Z')) as died (n, died_at)`,
    );
    await outbox.pool.query(
      "insert into outbox.audit (actor, action, at) values ('ali', 'pause', '2030-01-01'), ('ali', 'resume', '2030-05-31T12:00:00Z')",
    );
    await maintain("2030-06-01T11:00:00Z");
    expect(await maintain("2030-06-01T11:00:00Z")).toEqual([]);
    expect(await maintain("2030-06-01T11:00:00Z", { deadLetters: "1 day", audit: "1 day" })).toEqual([
      "dropped 1 dead letters",
      "dropped 1 audit entries",
    ]);
    expect(await rows("select id from outbox.dead_letters")).toEqual([{ id: 2 }]);
    expect(await rows("select action from outbox.audit")).toEqual([{ action: "resume" }]);
    expect(await maintain("2030-06-01T12:00:00Z", { deadLetters: "1 day" })).toEqual([
      "dropped 1 dead letters",
    ]);
  });

  test("of events is a week unless another time is given", async () => {
    await maintain("2030-06-01T12:00:00Z");
    await outbox.pool.query(
      `insert into outbox.events (at, type, happened_at, data)
       select at, 'dead', at, '{}'
       from (values (timestamptz '2030-05-25T12:00:00Z'), ('2030-05-26T12:00:00Z')) as kept (at)`,
    );
    const week = "select outbox.maintain(null, null, as_of => $1) as did";
    expect(await rows(week, ["2030-06-01T11:59:59Z"])).toEqual([]);
    expect(await rows(week, ["2030-06-01T12:00:00Z"])).toEqual([{ did: "dropped 1 events" }]);
    expect(await maintain("2030-06-01T12:00:00Z", { events: "8 days" })).toEqual([]);
    expect(await maintain("2030-06-01T12:00:00Z", { events: "6 days" })).toEqual(["dropped 1 events"]);
  });

  test("of dedupe keys is their window", async () => {
    await maintain("2030-06-01T12:00:00Z");
    await insert({ dedupe_key: "k" });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = '2030-06-01T12:00:00Z'");
    expect(await maintain("2030-06-01T11:59:59Z")).toEqual([]);
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual(["forgot 1 dedupe keys"]);
    await insert({ dedupe_key: "k" });
  });
});

describe("housekeeping forgets", () => {
  const request = `select from outbox.enqueue_once($1, '{"recipient": "+905551234567", "content": "hi"}', $2, as_of => $3)`;

  test("idempotency keys, when their day is over", async () => {
    await maintain("2030-06-01T12:00:00Z");
    for (const [key, actor, hour] of [
      ["a", "ali", "08"],
      ["a", "veli", "09"],
      ["b", "ali", "09"],
    ])
      await outbox.pool.query(request, [key, actor, `2030-06-01T${hour}:00:00Z`]);
    expect(await maintain("2030-06-02T07:59:59Z")).not.toContainEqual(expect.stringContaining("forgot"));
    expect(await maintain("2030-06-02T08:00:00Z")).toContain("forgot 1 idempotency keys");
    expect(
      await rows("select actor, idempotency_key as key from outbox.idempotency_keys order by actor"),
    ).toEqual([
      { actor: "ali", key: "b" },
      { actor: "veli", key: "a" },
    ]);
  });
});

describe("housekeeping does not wait", () => {
  test("for a request that is using an old idempotency key again in an open transaction", async () => {
    await maintain("2030-06-01T12:00:00Z");
    const key = `select * from outbox.enqueue_once('k', '{"recipient": "+905551234567", "content": "hi"}', 'ali', $1)`;
    await outbox.pool.query(key, ["2030-05-31T11:00:00Z"]);
    const producer = await outbox.session();
    await producer.query("begin");
    await producer.query(key, ["2030-06-01T11:59:00Z"]);
    const session = await outbox.session();
    await session.query("set lock_timeout = '1s'");
    await session.query("select outbox.maintain(null, null, as_of => '2030-06-01T12:00:00Z')");
    await producer.query("commit");
    expect(await outbox.value("select count(*)::int from outbox.idempotency_keys")).toBe(1);
  });

  test("for a producer that is using an old key again in an open transaction", async () => {
    await maintain("2030-06-01T12:00:00Z");
    for (const dedupe_key of ["used", "idle"]) await insert({ dedupe_key });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = now()");
    const producer = await outbox.session();
    await producer.query("begin");
    const id = await insert({ dedupe_key: "used" }, producer);
    const session = await outbox.session();
    await session.query("set lock_timeout = '1s'");
    expect(
      (await session.query("select outbox.maintain(null, null, as_of => '2030-06-01T12:00:00Z')")).rows,
    ).toEqual([{ maintain: "forgot 1 dedupe keys" }]);
    await producer.query("commit");
    expect(await rows("select dedupe_key, message_id from outbox.dedupe_keys")).toEqual([
      { dedupe_key: "used", message_id: id },
    ]);
  });

  test("for another housekeeper: two at a time do it once", async () => {
    await onlyDefault();
    const session = await outbox.session();
    await session.query("begin");
    await session.query("select outbox.maintain(null, null, as_of => '2030-06-01T12:00:00Z')");
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual([]);
    await session.query("rollback");
    expect(await maintain("2030-06-01T12:00:00Z")).toHaveLength(16);
  });
});

describe("what has expired", () => {
  test("is buried at every gateway, also at one that is paused, held or all is paused", async () => {
    await maintain("2030-06-01T12:00:00Z");
    const ids = [];
    for (const name of ["default", "paused", "held"]) {
      if (name !== "default") await outbox.addGateway(name);
      ids.push(await insert({ gateway: name, expires_at: "2030-06-01T12:00:00Z" }));
    }
    await outbox.pool.query("select outbox.pause('paused'), outbox.pause()");
    await outbox.pool.query(
      "update outbox.gateways set held_until = 'infinity', hold_reason = 'hold' where name = 'held'",
    );
    expect(await maintain("2030-06-01T11:59:59Z")).toEqual([]);
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual(["expired 3 messages"]);
    expect(await Promise.all(ids.map(places))).toEqual([
      ["dead_letters"],
      ["dead_letters"],
      ["dead_letters"],
    ]);
  });

  test("is left alone while it is in flight, or somebody has locked it", async () => {
    await maintain("2030-06-01T12:00:00Z");
    const relayer = await register();
    const claimed = await insert({ expires_at: "2030-06-01T12:00:00Z" });
    await claim(relayer.id);
    const locked = await insert({ expires_at: "2030-06-01T12:00:00Z" });
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select from outbox.messages where id = $1 for update", [locked]);
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual([]);
    await person.query("rollback");
    expect(await places(claimed)).toEqual(["messages"]);
    expect(await maintain("2030-06-01T12:00:00Z")).toEqual(["expired 1 messages"]);
  });
});

test("a new database has the partitions of the week", async () => {
  // Whatever the tests before have dropped, today's are made again.
  onTestFinished(() => onlyDefault());
  await outbox.pool.query("select outbox.maintain()");
  const today = await value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')");
  expect(await partitions("sent")).toContain(`sent_${today}`);
  expect(await partitions("attempts")).toContain(`attempts_${today}`);
});
