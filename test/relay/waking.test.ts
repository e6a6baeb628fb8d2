import { afterEach, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type RelayerOptions, startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, insert, settled, tally } from "./messages.ts";

/** So far off that a message that goes out was not found by it. */
const NO_POLL = { RELAY_POLL_INTERVAL: "1m" };

const database = useDatabase();
let gateway: HttpGateway;
let relayers: TestRelayer[] = [];

async function start(options: Partial<RelayerOptions> = {}): Promise<TestRelayer> {
  const relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, ...options });
  relayers.push(relayer);
  return relayer;
}

/** The first look after a start finds nothing; only then does a test know what found its message. */
async function settledDown(): Promise<void> {
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
}

/** As while a relayer is awake: an INSERT does not NOTIFY. */
async function mute(): Promise<void> {
  await database.pool.query("select outbox.stay_awake('1 hour')");
}

async function endSessions(like: string): Promise<void> {
  await database.pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like $1",
    [like],
  );
}

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await Promise.all(relayers.map((relayer) => relayer.stop()));
  relayers = [];
  await gateway.close();
  await database.pool.query(`
    truncate outbox.messages, outbox.sent, outbox.dead_letters, outbox.attempts;
    update outbox.scheduler set running = true, last_tick = '-infinity';
    select setval('outbox.awake_until', 0);
    update outbox.gateways set paused = false`);
});

test("woken by NOTIFY", async () => {
  await start({ env: NO_POLL });
  await settledDown();
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
});

test("what comes late, with an available_at long past, is found soon after newer messages were sent", async () => {
  await start({ env: NO_POLL });
  await settledDown();
  for (let round = 0; round < 20; round++) {
    const [newer = 0] = await insert(database.pool);
    await settled(database.pool, newer, "sent");
    const { rows } = await database.pool.query(
      "insert into outbox.messages (recipient, content, available_at) values ('+905551234567', 'late', now() - interval '1 hour') returning id",
    );
    await settled(database.pool, rows[0].id, "sent");
  }
});

test("woken by the timer of the next available_at", async () => {
  await start({ env: NO_POLL });
  await settledDown();
  const [id = 0] = await insert(database.pool, 1, { available_at: new Date(Date.now() + 300) });
  const { rows } = await database.pool.query(
    "select now() < available_at as early from outbox.messages where id = $1",
    [id],
  );
  expect(rows).toEqual([{ early: true }]);
  await settled(database.pool, id, "sent");
  const sent = await database.pool.query(
    "select sent_at >= available_at as in_time from outbox.sent where id = $1",
    [id],
  );
  expect(sent.rows).toEqual([{ in_time: true }]);
});

test("woken by the relay task of the crontab", async () => {
  await start({ env: NO_POLL });
  await settledDown();
  await mute();
  const [id = 0] = await insert(database.pool);
  await database.pool.query("select outbox_worker.add_job('relay')");
  await settled(database.pool, id, "sent");
});

test("woken by the idle poll", async () => {
  await start({ env: { RELAY_POLL_INTERVAL: "50ms" } });
  await settledDown();
  await mute();
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
});

test("a lost LISTEN connection costs latency only, and comes back by itself", async () => {
  const relayer = await start({ env: NO_POLL });
  await settledDown();
  await endSessions("outbox-listen");
  await relayer.logged(({ msg }) => msg.startsWith("Not listening"));
  // Inserted while nobody listens: found by the look after LISTEN is in force again.
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
  await relayer.logged(({ msg }) => msg === "Listening on outbox again");
  const [next = 0] = await insert(database.pool);
  await settled(database.pool, next, "sent");
});

test("while every connection is cut again and again, all is sent once, and by a new number", async () => {
  const relayer = await start({ env: { RELAY_POLL_INTERVAL: "50ms" } });
  await settledDown();
  for (let round = 1; round <= 5; round++) {
    await insert(database.pool, 200);
    await gateway.received(round * 40);
    await endSessions("outbox-%");
  }
  await allSent(database.pool, 1_001);
  // Whoever knows an outcome records it, under the number it had, before anybody may send again.
  expect(gateway.requests).toHaveLength(1_001);
  expect(gateway.counts.size).toBe(1_001);
  await relayer.logged(({ msg }) => msg.startsWith("this relayer lost its number"));
  await eventually(
    async () => {
      const { rows } = await database.pool.query("select id > 1 as renumbered from outbox.relayers");
      return rows;
    },
    (rows) => rows.length === 1 && rows[0].renumbered,
  );
});

test("claims whose answer was lost with the connection are given back", async () => {
  const relayer = await start({ env: { RELAY_POLL_INTERVAL: "50ms" } });
  await settledDown();
  await database.pool.query("update outbox.gateways set paused = true");
  const [id = 0] = await insert(database.pool);
  // What Postgres holds after a claim whose answer never came.
  await database.pool.query(
    "update outbox.messages set claimed_by = (select id from outbox.relayers), claimed_at = now(), attempts = 1 where id = $1",
    [id],
  );
  const blocker = await database.pool.connect();
  await blocker.query("begin; lock table outbox.gateways");
  // The lane may be asking for the next due message: cut off from that, it claims.
  await eventually(
    async () => {
      const { rows } = await database.pool.query<{ query: string }>(
        `select query, pg_terminate_backend(pid) from pg_stat_activity
         where wait_event_type = 'Lock' and query ~ 'outbox\\.(claim|next_due)\\(' and pid <> pg_backend_pid()`,
      );
      return rows.some(({ query }) => query.includes("outbox.claim("));
    },
    (claimEnded) => claimEnded,
  );
  await blocker.query("update outbox.gateways set paused = false; commit");
  blocker.release();
  await relayer.logged(({ msg }) => msg.startsWith("gave back claims"));
  expect(await settled(database.pool, id, "sent")).toMatchObject({ attempts: 1 });
});

test("the switch holds for every relayer, over REST and SQL, and over a restart", async () => {
  const [first] = await Promise.all([start(), start()]);
  await settledDown();
  const answer = await fetch(`${first.api}/scheduler/toggle`, { method: "POST" });
  expect(await answer.json()).toMatchObject({ running: false });
  await insert(database.pool, 10);
  await Promise.all(relayers.map((relayer) => relayer.stop()));
  relayers = [];
  const third = await start({ env: { RELAY_POLL_INTERVAL: "50ms" } });
  await third.logged(({ msg }) => msg.startsWith("registered"));
  expect(await tally(database.pool)).toEqual({ pending: 10, sent: 1 });
  await database.pool.query("select outbox.toggle()");
  await allSent(database.pool, 11);

  await database.pool.query("select outbox.pause()");
  const [id = 0] = await insert(database.pool);
  await database.pool.query("select outbox_worker.add_job('relay')");
  await eventually(
    async () =>
      (await database.pool.query("select from outbox_worker.jobs where task_identifier = 'relay'")).rowCount,
    (jobs) => jobs === 0,
  );
  expect((await settled(database.pool, id, "pending")).attempts).toBe(0);
  await database.pool.query("select outbox.resume()");
  await settled(database.pool, id, "sent");
});

test("a pause gives back what was claimed and not yet sent", async () => {
  const answers = Promise.withResolvers<object>();
  gateway.answerWith(() => answers.promise);
  await start({ env: { RELAY_CONCURRENCY: "3" } });
  await insert(database.pool, 3);
  await gateway.received(3);
  await insert(database.pool, 50);
  await database.pool.query("select outbox.pause()");
  await eventually(
    () => tally(database.pool),
    ({ pending, sending }) => pending === 50 && sending === 3,
  );
  answers.resolve({});
  await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === 3,
  );
  expect(gateway.requests).toHaveLength(3);
});

test("relay.mode scheduled: at most batch_size messages a tick, for the whole cluster, and only then", async () => {
  const env = { RELAY_MODE: "scheduled", RELAY_BATCH_SIZE: "2", RELAY_POLL_INTERVAL: "50ms" };
  await Promise.all([start({ env }), start({ env }), start({ env })]);
  await insert(database.pool, 5);
  async function tick(time: string): Promise<void> {
    await database.pool.query(
      "select outbox_worker.add_job('relay', json_build_object('_cron', json_build_object('ts', $1::text)))",
      [time],
    );
    await eventually(
      async () =>
        (await database.pool.query("select from outbox_worker.jobs where task_identifier = 'relay'"))
          .rowCount,
      (jobs) => jobs === 0,
    );
  }
  // Neither a NOTIFY nor the poll relays.
  await database.pool.query("select outbox.resume()");
  expect(await tally(database.pool)).toEqual({ pending: 5 });

  await tick("2026-11-23T10:00:00Z");
  await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === 2,
  );
  // The same tick once more, as after a crash of the worker.
  await tick("2026-11-23T10:00:00Z");
  expect(await tally(database.pool)).toEqual({ pending: 3, sent: 2 });
  await tick("2026-11-23T10:02:00Z");
  await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === 4,
  );
  await tick("2026-11-23T10:04:00Z");
  await allSent(database.pool, 5);
});
