import type { Pool, PoolClient } from "pg";
import { describe, expect, it, onTestFinished } from "vitest";
import { isOutage } from "../../src/db/outage.ts";
import { createPool, createWaitingPool } from "../../src/db/pool.ts";
import { backends, terminate, usePrivatePostgres } from "../support/private-postgres.ts";
import { eventually } from "./eventually.ts";
import { logLines } from "./log-lines.ts";

const postgres = usePrivatePostgres();

function endAfterTest<P extends Pool>(pool: P): P {
  onTestFinished(() => (pool.ending ? undefined : pool.end()));
  return pool;
}

const failure = (work: Promise<unknown>): Promise<Error & { code?: string }> =>
  work.then(
    () => expect.fail("it succeeded"),
    (error: Error) => error,
  );

describe("createPool", () => {
  it("says who it is, and reads values as our code has them", async () => {
    const connectionString = await postgres.createDatabase();
    const pool = endAfterTest(
      createPool({ connectionString, max: 1, applicationName: "outbox-x", log: () => {} }),
    );
    const { rows } = await pool.query(
      "select current_setting('application_name') as name, 7::int8 as id, timestamptz '2026-11-23 14:11:00+00' as at",
    );
    expect(rows).toEqual([{ name: "outbox-x", id: 7, at: "2026-11-23T14:11:00.000000Z" }]);
  });

  it("survives the loss of all its idle connections, with one line an outage", async () => {
    const connectionString = await postgres.createDatabase();
    const { log, lines, line } = logLines();
    const pool = endAfterTest(createPool({ connectionString, max: 3, applicationName: "outbox-x", log }));
    for (const round of [1, 2]) {
      const clients = await Promise.all([pool.connect(), pool.connect(), pool.connect()]);
      for (const client of clients) client.release();
      await terminate(connectionString, "outbox-x");
      await eventually(() => pool.totalCount).toBe(0);
      await line(/lost its idle connections to Postgres: terminating connection/);
      expect(lines).toHaveLength(round);
      expect((await pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    }
  });

  it("survives the loss of a connection that is checked out and does nothing", async () => {
    const connectionString = await postgres.createDatabase();
    const pool = endAfterTest(
      createPool({ connectionString, max: 1, applicationName: "outbox-x", log: () => {} }),
    );
    const client = await pool.connect();
    const ended = new Promise<void>((resolve) => client.once("end", resolve));
    await terminate(connectionString, "outbox-x");
    await ended;
    expect(isOutage(await failure(client.query("select 1")))).toBe(true);
    client.release();
    expect((await pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("ends what takes too long: on the server, and on this side", async () => {
    const connectionString = await postgres.createDatabase();
    const base = { connectionString, max: 1, applicationName: "outbox-x", log: () => {} };
    const byServer = endAfterTest(createPool({ ...base, statementTimeoutMs: 50 }));
    expect((await failure(byServer.query("select pg_sleep(60)"))).code).toBe("57014");
    const byUs = endAfterTest(createPool({ ...base, queryTimeoutMs: 50 }));
    expect((await failure(byUs.query("select pg_sleep(60)"))).message).toBe("Query read timeout");
    expect((await byUs.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("says quickly that the database is away", async () => {
    const connectionString = await postgres.createDatabase();
    const pool = endAfterTest(
      createPool({ connectionString, max: 1, applicationName: "outbox-x", log: () => {} }),
    );
    await postgres.stop();
    onTestFinished(() => postgres.start());
    expect(isOutage(await failure(pool.query("select 1")))).toBe(true);
  });
});

describe("createWaitingPool", () => {
  async function waitingPool(): Promise<{ pool: Pool; connectionString: string }> {
    const connectionString = await postgres.createDatabase();
    const pool = createWaitingPool({
      connectionString,
      max: 2,
      applicationName: "outbox-jobs",
      log: () => {},
    });
    return { pool: endAfterTest(pool), connectionString };
  }

  /** Resolves once the pool has tried to connect and failed, so that it really waits. */
  const untilTried = (pool: Pool) => eventually(() => pool.totalCount).toBe(0);

  it("reads times as dates, with which graphile-worker reckons what a crontab has missed", async () => {
    const { pool } = await waitingPool();
    const { rows } = await pool.query("select timestamptz '2026-11-23 14:11:00+00' as at");
    expect(rows).toEqual([{ at: new Date("2026-11-23T14:11:00Z") }]);
  });

  it("waits out a restart: promises, callbacks and queries", async () => {
    const { pool } = await waitingPool();
    await pool.query("select 1");
    await postgres.stop("immediate");
    const byPromise = pool.connect();
    const byCallback = new Promise<PoolClient | undefined>((resolve, reject) =>
      pool.connect((error, client) => (error ? reject(error) : resolve(client))),
    );
    await untilTried(pool);
    await postgres.start();
    for (const connecting of [byPromise, byCallback]) {
      const client = await connecting;
      expect((await client?.query("select 1 as one"))?.rows).toEqual([{ one: 1 }]);
      client?.release();
    }

    await postgres.stop("immediate");
    const query = pool.query("select 2 as two");
    await untilTried(pool);
    await postgres.start();
    expect((await query).rows).toEqual([{ two: 2 }]);
  });

  it("stops trying once it is ended, and tells nobody", async () => {
    const { pool } = await waitingPool();
    await postgres.stop();
    const told: unknown[] = [];
    const tell = (what: unknown) => void told.push(what);
    pool.connect().then(tell, tell);
    pool.connect(tell);
    await untilTried(pool);
    await pool.end();
    pool.connect().then(tell, tell);
    await postgres.start();
    // Any try that was still to come would now succeed, within the longest pause between two.
    const witness = await waitingPool();
    await witness.pool.query("select pg_sleep(2)");
    expect(told).toEqual([]);
  });

  it("does not wait for what waiting cannot help", async () => {
    const { connectionString } = await waitingPool();
    const wrong = new URL(connectionString);
    wrong.password = "wrong";
    const pool = endAfterTest(
      createWaitingPool({
        connectionString: wrong.href,
        max: 1,
        applicationName: "outbox-jobs",
        log: () => {},
      }),
    );
    expect((await failure(pool.connect())).code).toBe("28P01");
  });

  it("gives a query that an outage cut off the code that graphile-worker retries; other faults keep theirs", async () => {
    const { pool, connectionString } = await waitingPool();
    const cut = failure(
      pool.connect().then((client) => client.query("select pg_sleep(60)").finally(() => client.release())),
    );
    await eventually(() => backends(connectionString, "outbox-jobs")).toHaveLength(1);
    await terminate(connectionString, "outbox-jobs");
    const error = await cut;
    expect(error.code).toBe("57P03");
    expect((error.cause as { code?: string }).code).toBe("57P01");
    // The error comes before the end of its connection, which until then could be given to the next query.
    await eventually(() => pool.totalCount).toBe(0);
    expect((await failure(pool.query("selekt"))).code).toBe("42601");
    const client = await pool.connect();
    expect((await failure(client.query("selekt"))).code).toBe("42601");
    client.release();
  });
});
