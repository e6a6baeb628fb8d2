import { afterEach, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, insert, settled, tally } from "./messages.ts";

/** So far off that a message that goes out was not found by it. */
const NO_POLL = { RELAY_POLL_INTERVAL: "1m" };

const database = useDatabase();
let gateway: HttpGateway;
let relayer: TestRelayer;

async function start(env: Record<string, string> = {}): Promise<void> {
  relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, env });
  // The first look after a start finds nothing; only then does a test know what found its message.
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
}

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await relayer.stop();
  await gateway.close();
  await database.pool.query(
    "truncate outbox.messages, outbox.sent; select setval('outbox.awake_until', 0); update outbox.gateways set concurrency = default",
  );
});

/** A producer's transaction: what it inserts is told apart by its text. */
async function transaction() {
  const client = await database.pool.connect();
  await client.query("begin");
  return {
    client,
    insert: (content: string, ago = "0") =>
      client.query(
        `insert into outbox.messages (recipient, content, created_at, available_at)
         values ('+905551234567', $1, now() - $2::interval, now() - $2::interval)`,
        [content, ago],
      ),
    async end(how: "commit" | "rollback"): Promise<void> {
      await client.query(how);
      client.release();
    },
  };
}

const received = () => gateway.requests.map(({ body }) => (body as { content: string }).content);

test("what is rolled back never goes out: not the whole, not a part, not what was cut off", async () => {
  await start(NO_POLL);

  const whole = await transaction();
  await whole.insert("rolled back");
  await whole.end("rollback");

  const parts = await transaction();
  await parts.insert("before the savepoint");
  await parts.client.query("savepoint a");
  await parts.insert("rolled back to the savepoint");
  await parts.client.query("savepoint b; release b; rollback to a");
  await parts.insert("after the savepoint");

  const failed = await transaction();
  await failed.insert("failed later");
  await expect(failed.client.query("select 1 / 0")).rejects.toThrow();
  await failed.end("commit");

  const cut = await transaction();
  await cut.insert("cut off");
  const { rows } = await cut.client.query<{ pid: number }>("select pg_backend_pid() as pid");
  await database.pool.query("select pg_terminate_backend($1, 10000)", [rows[0]?.pid]);
  cut.client.release(true);

  await parts.end("commit");
  const signal = await transaction();
  await signal.insert("later");
  await signal.end("commit");

  await allSent(database.pool, 4);
  expect(received().slice(1).sort()).toEqual(["after the savepoint", "before the savepoint", "later"]);
});

test("what a transaction of two hours inserted goes out at its commit, found by a wake, before what is due since then", async () => {
  await start(NO_POLL);
  const long = await transaction();
  await long.insert("two hours old", "2 hours");
  // Everybody else's messages, whose time came later, are through meanwhile.
  await insert(database.pool, 500);
  await allSent(database.pool, 501);
  expect(received()).not.toContain("two hours old");

  // And some have just come, when it commits.
  await database.pool.query("update outbox.gateways set concurrency = 1");
  await database.pool.query("select outbox.pause()");
  await insert(database.pool, 50);
  await long.end("commit");
  await database.pool.query("select outbox.resume()");
  await allSent(database.pool, 552);
  expect(received()[501]).toBe("two hours old");
});

test.each([
  ["that woke the relayers, without any poll", NO_POLL, "0 s"],
  ["that told nobody, for a relayer was awake when it was inserted, hours ago", {}, "1 hour"],
])("it goes out within a second of a commit %s", async (_, env, lease) => {
  await start(env);
  const took: number[] = [];
  for (let round = 2; round <= 6; round++) {
    await database.pool.query("select outbox.stay_awake($1)", [lease]);
    const long = await transaction();
    await long.insert("two hours old", "2 hours");
    await database.pool.query("select setval('outbox.awake_until', 0)");
    expect(gateway.requests).toHaveLength(round - 1);
    const start = performance.now();
    await long.end("commit");
    await gateway.received(round);
    took.push(performance.now() - start);
  }
  // Of five, so that one pause of the machine says nothing.
  expect(took.sort((a, b) => a - b)[2]).toBeLessThan(1_000);
  await allSent(database.pool, 6);
  expect(await tally(database.pool)).toEqual({ sent: 6 });
});
