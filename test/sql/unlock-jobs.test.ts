import { expect, test } from "vitest";
import { fromNow, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { register, rows, value } = outbox;

const SECONDS_LATER = 6_000;

const unlock = (as_of?: string): Promise<number> =>
  value("select outbox.unlock_jobs(coalesce($1, clock_timestamp()))", [as_of]);

/** A job that a worker has taken. */
async function taken(worker: string, attempts = 1, max_attempts = 25): Promise<string> {
  const { id } = await outbox.row("select id from outbox_worker.add_job('job', max_attempts => $1)", [
    max_attempts,
  ]);
  await outbox.pool.query(
    "update outbox_worker._private_jobs set locked_by = $1, locked_at = now(), attempts = $3 where id = $2",
    [worker, id, attempts],
  );
  return id;
}

const locked = async (): Promise<string[]> =>
  (await rows("select locked_by from outbox_worker.jobs where locked_by is not null order by 1")).map(
    ({ locked_by }) => locked_by,
  );

test("before Graphile Worker has its schema there is nothing to do", async () => {
  const session = await outbox.session();
  await session.query("begin; drop schema outbox_worker cascade");
  expect(await value("select outbox.unlock_jobs()", [], session)).toBe(0);
  await session.query("rollback");
});

test("the jobs of a worker that no relayer has are freed, those of a living one are not", async () => {
  const { id } = await register();
  await outbox.pool.query("select outbox.heartbeat($1, 'alive')", [id]);
  await taken("alive");
  await taken("gone");
  await taken("gone");
  expect(await unlock(fromNow(SECONDS_LATER))).toBe(1);
  expect(await locked()).toEqual(["alive"]);
});

test("a job whose process died in its last attempt is tried once more, whatever its number of attempts", async () => {
  const mine = [await taken("killed", 10, 10), await taken("killed", 1, 1), await taken("killed", 3, 10)];
  // Failed for good, by itself: it stays for a person to see.
  const failed = await taken("killed", 10, 10);
  await outbox.pool.query(
    "update outbox_worker._private_jobs set locked_by = null, locked_at = null where id = $1",
    [failed],
  );
  await unlock(fromNow(SECONDS_LATER));
  const jobs = await rows(
    "select attempts, max_attempts, locked_by from outbox_worker.jobs where id = any ($1) order by id",
    [[...mine, failed]],
  );
  expect(jobs).toEqual([
    { attempts: 9, max_attempts: 10, locked_by: null },
    { attempts: 0, max_attempts: 1, locked_by: null },
    { attempts: 3, max_attempts: 10, locked_by: null },
    { attempts: 10, max_attempts: 10, locked_by: null },
  ]);
});

test("a worker that has just taken its first job, and is not known yet, keeps it", async () => {
  await taken("new");
  expect(await unlock()).toBe(0);
  expect(await locked()).toContain("new");
});

test("a relayer keeps its worker's name over heartbeats without one, and brings it to a new number", async () => {
  const workers = async () =>
    (await rows("select worker from outbox.relayers order by id")).map((row) => row.worker);
  const { id } = await register();
  expect(await workers()).toEqual([null]);
  await outbox.pool.query("select outbox.heartbeat($1, 'mine')", [id]);
  await outbox.pool.query("select outbox.heartbeat($1)", [id]);
  expect(await workers()).toEqual(["mine"]);
  await outbox.pool.query("select outbox.register_relayer('again', '1.0', 'mine')");
  expect(await workers()).toEqual(["mine", "mine"]);
});

test("rescue frees the jobs of a relayer that is gone", async () => {
  const { id, client } = await register();
  await outbox.pool.query("select outbox.heartbeat($1, 'mine')", [id]);
  await taken("mine");
  await client.end();
  await expect
    .poll(async () => (await rows("select * from outbox.rescue()")).map(({ relayer }) => relayer), {
      interval: 5,
    })
    .toEqual([id]);
  await outbox.pool.query("select outbox.rescue(as_of => $1)", [fromNow(SECONDS_LATER)]);
  expect(await locked()).not.toContain("mine");
});

test("a watcher's jobs are its own while it is heard of, and free when it is not", async () => {
  const watch = (as_of: string, name = "watcher"): Promise<number> =>
    value("select outbox.watch($1, 'host:1', as_of => $2)", [name, as_of]);
  await watch(fromNow(0));
  await taken("watcher");
  expect(await unlock(fromNow(SECONDS_LATER))).toBe(0);
  expect(await locked()).toContain("watcher");
  // Heard of again, and again; then no more.
  await watch(fromNow(25_000));
  expect(await unlock(fromNow(40_000))).toBe(0);
  expect(await unlock(fromNow(60_000))).toBe(1);
  expect(await locked()).not.toContain("watcher");
  await watch(fromNow(2 * 3_600_000), "another");
  expect((await rows("select worker from outbox.watchers")).map((row) => row.worker)).toEqual(["another"]);
});

test("without any relayer, a watcher frees what the last one had taken, and leaves the relayer on record", async () => {
  const { id, client } = await register();
  await outbox.pool.query("select outbox.heartbeat($1, 'last')", [id]);
  await taken("last");
  const watch = () =>
    value("select outbox.watch('watcher', 'host:1', as_of => $1)", [fromNow(SECONDS_LATER)]);
  expect(await watch()).toBe(0);
  await client.end();
  await expect.poll(watch, { interval: 5 }).toBe(1);
  expect(await locked()).not.toContain("last");
  expect(await rows("select id from outbox.relayers")).toEqual([{ id }]);
});

test("a relayer that has just lost its connection keeps its jobs for some seconds", async () => {
  const { id, client } = await register();
  await outbox.pool.query("select outbox.heartbeat($1, 'blinking')", [id]);
  await outbox.pool.query("delete from outbox_worker._private_jobs");
  await taken("blinking");
  await outbox.pool.query("update outbox_worker._private_jobs set locked_at = now() - interval '1 minute'");
  await client.end();
  expect(await unlock()).toBe(0);
  expect(await locked()).toContain("blinking");
  expect(await unlock(fromNow(SECONDS_LATER))).toBe(1);
});
