import { afterEach, beforeEach, expect, test } from "vitest";
import { readCrontab } from "../../src/ops/worker.ts";
import { TASKS } from "../../src/program/jobs.ts";
import { createReplayTask } from "../../tasks/replay.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type RelayerOptions, startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, insert, settled, tally } from "./messages.ts";

const database = useDatabase();
let gateway: HttpGateway;
let relayers: TestRelayer[] = [];

async function start(options: Partial<RelayerOptions> = {}): Promise<TestRelayer> {
  const relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, ...options });
  relayers.push(relayer);
  return relayer;
}

async function stopAll(): Promise<void> {
  await Promise.all(relayers.map((relayer) => relayer.stop()));
  relayers = [];
}

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await stopAll();
  await gateway.close();
  await database.pool.query(`
    truncate outbox.messages, outbox.sent, outbox.dead_letters, outbox.attempts, outbox.replays;
    update outbox.gateways set circuit_failures = default, max_attempts = default, rate_per_second = default;
    select outbox.resume(), outbox.resume('default')`);
});

const idempotencyKey = async (id: number) => {
  const { rows } = await database.pool.query("select installation from outbox.scheduler");
  return `msg_${rows[0].installation}_${id}`;
};

/** So many that the gateway rejected. */
async function rejected(count: number): Promise<number[]> {
  gateway.answerWith(() => ({ status: 400, body: "not now" }));
  const ids = await insert(database.pool, count);
  await eventually(
    () => tally(database.pool),
    ({ failed }) => failed === count,
  );
  gateway.answerWith(() => ({}));
  return ids;
}

async function replayAll(): Promise<{ replay_id: number; replayed: number; matched: number }> {
  const { rows } = await database.pool.query(
    "select replay_id::int, replayed::int, matched::int from outbox.replay_where(dry_run => false, actor => 'ayşe')",
  );
  return rows[0];
}

const replays = async () =>
  (await database.pool.query("select status, replayed::int, skipped::int from outbox.replays order by id"))
    .rows;

test("5,000 dead letters go back while a relayer runs, and are all sent, under the keys they had", async () => {
  const relayer = await start();
  await rejected(5_000);
  const { replay_id, replayed, matched } = await replayAll();
  expect({ replayed, matched }).toEqual({ replayed: 1_000, matched: 5_000 });
  const line = await relayer.logged(({ msg }) => msg === "replay done");
  expect(line).toMatchObject({ level: "info", replay: replay_id, replayed: 5_000, skipped: 0 });
  await allSent(database.pool, 5_000);
  expect(await replays()).toEqual([{ status: "done", replayed: 5_000, skipped: 0 }]);
  expect(gateway.requests).toHaveLength(10_000);
  expect(gateway.counts.size).toBe(5_000);
  expect([...gateway.counts.values()].every((count) => count === 2)).toBe(true);
});

test("a rejected message that is edited and replayed is another one to the gateway", async () => {
  await start();
  const [id = 0] = await rejected(1);
  await database.pool.query("select outbox.edit($1, content => 'better')", [id]);
  await database.pool.query("select outbox.replay($1)", [id]);
  await settled(database.pool, id, "sent");
  const key = await idempotencyKey(id);
  expect(gateway.requests.map((request) => [request.id, request.body])).toEqual([
    [key, { to: "+905551234567", content: "message 1" }],
    [`${key}_1`, { to: "+905551234567", content: "better" }],
  ]);
});

test("what was sent goes out once more, under its key, when a person insists", async () => {
  await start();
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
  await database.pool.query("select outbox.replay($1, force => true)", [id]);
  await gateway.received(2);
  await settled(database.pool, id, "sent");
  expect(gateway.requests.map((request) => request.id)).toEqual(Array(2).fill(await idempotencyKey(id)));
});

test("a cancelled message is never posted", async () => {
  await start();
  const [id = 0] = await insert(database.pool, 1, { available_at: new Date(Date.now() + 300) });
  await database.pool.query("select outbox.cancel($1)", [id]);
  const [next = 0] = await insert(database.pool, 1, { available_at: new Date(Date.now() + 400) });
  await settled(database.pool, next, "sent");
  expect(gateway.requests).toHaveLength(1);
});

test("an edit that makes a message due sends it at once", async () => {
  await start({ env: { RELAY_POLL_INTERVAL: "1m" } });
  const [id = 0] = await insert(database.pool, 1, { available_at: new Date(Date.now() + 3_600_000) });
  await database.pool.query("select outbox.edit($1, available_at => now())", [id]);
  await settled(database.pool, id, "sent");
});

test("a replay that was asked for while no relayer ran is gone on with when one starts", async () => {
  await start();
  await rejected(1_500);
  await stopAll();
  await replayAll();
  await database.pool.query("delete from outbox_worker._private_jobs");
  expect(await replays()).toEqual([{ status: "running", replayed: 1_000, skipped: 0 }]);
  await start();
  await allSent(database.pool, 1_500);
  expect(await replays()).toEqual([{ status: "done", replayed: 1_500, skipped: 0 }]);
});

test("a replay whose job was lost is found again by the task maintain", async () => {
  await start();
  await rejected(1_500);
  await database.pool.query(`
    begin;
    select outbox.replay_where(dry_run => false);
    delete from outbox_worker._private_jobs where key like 'replay-%';
    commit`);
  await database.pool.query("select outbox_worker.add_job('maintain')");
  await allSent(database.pool, 1_500);
});

test("a replay that is cancelled midway ends, and leaves the rest", async () => {
  const relayer = await start();
  await rejected(2_500);
  await database.pool.query("select outbox.pause()");
  // What is back waits, so the replay waits too.
  const { replay_id } = await replayAll();
  await eventually(replays, ([replay]) => replay.replayed === 2_000);
  await database.pool.query("select outbox.cancel_replay($1)", [replay_id]);
  const line = await relayer.logged(({ msg }) => msg === "replay cancelled");
  expect(line).toMatchObject({ replay: replay_id, replayed: 2_000, skipped: 0 });
  await database.pool.query("select outbox.resume()");
  await eventually(
    () => tally(database.pool),
    ({ sent, failed }) => sent === 2_000 && failed === 500,
  );
});

test("the task says what it wants when it is not told which replay", async () => {
  const task = createReplayTask({
    slice: () => expect.fail("no slice"),
    queue: () => expect.fail("no job"),
    log: () => expect.fail("no line"),
  });
  for (const payload of [null, {}, { replay: "7" }, { replay: 1.5 }, 7])
    await expect(async () => task(payload, {} as never)).rejects.toThrow(/^the task replay wants {"replay"/);
});

test("the crontab cannot name it", () => {
  expect(() => readCrontab("* * * * * replay", "crontab", TASKS)).toThrow("there is no task replay");
});
