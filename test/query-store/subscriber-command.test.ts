import { beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { eventually } from "../support/eventually.ts";
import { init, refusal } from "./stores-under-test.ts";
import { OLD_DAY, useSubscriber } from "./subscriber-under-test.ts";

const subscriber = useSubscriber();
const { primaryServer, storeServer, rows, value, caughtUp, onPrimary, inStore, synced } = subscriber;
const { insert, send, command } = subscriber;
let primary: string;
let store: string;

beforeAll(() => {
  ({ primary, store } = subscriber.urls());
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
    await init(primary, other);
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
    expect(await refusal(init(primary, store))).toMatch(
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
    await init(primary, cut);
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
