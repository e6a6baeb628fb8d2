import { beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { mustBePrimary } from "../../src/db/primary.ts";
import { parseQueryStoreWords, runQueryStore } from "../../src/query-store/command.ts";
import { createUpkeep } from "../../src/query-store/upkeep.ts";
import { eventually } from "../support/eventually.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";
import { useStandby } from "../support/standby.ts";
import { refusal, useAsking } from "./stores-under-test.ts";

const SLOT = "outbox_standby_1";
const primaryServer = usePrivatePostgres();
const { rows, value, caughtUp } = useAsking();
let primary: string;

beforeAll(async () => {
  primary = await primaryServer.createDatabase();
  await migrate({ connectionString: primary, log: () => {} });
});
const standbyServer = useStandby(primaryServer, SLOT, () =>
  rows(primaryServer.url("postgres"), "select pg_create_physical_replication_slot($1, true)", [SLOT]),
);
let standby: string;

const onPrimary = (text: string, values?: readonly unknown[]) => rows(primary, text, values);
const inStandby = (text: string, values?: readonly unknown[]) => rows(standby, text, values);
const synced = () => caughtUp(primary, standby);

/** What the command says; a fault is thrown. */
async function command(words: string, urls: { primary?: string; store?: string } = {}) {
  const said: string[] = [];
  const asked = parseQueryStoreWords(words.split(" "));
  if ("fault" in asked) throw new Error(asked.fault);
  await runQueryStore({
    asked,
    databaseUrl: urls.primary ?? primary,
    queryDatabaseUrl: urls.store ?? standby,
    primaryUrl: undefined,
    maxLagMs: 20_000,
    say: (line) => said.push(line),
  });
  return said;
}

beforeAll(async () => {
  standby = standbyServer.url(new URL(primary).pathname.slice(1));
  await onPrimary("select outbox.maintain()");
  await onPrimary("insert into outbox.relayers (name, version) values ('test', '1')");
  await onPrimary(
    "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 4)",
  );
  await onPrimary("select outbox.claim(1, 'default', 3)");
  await onPrimary(
    `select outbox.settle(1, '{1,2}', '{1,1}', '{accepted,rejected}', '{202,400}', '{gw-1,null}', '{null,"no"}', '{5,5}', '{null,null}')`,
  );
  await onPrimary("select outbox.pause(), outbox.resume()");
  await onPrimary("select outbox.close_minutes(now() + interval '5 minutes')");
  await synced();
});

describe("a physical standby", () => {
  test("is known for one, and promises what the primary's last beat does", async () => {
    expect(await inStandby("select kind, searchable from outbox.query_store_state()")).toEqual([
      { kind: "physical", searchable: false },
    ]);
    expect(
      await inStandby(
        "select outbox.is_query_store() as here, outbox.sent_horizon() = sent_horizon as sent, outbox.events_horizon() = events_horizon as events from outbox.query_store_beats",
      ),
    ).toEqual([{ here: true, sent: true, events: true }]);
  });

  test("sees a write once its place in the WAL is there, without a beat", async () => {
    const id = await value(
      primary,
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'token') returning id",
    );
    const lsn = await value(primary, "select pg_current_wal_insert_lsn()::text");
    await eventually(
      () => value(standby, "select lsn >= $1::pg_lsn from outbox.query_store_state()", [lsn]),
      (came) => came === true,
    );
    expect(await inStandby("select status from outbox.all_messages where id = $1", [id])).toEqual([
      { status: "pending" },
    ]);
  });

  test("answers every view, as the primary does", async () => {
    const views = await inStandby(
      "select viewname as name from pg_views where schemaname = 'outbox' order by 1",
    );
    expect(views.length).toBeGreaterThan(8);
    for (const { name } of views) await inStandby(`select * from outbox.${name}`);
    for (const name of ["all_messages", "backlog", "in_flight", "failures"])
      expect((await inStandby(`select * from outbox.${name}`)).length, name).toBe(
        (await onPrimary(`select * from outbox.${name}`)).length,
      );
    expect(await inStandby("select running from outbox.health")).toEqual([{ running: true }]);
    expect(await inStandby("select kind, slot_name from outbox.replication_slots")).toEqual([]);
  });

  test.each([
    "explain(1)",
    "explain(2)",
    "explain(3)",
    "explain(4)",
    "explain(999)",
    "message_timeline(2)",
    "tally(now() - interval '1 hour', 'infinity')",
    "tally_minute(date_trunc('minute', now()))",
    "search_vector('a', '{}')",
    "maintain_query_store()",
  ])("answers outbox.%s", async (call) => {
    await inStandby(`select * from outbox.${call}`);
  });

  test("goes by the heartbeat for who is alive", async () => {
    await onPrimary("update outbox.relayers set heartbeat_at = clock_timestamp()");
    await synced();
    expect(await inStandby("select alive from outbox.relayer_status")).toEqual([{ alive: true }]);
    await onPrimary("update outbox.relayers set heartbeat_at = clock_timestamp() - interval '31 seconds'");
    await synced();
    expect(await inStandby("select alive from outbox.relayer_status")).toEqual([{ alive: false }]);
  });

  test("searches when the primary has the indexes", async () => {
    expect(await onPrimary("select * from outbox.create_search_indexes()")).toHaveLength(6);
    await synced();
    expect(await inStandby("select searchable from outbox.query_store_state()")).toEqual([
      { searchable: true },
    ]);
    expect(
      await inStandby(
        "select count(*)::int from outbox.messages where outbox.search_vector(content, metadata) @@ to_tsquery('simple', 'hi')",
      ),
    ).toEqual([{ count: 2 }]);
  });

  test("is no place for a relayer", async () => {
    await expect(mustBePrimary(standby)).rejects.toThrow(/is a standby, for questions alone/);
    const upkeep = createUpkeep({
      databaseUrl: primary,
      queryDatabaseUrl: standby,
      kept: {
        sentMs: 1,
        attemptsMs: 1,
        deadLettersMs: 1,
        auditMs: 1,
        eventsMs: 1,
      },
      log: (line) => expect.fail(line),
      warn: (line) => expect.fail(line),
    });
    await upkeep.migrateStore();
    await upkeep.refreshStore();
    expect(await upkeep.maintain()).toEqual([]);
  });
});

describe("the command", () => {
  test("has nothing to make, and leaves the dropping to the server's owner", async () => {
    expect(await command("init")).toEqual([
      expect.stringMatching(/is a physical standby: there is nothing to make, and it can be asked as it is$/),
    ]);
    expect(await refusal(command("drop"))).toMatch(/is a physical standby: stop its server/);
  });

  test("shows how far it is, and what its slot keeps; and what is wrong", async () => {
    expect(await command("status")).toEqual([
      expect.stringMatching(/^query store at 127\.0\.0\.1:\d+\/db_\w+: a physical standby$/),
      expect.stringMatching(
        /^lag: a beat of the primary came within \d+\.\d\d s; the one before was [\d.]+ s old, [\d.]+ \w+ of WAL ago$/,
      ),
      expect.stringMatching(
        /^slot outbox_standby_1: in use by pid \d+; keeps .* of WAL \(reserved, no limit\)$/,
      ),
      expect.stringMatching(/^rows, by Postgres' estimate: /),
      "full-text search: the indexes are there",
    ]);
    // Nor does it take a superuser.
    await onPrimary("create role keeper login password 'pw' in role outbox_relayer");
    await synced();
    const as = (url: string) => url.replace(/\/\/.*@/, "//keeper:pw@");
    expect(await command("status", { primary: as(primary), store: as(standby) })).toHaveLength(5);
    await inStandby("select pg_wal_replay_pause()");
    await eventually(
      () => value(standby, "select pg_get_wal_replay_pause_state()"),
      (state) => state === "paused",
    );
    await onPrimary("insert into outbox.messages (recipient, content) values ('+905551234567', 'behind')");
    expect(await refusal(command("status"))).toMatch(
      /^its replay is paused: select pg_wal_replay_resume\(\)\na beat of the primary has not come: it is .* of WAL behind$/,
    );
    await inStandby("select pg_wal_replay_resume()");
    await synced();
  });

  test("says so when it is away, while its slot keeps WAL", async () => {
    await standbyServer.stop();
    expect(await refusal(command("status"))).toMatch(/^the query store at .* is away: /);
    const [slot] = await eventually(
      () => onPrimary("select active, kind, retained_bytes::int, holder from outbox.replication_slots"),
      ([it]) => it?.active === false,
    );
    expect(slot).toMatchObject({ kind: "physical", holder: expect.stringMatching(/^not in use/) });
    await onPrimary(
      "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 1000)",
    );
    expect(await value(primary, "select retained_bytes::int from outbox.replication_slots")).toBeGreaterThan(
      slot?.retained_bytes,
    );
    await standbyServer.start();
    await synced();
    expect(await value(standby, "select count(*)::int > 1000 from outbox.messages")).toBe(true);
  });
});
