import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { eventually } from "../support/eventually.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";
import type { Row } from "./outbox-under-test.ts";

// A server of its own: a replication slot holds back every database, and prepared transactions have to be allowed.
const postgres = usePrivatePostgres({ max_prepared_transactions: "4", autovacuum: "off" });
let url: string;
let looker: pg.Client;

beforeAll(async () => {
  url = await postgres.createDatabase();
  await migrate({ connectionString: url, log: () => {} });
  looker = new pg.Client(url);
  await looker.connect();
});
afterAll(() => looker.end());

async function session(config: pg.ClientConfig & { replication?: string } = {}): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, ...config });
  client.on("error", () => {});
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

const pidOf = (client: pg.Client) => (client as unknown as { processID: number }).processID;
const snapshots = async (on = looker): Promise<Row[]> =>
  (await on.query("select * from outbox.snapshots")).rows;
const health = async (on = looker): Promise<Row> =>
  (await on.query("select oldest_snapshot_age, oldest_snapshot_holder from outbox.health")).rows[0];

/** A transaction of somebody else: time goes on. */
const goOn = () => looker.query("update outbox.scheduler set changed_at = changed_at");

/** A report, say. */
async function reading(config?: pg.ClientConfig): Promise<pg.Client> {
  const client = await session(config);
  await client.query("begin isolation level repeatable read; select");
  await goOn();
  return client;
}

describe("snapshots", () => {
  test("has none while nothing is open, and health neither", async () => {
    await session();
    const idle = await session();
    await idle.query("begin");
    await goOn();
    expect(await snapshots()).toEqual([]);
    expect(await health()).toEqual({ oldest_snapshot_age: null, oldest_snapshot_holder: null });
  });

  test("shows the session that reads from an old snapshot, and health says whose it is", async () => {
    const report = await reading({ application_name: "monthly report" });
    const holder = `pid ${pidOf(report)}: outbox, monthly report, from 127.0.0.1, idle in transaction`;
    expect(await snapshots()).toEqual([
      {
        kind: "session",
        pid: pidOf(report),
        age: expect.anything(),
        transactions_behind: expect.any(Number),
        has_written: false,
        holder,
      },
    ]);
    expect(await health()).toEqual({
      oldest_snapshot_age: expect.anything(),
      oldest_snapshot_holder: holder,
    });
    await report.query("commit");
    expect(await snapshots()).toEqual([]);
  });

  test("counts its age from the beginning of its transaction", async () => {
    const before = await clock();
    const report = await reading();
    const after = await clock();
    const { rows } = await looker.query(
      "select clock_timestamp() - age between $1 and $2 as fits from (select * from outbox.snapshots offset 0) as it",
      // Rounded down to milliseconds, and looked at a moment before the clock.
      [before, new Date(after.getTime() + 1_000)],
    );
    expect(rows).toEqual([{ fits: true }]);
    await report.query("commit");
  });
  const clock = async (): Promise<Date> => (await looker.query("select clock_timestamp() as at")).rows[0].at;

  test("counts the transactions that began since", async () => {
    await reading();
    const [{ transactions_behind: before }] = (await snapshots()) as [Row];
    for (let n = 0; n < 3; n++) await goOn();
    const [{ transactions_behind: after }] = (await snapshots()) as [Row];
    expect(after - before).toBe(3);
  });

  test("shows what was written and is not committed, though it reads no more", async () => {
    const forgetful = await session({ application_name: "psql" });
    await forgetful.query("begin; create temp table x ()");
    await goOn();
    expect(await snapshots()).toMatchObject([{ pid: pidOf(forgetful), has_written: true }]);
  });

  test("puts first what holds back the most, and the writer before who only read while it wrote", async () => {
    const [reader, writer] = [await session(), await session()];
    await writer.query("begin; create temp table x ()");
    await reader.query("begin isolation level repeatable read; select");
    await goOn();
    const later = await session();
    await later.query("begin; create temp table x ()");
    await goOn();
    expect((await snapshots()).map(({ pid }) => pid)).toEqual([pidOf(writer), pidOf(reader), pidOf(later)]);
    expect((await health()).oldest_snapshot_holder).toContain(`pid ${pidOf(writer)}:`);
  });

  test("does not count who looks", async () => {
    const looking = await reading();
    expect(await snapshots(looking)).toEqual([]);
    expect((await health(looking)).oldest_snapshot_holder).toBeNull();
  });

  test("does not count another database", async () => {
    const elsewhere = { connectionString: await postgres.createDatabase() };
    await reading(elsewhere);
    const other = await session(elsewhere);
    await other.query("begin; create table x (); prepare transaction 'elsewhere'");
    await goOn();
    expect(await snapshots()).toEqual([]);
    await other.query("rollback prepared 'elsewhere'");
  });

  test("does not count a snapshot behind which nothing has happened yet", async () => {
    const fresh = await session();
    await fresh.query("begin isolation level repeatable read; select");
    expect(await snapshots()).toEqual([]);
    await goOn();
    expect(await snapshots()).toHaveLength(1);
  });

  test("does not count a vacuum, which no other vacuum minds", async () => {
    await looker.query(
      "create table rows as select n, repeat('x', 500) as x from generate_series(1, 2000) as n",
    );
    await looker.query("delete from rows");
    const vacuum = await session();
    await vacuum.query("set vacuum_cost_delay = '100ms'; set vacuum_cost_limit = 1");
    const vacuuming = vacuum.query("vacuum rows").catch(() => "cancelled");
    const seen = () =>
      looker.query(
        "select from pg_stat_activity join pg_stat_progress_vacuum using (pid) where pid = $1 and backend_xmin is not null",
        [pidOf(vacuum)],
      );
    await eventually(seen, ({ rowCount }) => rowCount === 1);
    await goOn();
    expect(await snapshots()).toEqual([]);
    expect((await seen()).rowCount).toBe(1);
    await looker.query("select pg_cancel_backend($1)", [pidOf(vacuum)]);
    expect(await vacuuming).toBe("cancelled");
  });

  test("shows a prepared transaction that nobody commits", async () => {
    const client = await session();
    await client.query("begin; create table of_two_phases (); prepare transaction 'half''s done'");
    await goOn();
    const holder = "prepared transaction 'half''s done' of outbox";
    expect(await snapshots()).toEqual([
      {
        kind: "prepared transaction",
        pid: null,
        age: expect.anything(),
        transactions_behind: expect.any(Number),
        has_written: true,
        holder,
      },
    ]);
    expect(await health()).toEqual({
      oldest_snapshot_age: expect.anything(),
      oldest_snapshot_holder: holder,
    });
    await client.query("rollback prepared 'half''s done'");
    expect(await snapshots()).toEqual([]);
  });

  test("shows a slot in which a standby has left a snapshot", async () => {
    const standby = await session({ replication: "true" });
    onTestFinished(async () => {
      await looker.query("select pg_drop_replication_slot('standby')");
    });
    await standby.query("CREATE_REPLICATION_SLOT standby PHYSICAL");
    await looker.query("begin");
    const { rows: at } = await looker.query(
      "select pg_current_wal_lsn() as lsn, pg_current_xact_id()::text::bigint as xid",
    );
    await looker.query("commit");
    standby.query(`START_REPLICATION SLOT standby PHYSICAL ${at[0].lsn}`).catch(() => {});
    // Hot standby feedback, as a standby gives it (PostgreSQL documentation, 54.4): xmin, and no catalog_xmin.
    const feedback = Buffer.alloc(30);
    feedback.write("d", 0);
    feedback.writeInt32BE(29, 1);
    feedback.write("h", 5);
    feedback.writeUInt32BE(Number(at[0].xid), 14);
    const { stream } = (standby as unknown as { connection: { stream: NodeJS.WritableStream } }).connection;
    const shown = await eventually(
      async () => {
        stream.write(feedback);
        await goOn();
        return await snapshots();
      },
      (them) => them.length > 0,
    );
    expect(shown).toMatchObject([
      {
        kind: "replication slot",
        age: null,
        has_written: false,
        holder: "replication slot 'standby', in use",
      },
    ]);
    await looker.query("select pg_terminate_backend($1)", [pidOf(standby)]);
    await eventually(snapshots, ([one]) => one?.holder === "replication slot 'standby', not in use");
    expect(await health()).toEqual({
      oldest_snapshot_age: null,
      oldest_snapshot_holder: "replication slot 'standby', not in use",
    });
  });

  test("shows another role's session also to one that may see little of it", async () => {
    await looker.query(`
      create role auditor login password 'secret-of-the-test';
      grant usage on schema outbox to auditor;
      grant select on outbox.snapshots to auditor`);
    const report = await reading({ application_name: "monthly report" });
    const auditor = await session({
      user: "auditor",
      password: "secret-of-the-test",
      connectionString: asAuditor(),
    });
    expect(await snapshots(auditor)).toMatchObject([
      { pid: pidOf(report), age: null, holder: `pid ${pidOf(report)}: outbox, monthly report` },
    ]);
    await looker.query("grant pg_read_all_stats to auditor");
    expect(await snapshots(auditor)).toMatchObject([
      { age: expect.anything(), holder: expect.stringContaining("idle in transaction") },
    ]);
  });

  function asAuditor(): string {
    const auditors = new URL(url);
    auditors.username = "auditor";
    return auditors.href;
  }
});
