import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { startProgram } from "./program.ts";

const database = useDatabase();
let gateway: HttpGateway;

beforeAll(async () => {
  gateway = await startHttpGateway();
});
afterAll(() => gateway.close());

it("the job of a relayer that was killed is free again within seconds, and another does it", async () => {
  const env = { DATABASE_URL: database.url, WEBHOOK_URL: gateway.url };
  const first = startProgram({ env });
  await first.ready();
  // What maintenance waits for, so that its job is under way for as long as the test likes.
  const holder = new pg.Client(database.url);
  await holder.connect();
  await holder.query("begin; lock table outbox.dedupe_keys in access exclusive mode");
  await database.pool.query("select outbox_worker.add_job('maintain')");
  const jobs = async () =>
    (await database.pool.query<{ locked_by: string | null }>("select locked_by from outbox_worker.jobs"))
      .rows;
  const [job] = await eventually(jobs, ([one]) => one?.locked_by != null);
  const { rows } = await eventually(
    () => database.pool.query("select worker from outbox.relayers"),
    ({ rows: [relayer] }) => relayer?.worker !== null,
  );
  expect(rows).toEqual([{ worker: job?.locked_by }]);

  const second = startProgram({ env });
  await second.ready();
  const killed = performance.now();
  first.kill("SIGKILL");
  await first.end;
  await database.pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outbox-worker' and query like '%maintain%'",
  );
  await holder.query("rollback");
  await holder.end();
  await eventually(jobs, (left) => left.length === 0, 25_000);
  const tookMs = performance.now() - killed;
  console.log(`the job of a killed relayer was done ${tookMs.toFixed(0)} ms after the kill`);
  expect(tookMs).toBeLessThan(20_000);
  second.kill("SIGTERM");
  expect((await second.end).code).toBe(0);
});
