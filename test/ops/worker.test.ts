import { readFileSync } from "node:fs";
import type { ParsedCronItem, TaskList } from "graphile-worker";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createWaitingPool } from "../../src/db/pool.ts";
import { createWorker, readCrontab, type Worker } from "../../src/ops/worker.ts";
import { eventually } from "../support/eventually.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";

const postgres = usePrivatePostgres();
let connectionString: string;
let worker: Worker | undefined;

// Its own each time: a job whose end a stop has cut off is freed by a rescue, and there is none here.
beforeEach(async () => {
  connectionString = await postgres.createDatabase();
});
afterEach(() => worker?.stop());

async function startWorker(
  task: () => Promise<void>,
  others: TaskList = {},
  crontab: readonly ParsedCronItem[] = [],
): Promise<string[]> {
  const lines: string[] = [];
  worker = createWorker({
    pool: createWaitingPool({ connectionString, max: 4, applicationName: "test-worker", log: () => {} }),
    crontab,
    tasks: { job: task, ...others },
    log: (level, message) => lines.push(`${level} ${message}`),
  });
  await worker.start();
  return lines;
}

async function addJob(): Promise<void> {
  await queryOnce(connectionString, "select outbox_worker.add_job('job')");
}

test("runs a job as soon as it is added", async () => {
  const done = Promise.withResolvers<void>();
  await startWorker(async () => done.resolve());
  await addJob();
  await done.promise;
});

test("notices that hang leave the jobs of the relay their two places", async () => {
  const end = Promise.withResolvers<void>();
  const [notice, first, second] = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  let notices = 0;
  const running = [first, second];
  await startWorker(
    async () => {
      running.shift()?.resolve();
      await end.promise;
    },
    {
      async notify_email() {
        notices += 1;
        notice?.resolve();
        await end.promise;
      },
    },
  );
  for (const _each of [1, 2, 3])
    await queryOnce(
      connectionString,
      "select outbox_worker.add_job('notify_email', queue_name => 'notices')",
    );
  await notice?.promise;
  await addJob();
  await addJob();
  await Promise.all([first?.promise, second?.promise]);
  expect(notices).toBe(1);
  end.resolve();
});

test("a job that ends as it stops is done, not locked", async () => {
  for (let round = 0; round < 10; round++) {
    const ran = Promise.withResolvers<void>();
    await startWorker(async () => ran.resolve());
    await addJob();
    await ran.promise;
    await worker?.stop();
    expect(await queryOnce(connectionString, "select from outbox_worker.jobs")).toEqual([]);
  }
});

test("a restart of Postgres neither ends it nor leaves it deaf", async () => {
  let ran = Promise.withResolvers<void>();
  await startWorker(async () => ran.resolve());
  await addJob();
  await ran.promise;
  await postgres.stop("immediate");
  await postgres.start();
  ran = Promise.withResolvers<void>();
  await addJob();
  await ran.promise;
});

test("a job that is under way while Postgres restarts is done afterwards, and not left locked", async () => {
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  await startWorker(() => {
    begun.resolve();
    return end.promise;
  });
  await addJob();
  await begun.promise;
  await postgres.stop("immediate");
  end.resolve();
  await postgres.start();
  await expect
    .poll(() => queryOnce(connectionString, "select from outbox_worker.jobs"), {
      interval: 20,
      timeout: 20_000,
    })
    .toEqual([]);
});

test("stops also while Postgres is away", async () => {
  await startWorker(async () => {});
  await postgres.stop("immediate");
  try {
    await worker?.stop();
  } finally {
    await postgres.start();
  }
});

test("a crontab that cannot be run is told with its place and what there is", () => {
  expect(() => readCrontab("* * * * * relay\n61 * * * * relay", "crontab", ["relay"])).toThrow(
    /^crontab: .*61/,
  );
  expect(() => readCrontab("* * * * * rely", "my/crontab", ["relay", "maintain"])).toThrow(
    "my/crontab: there is no task rely; there are relay, maintain.",
  );
  expect(readCrontab("# nothing\n", "crontab", ["relay"])).toEqual([]);
});

test("by the crontab that comes with it, looks and housekeeping that wait to be done, or done again, do not pile up", async () => {
  await startWorker(async () => {});
  await worker?.stop();
  // As after twenty minutes without a relayer, made up for.
  await queryOnce(
    connectionString,
    `insert into outbox_worker._private_known_crontabs (identifier, known_since, last_execution)
     select identifier, now() - interval '1 day', date_trunc('minute', now() - interval '20 minutes')
     from unnest('{alert,maintain}'::text[]) as identifier`,
  );
  const text = readFileSync(new URL("../../crontab", import.meta.url), "utf8");
  const lines = text.replaceAll(/^.*jobKey=.*$/gm, "$&&fill=1h");
  const crontab = readCrontab(lines, "crontab", ["relay", "alert", "maintain"]);
  // Nobody takes them, as nobody takes at once what has failed.
  await startWorker(async () => {}, {}, crontab);
  await eventually(
    () =>
      queryOnce(
        connectionString,
        "select from outbox_worker._private_known_crontabs where last_execution < now() - interval '6 minutes'",
      ),
    (behind) => behind.length === 0,
  );
  const waiting = await queryOnce(
    connectionString,
    "select task_identifier as task, count(*)::int as jobs from outbox_worker.jobs where task_identifier <> 'relay' group by 1 order by 1",
  );
  expect(waiting).toEqual([
    { task: "alert", jobs: 1 },
    { task: "maintain", jobs: 1 },
  ]);
});
