import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import pg from "pg";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { mustBePrimary } from "../../src/db/primary.ts";
import { openDatabase } from "../../src/query-store/database.ts";
import { oneAtATime } from "../../src/query-store/one-at-a-time.ts";
import { createUpkeep } from "../../src/query-store/upkeep.ts";
import { eventually } from "../support/eventually.ts";
import { init, refusal } from "./stores-under-test.ts";
import { KEPT, nextMigration, useSubscriber } from "./subscriber-under-test.ts";

/** What the next version may bring. */
const STEP = `
  alter table outbox.messages add column later text;
  alter table outbox.messages drop constraint revision_negative, add constraint revision_negative check (revision between 0 and 9);
  alter table outbox.sent add column later text;
  alter table outbox.dead_letters add column later text;
  create table outbox.newer (id int primary key);
  comment on table outbox.newer is 'Newer.';
  create or replace function outbox.query_store_tables() returns table (publication text, publishes text, tables text[])
  language sql immutable as $$
    values
      ('outbox_query_store', 'insert, update, delete, truncate', '{messages, gateways, relayers, scheduler, replays, query_store_beats, housekeeping, newer}'::text[]),
      ('outbox_query_store_history', 'insert, update, delete', '{sent, dead_letters}'),
      ('outbox_query_store_log', 'insert', '{attempts, audit, events, minutes}');
  $$;`;

/** The checks of messages that a row has to pass. */
const CHECKS = `
  select conname as name
  from pg_constraint
  where conrelid = 'outbox.messages'::regclass and contype = 'c' and pg_get_expr(conbin, conrelid) <> 'true'`;

const subscriber = useSubscriber();
const { primaryServer, storeServer, rows, value, caughtUp, onPrimary, inStore, synced } = subscriber;
const { where, insert, command } = subscriber;
let primary: string;
let store: string;

beforeAll(() => {
  ({ primary, store } = subscriber.urls());
});

/** The migrations of the next version, while the test runs. */
async function nextVersion(): Promise<string> {
  const folder = await nextMigration(STEP);
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Holds a lock until it is told to let go. */
async function hold(url: string, statement: string): Promise<() => Promise<unknown>> {
  const client = new pg.Client(url);
  await client.connect();
  onTestFinished(() => client.end());
  await client.query(`begin; ${statement}`);
  return () => client.query("rollback; select pg_advisory_unlock_all()");
}

describe("several at once", () => {
  const LOCK = "select pg_advisory_lock(hashtextextended('outbox-relayer: query store', 0))";
  let fresh: string;

  beforeAll(async () => {
    fresh = await storeServer.createDatabase();
  });

  test("make a store once", async () => {
    const said = (await Promise.all([init(primary, fresh), init(primary, fresh)])).flat();
    expect(said.filter((line) => line.includes("subscribed to"))).toHaveLength(1);
    expect(said.filter((line) => line.includes("ready to be asked"))).toHaveLength(2);
    await caughtUp(primary, fresh);
    expect(await onPrimary("select from outbox.replication_slots where kind = 'logical'")).toHaveLength(2);
  });

  test("wait for each other, but not for ever; a relayer that starts leaves it to the other", async () => {
    const letGo = await hold(fresh, LOCK);
    const [mine, its] = [await openDatabase("the query store", fresh), new URL(fresh)];
    onTestFinished(() => mine.close());
    expect(await refusal(oneAtATime(mine, 200))).toBe(
      `another process has been making or changing the query store at ${its.host}${its.pathname} for 0.2 s (its application_name is outbox-query-store in pg_stat_activity there): wait for it, then run this again`,
    );
    await rows(primary, "alter publication outbox_query_store drop table outbox.replays");
    const upkeep = (lines: string[]) =>
      createUpkeep({
        databaseUrl: primary,
        queryDatabaseUrl: fresh,
        kept: KEPT,
        log: (line) => lines.push(line),
        warn: (line) => expect.fail(line),
      });
    const others: string[] = [];
    await upkeep(others).refreshStore();
    expect(others).toEqual([]);
    await letGo();
    const lines: string[] = [];
    await upkeep(lines).refreshStore();
    expect(lines).toEqual([
      expect.stringMatching(/^primary: changed the publication outbox_query_store: .*replays/),
    ]);
  });

  test("a store is dropped by one, after the other", async () => {
    const letGo = await hold(fresh, LOCK);
    const drop = () => command("drop --yes", { store: fresh });
    const dropped = Promise.allSettled([drop(), drop()]);
    await eventually(
      () =>
        rows(
          fresh,
          "select from pg_stat_activity where application_name = 'outbox-query-store' and datname = current_database() and query like '%pg_try_advisory_lock%'",
        ),
      (waiting) => waiting.length === 2,
    );
    expect(await value(fresh, "select count(*)::int from pg_namespace where nspname = 'outbox'")).toBe(1);
    await letGo();
    const outcomes = (await dropped).toSorted((a, b) => a.status.localeCompare(b.status));
    expect(outcomes).toEqual([
      {
        status: "fulfilled",
        value: expect.arrayContaining([expect.stringMatching(/^primary: dropped the slot /)]),
      },
      {
        status: "rejected",
        reason: expect.objectContaining({ message: expect.stringMatching(/is no query store$/) }),
      },
    ]);
  });
});

describe("a relayer of a newer version", () => {
  test("brings the store up to date before the primary, and what is new into it", async () => {
    const migrations = await nextVersion();
    const lines: string[] = [];
    const upkeep = createUpkeep({
      databaseUrl: primary,
      queryDatabaseUrl: store,
      kept: KEPT,
      log: (line) => lines.push(line),
      warn: (line) => expect.fail(line),
      migrations,
    });
    await upkeep.migrateStore();
    expect(await refusal(command("status"))).toBe(
      "outbox.newer does not come to it: npm run query-store -- init subscribes to it",
    );
    expect(await value(primary, "select to_regclass('outbox.newer') is null")).toBe(true);
    expect(await value(store, "select to_regclass('outbox.newer') is null")).toBe(false);
    // An older primary goes on meanwhile.
    const before = await insert("of the older version");
    await synced();
    expect(await where(store, before)).toEqual(["pending"]);

    await migrate({ connectionString: primary, log: () => {}, folder: migrations });
    await onPrimary("insert into outbox.newer values (7)");
    await upkeep.refreshStore();
    expect(lines).toEqual([
      expect.stringMatching(/^query store: Migration \d{6}-next\.sql applied in \d+ ms$/),
      expect.stringMatching(/^primary: changed the publication outbox_query_store: .* newer, /),
      "query store: copying newer too",
    ]);
    await onPrimary("update outbox.messages set later = 'now' where id = $1", [before]);
    await synced();
    expect(await inStore("select later from outbox.messages where id = $1", [before])).toEqual([
      { later: "now" },
    ]);
    expect(await inStore("select id from outbox.newer")).toEqual([{ id: 7 }]);
    expect(await inStore(CHECKS)).toEqual([]);
    expect(await onPrimary(CHECKS)).toContainEqual({ name: "revision_negative" });
    await expect(inStore("insert into outbox.newer values (8)")).rejects.toMatchObject({ code: "OB011" });
  });

  test("does not wait for a migration of the store that takes long, and does the rest when it is done", async () => {
    const migrations = await nextVersion();
    const [primary, store] = [await primaryServer.createDatabase(), await storeServer.createDatabase()];
    await migrate({ connectionString: primary, log: () => {} });
    await init(primary, store);
    await caughtUp(primary, store);
    const lines: string[] = [];
    const warned: string[] = [];
    const upkeep = createUpkeep({
      databaseUrl: primary,
      queryDatabaseUrl: store,
      kept: KEPT,
      log: (line) => lines.push(line),
      warn: (line) => warned.push(line),
      migrations,
      migrationMs: 50,
    });
    const letGo = await hold(store, "lock table outbox.messages");
    await upkeep.migrateStore();
    // A start that an outage has cut off begins again, and does not begin the migration twice.
    await upkeep.migrateStore();
    const late =
      "the query store has been migrating for 0.05 s and goes on; the primary does not wait for it, so the replication may stop until it is done";
    expect(warned).toEqual([late, late]);
    await migrate({ connectionString: primary, log: () => {}, folder: migrations });
    const refreshed = upkeep.refreshStore();
    await letGo();
    await refreshed;
    expect(lines.filter((line) => !line.includes("in use"))).toEqual([
      expect.stringMatching(/^query store: Migration \d{6}-next\.sql applied in \d+ ms$/),
      expect.stringMatching(/^primary: changed the publication outbox_query_store: .* newer, /),
      "query store: copying newer too",
    ]);
    expect(warned).toEqual([late, late]);
    await caughtUp(primary, store);
    expect(await command("drop --yes", { primary, store })).toContain(
      "query store: dropped the schemas outbox, outbox_worker and outbox_migrate in " +
        new URL(store).host +
        new URL(store).pathname,
    );
  });

  test("starts without a store that is away, and says what that means", async () => {
    const away = new URL(store);
    away.port = "1";
    const warned: string[] = [];
    const upkeep = createUpkeep({
      databaseUrl: primary,
      queryDatabaseUrl: away.href,
      kept: KEPT,
      log: () => {},
      warn: (line) => warned.push(line),
    });
    await upkeep.migrateStore();
    await upkeep.refreshStore();
    expect(warned).toEqual([
      expect.stringMatching(
        /^the query store was not brought up to date before the primary, .*: the query store at .* is away: /,
      ),
      expect.stringMatching(
        /^what is new on the primary is not yet in the query store: npm run query-store -- init /,
      ),
    ]);
    expect(await upkeep.maintain()).toEqual([]);
  });

  test("is kept waiting by a store that hangs neither at its start nor, more than once, by its housekeeping", async () => {
    const waiting = createServer();
    waiting.listen(0, "127.0.0.1");
    await once(waiting, "listening");
    onTestFinished(() => void waiting.close());
    const silent = new URL(store);
    silent.port = String((waiting.address() as AddressInfo).port);
    const warned: string[] = [];
    const of = (queryDatabaseUrl: string, connectMs: number) =>
      createUpkeep({
        databaseUrl: primary,
        queryDatabaseUrl,
        kept: { ...KEPT, auditMs: 1 },
        log: () => {},
        warn: (line) => warned.push(line),
        starting: { connectMs, queryMs: 100 },
        maintaining: { queryMs: 100 },
      });
    await of(silent.href, 100).migrateStore();
    const client = new pg.Client(storeServer.url(new URL(store).pathname.slice(1)));
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("begin; lock table outbox.query_store, outbox.audit");
    const upkeep = of(store, 20_000);
    await upkeep.migrateStore();
    expect(warned).toEqual([
      expect.stringMatching(/is away: timeout expired$/),
      expect.stringMatching(/: canceling statement due to statement timeout$/),
    ]);
    await client.query("rollback; begin; lock table outbox.audit");
    const first = upkeep.maintain();
    expect(await upkeep.maintain()).toEqual([]);
    await expect(first).rejects.toThrow("canceling statement due to statement timeout");
    // Once that one has ended, it is tried again.
    await expect(upkeep.maintain()).rejects.toThrow("canceling statement due to statement timeout");
    await client.query("rollback");
  });

  test("does not take a query store for its primary", async () => {
    await expect(mustBePrimary(store)).rejects.toThrow(
      /is a query store, for questions alone: DATABASE_URL has to name the primary/,
    );
    await mustBePrimary(primary);
    await mustBePrimary(await storeServer.createDatabase());
  });
});
