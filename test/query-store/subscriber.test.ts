import pg from "pg";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { createUpkeep } from "../../src/query-store/upkeep.ts";
import { init, refusal } from "./stores-under-test.ts";
import { KEPT, OLD_DAY, useSubscriber } from "./subscriber-under-test.ts";

const TABLES = [
  ...["messages", "sent", "dead_letters", "attempts", "gateways", "relayers", "scheduler"],
  ...["replays", "audit", "events", "minutes"],
];

const subscriber = useSubscriber();
const { primaryServer, storeServer, rows, value, caughtUp, onPrimary, inStore, synced } = subscriber;
const { all, where, insert, attempt, send, reject, command } = subscriber;
let primary: string;
let store: string;

beforeAll(() => {
  ({ primary, store } = subscriber.urls());
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

  test("leaves the checks of messages to the primary, and keeps their names", async () => {
    const checks = `
      select conname as name, pg_get_expr(conbin, conrelid) as expression, obj_description(oid, 'pg_constraint') as comment
      from pg_constraint where conrelid = 'outbox.messages'::regclass and contype = 'c' order by 1`;
    const [there, here] = [await onPrimary(checks), await inStore(checks)];
    expect(there.length).toBeGreaterThan(10);
    expect(there.map(({ expression }) => expression)).not.toContain("true");
    expect(here).toEqual(
      there.map(({ name }) => ({ name, expression: "true", comment: "The primary makes it." })),
    );
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
    expect(await value(fresh, "select to_regnamespace('outbox') is null")).toBe(true);
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

  test("publishes every table but those of keys, of alerts and of the store itself", async () => {
    const published = await onPrimary(
      "select relname from pg_class where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'p') and not relispartition and relname not in (select tablename from pg_publication_tables) order by 1",
    );
    expect(published.map(({ relname }) => relname)).toEqual([
      "alerts",
      "cursor_keys",
      "dedupe_keys",
      "idempotency_keys",
      "query_store",
      "watchers",
    ]);
  });
});

describe("the store", () => {
  test("costs the primary's tables nothing: no trigger and no index more than without one", async () => {
    const plain = await primaryServer.createDatabase();
    await migrate({ connectionString: plain, log: () => {} });
    const burdens = `
      select relname as place, tgname as name from pg_trigger join pg_class on pg_class.oid = tgrelid
      where not tgisinternal and relnamespace = 'outbox'::regnamespace and relname !~ '_\\d{8}$'
      union all
      select tablename, indexname from pg_indexes where schemaname = 'outbox' and tablename !~ '_\\d{8}$'
      order by 1, 2`;
    expect(await onPrimary(burdens)).toEqual(await rows(plain, burdens));
  });

  test("is emptied of messages when the primary is, and keeps its history then", async () => {
    const sent = await send("sent before");
    const dead = await reject("dead before");
    const gone = await insert("gone with the table");
    await synced();
    expect(await where(store, gone)).toEqual(["pending"]);
    await onPrimary("truncate outbox.messages");
    await synced();
    expect(await inStore("select from outbox.messages")).toEqual([]);
    expect(await where(store, sent)).toEqual(["sent"]);
    expect(await where(store, dead)).toEqual(["failed"]);
    // History that an operator empties is history all the same.
    const [was] = await inStore("select count(*)::int as count from outbox.dead_letters");
    await onPrimary(
      "begin; create temp table kept as table outbox.dead_letters; truncate outbox.dead_letters; insert into outbox.dead_letters overriding system value table kept; commit",
    );
    const after = await insert("after");
    await synced();
    expect(await where(store, after)).toEqual(["pending"]);
    expect(await inStore("select count(*)::int as count from outbox.dead_letters")).toEqual([was]);
    await onPrimary("select outbox.cancel($1)", [after]);
  });

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
    const id = await insert("before its day had a partition");
    await attempt(id, "retry", "2077-07-07T11:59:00Z");
    await attempt(id, "accepted", "2077-07-07T12:00:00Z");
    expect(await value(primary, "select count(*)::int from outbox.sent_default")).toBe(1);
    expect(await value(primary, "select count(*)::int from outbox.attempts_default")).toBe(1);
    await synced();
    await onPrimary("select outbox.maintain()");
    expect(await value(primary, "select count(*)::int from outbox.sent_20770707")).toBe(1);
    expect(await value(primary, "select count(*)::int from outbox.attempts_20770707")).toBe(1);
    await synced();
    expect(await where(store, id)).toEqual(["sent"]);
    // The store puts its own in order, and its copy can still be replayed.
    await inStore("select outbox.maintain_query_store()");
    expect(await value(store, "select count(*)::int from outbox.sent_20770707")).toBe(1);
    expect(await inStore("select attempt from outbox.attempts where message_id = $1", [id])).toEqual([
      { attempt: 1 },
    ]);
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

  test("is left to who may put it in order: another user is told so", async () => {
    await inStore("create role reader login password 'pw' in role outbox_auditor");
    const reader = store.replace("librarian", "reader");
    const upkeep = createUpkeep({
      databaseUrl: primary,
      queryDatabaseUrl: reader,
      kept: KEPT,
      log: () => {},
      warn: (message) => expect.fail(message),
    });
    expect(await upkeep.maintain()).toEqual([
      "query store: its housekeeping is not done: permission denied for function maintain_query_store. There: grant outbox_relayer to its user",
    ]);
  });
});
