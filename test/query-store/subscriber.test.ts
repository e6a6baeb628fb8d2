import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { calculateHash } from "graphile-migrate/dist/hash.js";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { readMigrationSettings } from "../../src/db/migration-settings.ts";
import { mustBePrimary } from "../../src/db/primary.ts";
import { parseQueryStoreWords, runQueryStore } from "../../src/query-store/command.ts";
import { createUpkeep } from "../../src/query-store/upkeep.ts";
import { eventually } from "../support/eventually.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";
import { init, refusal, useAsking } from "./stores-under-test.ts";

/** Else a table that has been copied may wait for ten seconds to hear where it is to go on from. */
const FAST = {
  synchronous_commit: "off",
  max_worker_processes: "24",
  wal_retrieve_retry_interval: "100ms",
  wal_receiver_status_interval: "1s",
};
const primaryServer = usePrivatePostgres({
  ...FAST,
  wal_level: "logical",
  max_wal_senders: "20",
  max_replication_slots: "20",
});
const storeServer = usePrivatePostgres({
  ...FAST,
  max_logical_replication_workers: "16",
  max_sync_workers_per_subscription: "13",
  max_active_replication_origins: "20",
});
const { rows, value, caughtUp } = useAsking();

const TABLES = [
  ...["messages", "sent", "dead_letters", "attempts", "gateways", "relayers", "scheduler"],
  ...["replays", "audit", "events", "minutes"],
];
const KEPT = {
  sentMs: undefined,
  attemptsMs: undefined,
  deadLettersMs: undefined,
  auditMs: undefined,
  eventsMs: undefined,
};
const OLD_DAY = "2020-01-01";

let primary: string;
let migrations: string | undefined;
let store: string;

const onPrimary = (text: string, values?: readonly unknown[]) => rows(primary, text, values);
const inStore = (text: string, values?: readonly unknown[]) => rows(store, text, values);
const synced = () => caughtUp(primary, store);

/** All rows of a table, as text. */
const all = async (url: string, table: string) =>
  (await rows(url, `select ${table}::text as row from outbox.${table} order by 1`)).map(({ row }) => row);

const where = async (url: string, id: number) =>
  (await rows(url, "select status from outbox.all_messages where id = $1", [id])).map(({ status }) => status);

async function insert(content = "hi", metadata: object = {}): Promise<number> {
  return Number(
    await value(
      primary,
      "insert into outbox.messages (recipient, content, metadata) values ('+905551234567', $1, $2) returning id",
      [content, metadata],
    ),
  );
}

/** An attempt at one message, with this outcome, as of a time. */
async function attempt(id: number, outcome: string, as_of = new Date().toISOString()): Promise<void> {
  await onPrimary("update outbox.messages set available_at = '2000-01-01' where id = $1", [id]);
  const relayer = await value(primary, "select id from outbox.relayers order by id limit 1");
  const claimed = await onPrimary("select id, attempt from outbox.claim($1, 'default', 1000, as_of => $2)", [
    relayer,
    as_of,
  ]);
  const mine = claimed.find((each) => Number(each.id) === id);
  const others = claimed.filter((each) => each !== mine).map((each) => each.id);
  if (others.length > 0) await onPrimary("select outbox.release($1, $2)", [relayer, others]);
  await onPrimary(
    `select outbox.settle($1, array[$2::bigint], array[$3::smallint], array[$4::outbox.outcome], '{500}', array['gw-' || $2], '{"it failed"}', '{5}', '{null}', as_of => $5)`,
    [relayer, id, mine?.attempt, outcome, as_of],
  );
}

const send = async (content: string, metadata: object = {}, as_of?: string) => {
  const id = await insert(content, metadata);
  await attempt(id, "accepted", as_of);
  return id;
};

const reject = async (content: string, as_of?: string) => {
  const id = await insert(content);
  await attempt(id, "rejected", as_of);
  return id;
};

/** What the command says; a fault is thrown. */
async function command(words: string, urls: { store?: string; primary?: string; maxLagMs?: number } = {}) {
  const said: string[] = [];
  const asked = parseQueryStoreWords(words.split(" "));
  if ("fault" in asked) throw new Error(asked.fault);
  await runQueryStore({
    asked,
    databaseUrl: urls.primary ?? primary,
    queryDatabaseUrl: urls.store ?? store,
    primaryUrl: undefined,
    maxLagMs: urls.maxLagMs ?? 20_000,
    say: (line) => said.push(line),
  });
  return said;
}

/** The project's migrations and one more. */
async function nextMigration(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "outbox-migrations-"));
  const { migrationsFolder } = await readMigrationSettings();
  await cp(join(migrationsFolder, "committed"), join(folder, "committed"), { recursive: true });
  const last = (await readdir(join(folder, "committed"))).sort().at(-1) as string;
  const previous = /^--! Hash: (\S+)$/m.exec(
    await readFile(join(folder, "committed", last), "utf8"),
  )?.[1] as string;
  const body = `${text.trim()}\n`;
  const file = `${String(Number(last.slice(0, 6)) + 1).padStart(6, "0")}-next.sql`;
  await writeFile(
    join(folder, "committed", file),
    `--! Previous: ${previous}\n--! Hash: ${calculateHash(body, previous)}\n\n${body}`,
  );
  return folder;
}

beforeAll(async () => {
  // As owners that are no superusers, each with no more than it needs.
  const owned = async (server: typeof primaryServer, role: string, rights: string) => {
    const url = new URL(await server.createDatabase());
    const name = url.pathname.slice(1);
    await rows(server.url("postgres"), `create role ${role} login password 'pw' ${rights}`);
    await rows(server.url("postgres"), `grant create on database ${name} to ${role}`);
    url.username = role;
    url.password = "pw";
    return url.href;
  };
  primary = await owned(primaryServer, "keeper", "createrole replication");
  store = await owned(storeServer, "librarian", "createrole in role pg_create_subscription");
  await migrate({ connectionString: primary, log: () => {} });
  await onPrimary("select outbox.maintain()");
  await onPrimary("select outbox.make_partition('sent', 'sent_at', $1)", [OLD_DAY]);
  await onPrimary("insert into outbox.relayers (name, version) values ('test', '1')");
  await send("before the store", { order: 1 });
  await reject("died before the store");
  await insert("waits");
  await onPrimary("select outbox.close_minutes(now() + interval '5 minutes')");
  await init(primary, store);
  await synced();
});

afterAll(async () => {
  if (migrations !== undefined) await rm(migrations, { recursive: true, force: true });
});

describe("init", () => {
  test("copies what is there, with partitions for each day", async () => {
    for (const table of TABLES) expect(await all(store, table), table).toEqual(await all(primary, table));
    expect(await value(store, "select count(*)::int from outbox.sent_default")).toBe(0);
    expect(await value(store, "select to_regclass('outbox.sent_20200101') is not null")).toBe(true);
  });

  test("changes nothing the second time", async () => {
    expect(await init(primary, store)).toEqual([
      "query store: ready to be asked once its tables are copied; npm run query-store -- status shows it",
    ]);
  });

  test("says all at once what stands in the way: wal_level, and whose database it is", async () => {
    const other = await storeServer.createDatabase();
    const mine = await primaryServer.createDatabase();
    await migrate({ connectionString: mine, log: () => {} });
    await rows(mine, "insert into outbox.messages (recipient, content) values ('+905551234567', 'mine')");
    const said = await refusal(init(other, mine));
    expect(said).toMatch(
      /has wal_level replica, .* needs logical\. As a superuser: alter system set wal_level = logical; then restart/,
    );
    expect(said).toContain("has messages of its own, and is no query store");
    expect(await value(other, "select to_regnamespace('outbox') is null")).toBe(true);
    expect(await refusal(init(primary, primary))).toContain("name the same database");
  });

  test("says what a user lacks on either side", async () => {
    await rows(primaryServer.url("postgres"), "create role nobody login password 'pw'");
    await rows(storeServer.url("postgres"), "create role nobody login password 'pw'");
    const as = (url: string) => url.replace(/keeper|librarian/, "nobody");
    expect(await refusal(init(primary, as(store)))).toContain("There: grant outbox_relayer to nobody");
    const fresh = await storeServer.createDatabase();
    const unowned = new URL(fresh);
    unowned.username = "nobody";
    unowned.password = "pw";
    const said = await refusal(init(as(primary), unowned.href));
    expect(said).toContain("alter role nobody replication");
    expect(said).toContain("nobody may not make a publication");
    expect(said).toContain("grant pg_create_subscription to nobody");
    expect(said).toContain("nobody may not create in");
    expect(await refusal(init(primary, fresh, as(primary)))).toMatch(
      /nobody may not replicate\. .*\n.*nobody may not read the tables\. On the primary: grant outbox_auditor to nobody/,
    );
  });

  test("goes on where it could not subscribe", async () => {
    const fresh = await storeServer.createDatabase();
    const unreachable = new URL(primary);
    unreachable.port = "1";
    expect(await refusal(init(primary, fresh, unreachable.href))).toMatch(
      /cannot subscribe to 127\.0\.0\.1:1\/.*: /,
    );
    expect(await onPrimary("select from outbox.replication_slots")).toHaveLength(1);
    expect(await refusal(command("status", { store: fresh }))).toContain("it has not subscribed yet");
    await init(primary, fresh);
    await caughtUp(primary, fresh);
    expect(await all(fresh, "sent")).toEqual(await all(primary, "sent"));
    await command("drop", { store: fresh });
    expect(await value(fresh, "select to_regnamespace('outbox') is null")).toBe(true);
    expect(await onPrimary("select from outbox.replication_slots")).toHaveLength(1);
  });

  test("publishes every table but those of keys and of the store itself", async () => {
    const published = await onPrimary(
      "select relname from pg_class where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'p') and not relispartition and relname not in (select tablename from pg_publication_tables) order by 1",
    );
    expect(published.map(({ relname }) => relname)).toEqual([
      "cursor_keys",
      "dedupe_keys",
      "idempotency_keys",
      "query_store",
    ]);
  });
});

describe("the store", () => {
  test("follows every change, and never runs ahead of what it promises", async () => {
    const sent = await send("on its way", { order: 7 });
    const dead = await reject("refused");
    const waits = await insert("waits");
    await onPrimary("select outbox.cancel($1)", [waits]);
    await onPrimary("select outbox.pause('default'), outbox.resume('default')");
    await onPrimary("insert into outbox.gateways (name) values ('gone')");
    await onPrimary("delete from outbox.gateways where name = 'gone'");
    await synced();
    for (const table of TABLES) expect(await all(store, table), table).toEqual(await all(primary, table));
    expect(await where(store, sent)).toEqual(["sent"]);
    expect(await where(store, dead)).toEqual(["failed"]);
    const [promise] = await inStore(
      "select outbox.sent_horizon() = sent_horizon as sent, outbox.events_horizon() = events_horizon as events, outbox.is_query_store() as here from outbox.query_store_beats",
    );
    expect(promise).toEqual({ sent: true, events: true, here: true });
    expect(await inStore("select kind, searchable from outbox.query_store_state()")).toEqual([
      { kind: "logical", searchable: true },
    ]);
    expect(await onPrimary("select kind, searchable from outbox.query_store_state()")).toEqual([
      { kind: "primary", searchable: false },
    ]);
  });

  test("promises nothing while a table is being copied", async () => {
    const client = new pg.Client(store);
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("begin");
    // As in the catalogue while it is so; only a superuser could write there.
    await client.query(
      "create or replace view pg_temp.pg_subscription_rel as select srsubid, 'd'::\"char\" as srsubstate from pg_catalog.pg_subscription_rel",
    );
    const source = await value(store, "select prosrc from pg_proc where proname = 'last_beat'");
    await client.query(
      `create or replace function outbox.last_beat() returns setof outbox.query_store_beats language sql stable as $$${source.replaceAll("pg_catalog.pg_subscription_rel", "pg_temp.pg_subscription_rel")}$$`,
    );
    const { rows: found } = await client.query(
      "select beat_at, lsn, outbox.sent_horizon()::text as sent, outbox.events_horizon()::text as events from outbox.query_store_state()",
    );
    expect(found).toEqual([{ beat_at: null, lsn: null, sent: "-infinity", events: "-infinity" }]);
    await client.query("rollback");
  });

  test("goes by the heartbeat for who is alive", async () => {
    await onPrimary("update outbox.relayers set heartbeat_at = clock_timestamp()");
    await synced();
    expect(await inStore("select alive from outbox.relayer_status")).toEqual([{ alive: true }]);
    await onPrimary("update outbox.relayers set heartbeat_at = clock_timestamp() - interval '31 seconds'");
    await synced();
    expect(await inStore("select alive from outbox.relayer_status")).toEqual([{ alive: false }]);
  });

  test("finds words of the content, and values of the metadata, by its indexes", async () => {
    const id = await send("Your parcel is at the door", { order: { number: 4711, shop: "Lemon" } });
    await synced();
    const found = (words: string) =>
      inStore(
        "select id::int from outbox.sent where outbox.search_vector(content, metadata) @@ websearch_to_tsquery('simple', $1)",
        [words],
      );
    expect(await found("parcel door")).toEqual([{ id }]);
    expect(await found("4711 lemon")).toEqual([{ id }]);
    expect(await found("parcel -door")).toEqual([]);
    const client = new pg.Client(store);
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("set enable_seqscan = off");
    const { rows: plan } = await client.query(
      "explain select from outbox.sent where outbox.search_vector(content, metadata) @@ websearch_to_tsquery('simple', 'door')",
    );
    expect(JSON.stringify(plan)).toMatch(/Bitmap Index Scan on sent_\d{8}_search_vector_idx/);
  });

  test("refuses whoever writes to it, and nobody is notified there", async () => {
    const client = new pg.Client(store);
    const heard: string[] = [];
    client.on("notification", ({ channel }) => heard.push(channel));
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("listen outbox");
    for (const statement of [
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')",
      "select * from outbox.claim(1, 'default', 10)",
      "select outbox.register_relayer('x', '1')",
      "select outbox.beat()",
      "update outbox.scheduler set running = false",
      "delete from outbox.sent",
      "truncate outbox.messages",
      "select outbox.configure_gateway('default', '{}')",
    ])
      await expect(client.query(statement), statement).rejects.toMatchObject({ code: "OB011" });
    await send("nobody is told");
    await onPrimary("select pg_notify('outbox', 'primary only')");
    await synced();
    await client.query("select 1");
    expect(heard).toEqual([]);
  });
});

describe("history", () => {
  test("that the primary drops by retention stays; a replay moves what it moves", async () => {
    const dropped = await reject("dropped by retention", "2021-01-01T12:00:00Z");
    const replayed = await reject("replayed");
    const again = await send("sent, and sent again");
    const old = await send("an old day's", {}, `${OLD_DAY}T12:00:00Z`);
    await onPrimary("insert into outbox.audit (actor, action, at) values ('desk', 'pause', '2021-01-01')");
    await synced();

    await onPrimary("select outbox.replay($1), outbox.replay($2, force => true)", [replayed, again]);
    const did = await onPrimary(
      "select outbox.maintain('90 days', '30 days', '365 days', '365 days', '1 day')",
    );
    expect(did.map(({ maintain }) => maintain)).toEqual(
      expect.arrayContaining([
        "dropped 1 dead letters",
        "dropped 1 audit entries",
        "dropped outbox.sent_20200101",
      ]),
    );
    await synced();

    for (const [id, there, here] of [
      [dropped, [], ["failed"]],
      [old, [], ["sent"]],
      [replayed, ["pending"], ["pending"]],
      [again, ["pending"], ["pending"]],
    ] as const) {
      expect(await where(primary, id)).toEqual(there);
      expect(await where(store, id)).toEqual(here);
    }
    expect(await inStore("select actor from outbox.audit where at = '2021-01-01'")).toEqual([
      { actor: "desk" },
    ]);

    // One that comes back, and dies again or is sent again: nothing is in the way.
    await attempt(replayed, "rejected");
    await attempt(again, "accepted");
    await synced();
    expect(await where(store, replayed)).toEqual(["failed"]);
    expect(await where(store, again)).toEqual(["sent"]);
  });

  test("that moves out of a default partition on the primary stays where it is", async () => {
    const id = await send("before its day had a partition", {}, "2077-07-07T12:00:00Z");
    expect(await value(primary, "select count(*)::int from outbox.sent_default")).toBe(1);
    expect(await value(primary, "select count(*)::int from outbox.attempts_default")).toBe(0);
    await synced();
    await onPrimary("select outbox.maintain()");
    expect(await value(primary, "select count(*)::int from outbox.sent_20770707")).toBe(1);
    await synced();
    expect(await where(store, id)).toEqual(["sent"]);
    // The store puts its own in order, and its copy can still be replayed.
    await inStore("select outbox.maintain_query_store()");
    expect(await value(store, "select count(*)::int from outbox.sent_20770707")).toBe(1);
    await onPrimary("select outbox.replay($1, force => true)", [id]);
    await synced();
    expect(await where(store, id)).toEqual(["pending"]);
    await onPrimary("select outbox.cancel($1)", [id]);
  });

  test("that the store kept makes way for what the primary inserts", async () => {
    const [{ minute } = { minute: "" }] = await onPrimary(
      "select max(minute)::text as minute from outbox.minutes",
    );
    const dead = await reject("kept, then back by hand", "2021-01-02T12:00:00Z");
    await synced();
    await onPrimary("select outbox.maintain(dead_letters_kept => '365 days')");
    await onPrimary("delete from outbox.minutes where minute = $1", [minute]);
    await onPrimary(
      "insert into outbox.messages (id, recipient, content) overriding system value values ($1, '+905551234567', 'restored')",
      [dead],
    );
    await attempt(dead, "rejected");
    await onPrimary("insert into outbox.minutes (minute, sent) values ($1, 99)", [minute]);
    await synced();
    expect(await inStore("select content from outbox.dead_letters where id = $1", [dead])).toEqual([
      { content: "restored" },
    ]);
    expect(
      await inStore("select sent::int from outbox.minutes where minute = $1 and gateway is null", [minute]),
    ).toEqual([{ sent: 99 }]);
  });

  test("is dropped in the store by the store's own retention alone", async () => {
    const old = await send("three years old", {}, `${OLD_DAY}T12:00:00Z`);
    const dead = await reject("dead for years", "2021-01-03T12:00:00Z");
    await synced();
    const upkeep = (sentMs: number | undefined) =>
      createUpkeep({
        databaseUrl: primary,
        queryDatabaseUrl: store,
        kept: {
          sentMs,
          attemptsMs: undefined,
          deadLettersMs: sentMs,
          auditMs: sentMs,
          eventsMs: sentMs,
        },
        log: () => {},
        warn: (message) => expect.fail(message),
      });
    await upkeep(undefined).maintain();
    expect(await where(store, old)).toEqual(["sent"]);
    expect(await upkeep(86_400_000 * 365).maintain()).toEqual(
      expect.arrayContaining(["query store: dropped outbox.sent_20200101"]),
    );
    expect(await where(store, old)).toEqual([]);
    expect(await where(store, dead)).toEqual([]);
    // What the primary still has of it, it may drop, or replay: the store goes on.
    await onPrimary("select outbox.replay($1)", [dead]);
    await onPrimary("select outbox.replay($1, force => true)", [old]);
    await synced();
    expect(await where(store, dead)).toEqual(["pending"]);
    expect(await where(store, old)).toEqual(["pending"]);
    await onPrimary("select outbox.cancel($1), outbox.cancel($2)", [dead, old]);
  });
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
      expect.stringMatching(/^lag: a beat of the primary came within \d+\.\d\d s$/),
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
      /^its subscription is disabled: alter subscription \w+ enable\na beat of the primary has not come within 0\.00 s: it is [\d.]+ \w+ of WAL behind$/,
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

  test("does not take a query store for its primary", async () => {
    await expect(mustBePrimary(store)).rejects.toThrow(
      /is a query store, for questions alone: DATABASE_URL has to name the primary/,
    );
    await mustBePrimary(primary);
    await mustBePrimary(await storeServer.createDatabase());
  });
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
});
