import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { mustBePrimary } from "../../src/db/primary.ts";
import { createUpkeep } from "../../src/query-store/upkeep.ts";
import { eventually } from "../support/eventually.ts";
import { init, refusal } from "./stores-under-test.ts";
import { KEPT, nextMigration, OLD_DAY, useSubscriber } from "./subscriber-under-test.ts";

const subscriber = useSubscriber();
const { primaryServer, storeServer, rows, value, caughtUp, onPrimary, inStore, synced } = subscriber;
const { where, insert, send, command } = subscriber;
let primary: string;
let store: string;
let migrations: string | undefined;

beforeAll(() => {
  ({ primary, store } = subscriber.urls());
});

afterAll(async () => {
  if (migrations !== undefined) await rm(migrations, { recursive: true, force: true });
});

describe("status", () => {
  test("says what it is, how far it is, and what its slot keeps", async () => {
    const said = await command("status");
    expect(said.slice(0, 4)).toEqual([
      expect.stringMatching(
        /^query store at 127\.0\.0\.1:\d+\/db_\w+: a logical subscriber, outbox_query_store_\w{8}$/,
      ),
      "tables: 13 of 13 ready",
      "errors since its statistics were reset: 0",
      expect.stringMatching(
        /^lag: a beat of the primary came within \d+\.\d\d s; the one before was [\d.]+ s old, [\d.]+ \w+ of WAL ago$/,
      ),
    ]);
    expect(said.slice(4)).toEqual([
      expect.stringMatching(
        /^slot outbox_query_store_\w{8}: in use by pid \d+; keeps [\d.]+ \w+ of WAL \(reserved, no limit\)$/,
      ),
      expect.stringMatching(
        /^rows, by Postgres' estimate: attempts \d+, audit \d+, dead_letters \d+, messages \d+, sent \d+$/,
      ),
      "full-text search: the indexes are there",
    ]);
  });

  test("names what is wrong: a subscription that is disabled, a slot that nobody uses, a lag", async () => {
    const name = await value(store, "select name from outbox.query_store");
    await inStore(`alter subscription ${name} disable`);
    await eventually(
      () => onPrimary("select active from outbox.replication_slots"),
      ([slot]) => slot?.active === false,
    );
    await insert("behind");
    const said = await refusal(command("status"));
    expect(said).toMatch(
      /^its subscription is disabled: alter subscription \w+ enable\na beat of the primary has not come: it is [\d.]+ \w+ of WAL behind$/,
    );
    const [slot] = await onPrimary(
      "select kind, wal_status, holder, retained_bytes::int from outbox.replication_slots",
    );
    expect(slot).toMatchObject({
      kind: "logical",
      wal_status: "reserved",
      holder: "not in use: the query store is away, or gone for good",
      retained_bytes: expect.any(Number),
    });
    expect(slot?.retained_bytes).toBeGreaterThan(0);
    await inStore(`alter subscription ${name} enable`);
    await synced();
  });

  test("says of another database that it is none", async () => {
    expect(await refusal(command("status", { store: await storeServer.createDatabase() }))).toMatch(
      /is no query store: npm run query-store -- init makes one/,
    );
    expect(await refusal(command("drop", { store: await storeServer.createDatabase() }))).toMatch(
      /is no query store/,
    );
  });
});

describe("a relayer of a newer version", () => {
  const STEP = `
    alter table outbox.messages add column later text;
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

  test("brings the store up to date before the primary, and what is new into it", async () => {
    migrations = await nextMigration(STEP);
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
    await expect(inStore("insert into outbox.newer values (8)")).rejects.toMatchObject({ code: "OB011" });
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

test("of another primary nothing is shown, made or dropped", async () => {
  const other = await primaryServer.createDatabase();
  await migrate({ connectionString: other, log: () => {} });
  for (const words of ["status", "init", "drop --yes"])
    expect(await refusal(command(words, { primary: other })), words).toMatch(
      /is the query store of another outbox than that at .*: DATABASE_URL or QUERY_DATABASE_URL names the wrong one$/,
    );
  expect(await rows(other, "select from pg_publication")).toEqual([]);
  await synced();
});

describe("drop", () => {
  test("does not lose history that only the store has without being told to", async () => {
    await send("only here in a moment", {}, `${OLD_DAY}T12:00:00Z`);
    await synced();
    await onPrimary("select outbox.maintain(sent_kept => '90 days')");
    expect(await refusal(command("drop"))).toMatch(
      /^The query store has history that the primary has not any more \(.*sent from 2020-01-01.*\): drop --yes deletes it, drop --keep-data leaves it where it is$/,
    );
    expect(await refusal(command("drop", { primary: primary.replace(/:\d+\//, ":1/") }))).toMatch(
      /the primary at .* is away: .*, so nobody knows what history only the store has/,
    );
    const mistyped = primary.replace(":pw@", ":wp@");
    expect(await refusal(command("drop", { primary: mistyped }))).toMatch(
      /refuses us: password .*, and its slot would be left there/,
    );
    await synced();
  });

  test("of a store that is away says which slot is left, and drops that when told to", async () => {
    const other = await storeServer.createDatabase();
    await init(primary, other, primary, migrations);
    await caughtUp(primary, other);
    const name = await value(other, "select name from outbox.query_store");
    expect(await refusal(command(`drop --slot ${name}`))).toMatch(/is in use/);
    const away = other.replace(/:\d+\//, ":1/");
    expect(await refusal(command("drop", { store: away }))).toContain(
      `If its store is gone for good: npm run query-store -- drop --slot ${name}`,
    );
    await rows(other, `alter subscription ${name} disable`);
    await eventually(
      () => onPrimary("select active from outbox.replication_slots where slot_name = $1", [name]),
      ([slot]) => slot?.active === false,
    );
    expect(await command(`drop --slot ${name}`, { store: away })).toEqual([
      `primary: dropped the slot ${name}`,
    ]);
    expect(await refusal(command(`drop --slot ${name}`))).toBe(
      `the primary has no slot ${name} of a query store`,
    );
    expect(await refusal(command("status", { store: other }))).toContain(
      `its slot ${name} is gone from the primary`,
    );
    // Its primary away, it says what is left there.
    const said = await command("drop --yes", { store: other, primary: primary.replace(/:\d+\//, ":1/") });
    expect(said.join("\n")).toContain(`select pg_drop_replication_slot('${name}');`);
    expect(await value(other, "select count(*)::int from pg_subscription")).toBe(1);
  });

  test("with --keep-data leaves a store that can be asked, and not be written to", async () => {
    const said = await command("drop --keep-data");
    expect(said.slice(-1)).toEqual(["primary: dropped the publications: no other query store uses them"]);
    expect(await onPrimary("select from pg_replication_slots")).toEqual([]);
    expect(await onPrimary("select from pg_publication")).toEqual([]);
    expect(await value(store, "select count(*)::int from pg_subscription")).toBe(0);
    expect(await value(store, "select count(*)::int > 0 from outbox.sent")).toBe(true);
    await expect(inStore("delete from outbox.sent")).rejects.toMatchObject({ code: "OB011" });
    expect(await refusal(init(primary, store, primary, migrations))).toMatch(
      /^The subscription \w+ of the query store at .* is gone/,
    );
    expect(await refusal(command("status"))).toMatch(/is gone: nothing comes any more/);
  });

  test("with --yes leaves nothing", async () => {
    await command("drop --yes");
    expect(await inStore("select from pg_namespace where nspname ~ '^outbox'")).toEqual([]);
  });

  test("helps where the slot was cut off, too: then the store has to be made anew", async () => {
    const cut = await storeServer.createDatabase();
    // Also while its tables are being copied: nobody waits for that here.
    await init(primary, cut, primary, migrations);
    const name = await value(cut, "select name from outbox.query_store");
    await rows(cut, `alter subscription ${name} disable`);
    const slot = () => onPrimary("select active, wal_status, holder from outbox.replication_slots");
    await eventually(slot, ([it]) => it?.active === false);
    const admin = primaryServer.url("postgres");
    await rows(admin, "alter system set max_slot_wal_keep_size = '1MB'");
    await rows(admin, "select pg_reload_conf()");
    for (let segment = 0; segment < 3; segment++) {
      await insert("more WAL");
      await rows(admin, "select pg_switch_wal()");
    }
    await rows(admin, "checkpoint");
    expect(await slot()).toEqual([
      { active: false, wal_status: "lost", holder: "it was cut off: the query store has to be made anew" },
    ]);
    expect(await refusal(command("status", { store: cut }))).toContain(
      `its slot ${name}: it was cut off: the query store has to be made anew`,
    );
    await command("drop --yes", { store: cut });
    expect(await slot()).toEqual([]);
  });
});
