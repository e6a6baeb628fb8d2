import { beforeAll } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { eventually } from "../support/eventually.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { useStandby } from "../support/standby.ts";
import { testReads } from "./real-stores.ts";

const SLOT = "outbox_standby_1";
const primary = usePrivatePostgres();
let primaryUrl = "";

beforeAll(async () => {
  primaryUrl = await primary.createDatabase();
  await migrate({ connectionString: primaryUrl, log: () => {} });
});
const standby = useStandby(primary, SLOT, () =>
  queryOnce(primaryUrl, "select pg_create_physical_replication_slot($1, true)", [SLOT]),
);

testReads("physical", {
  get primaryUrl() {
    return primaryUrl;
  },
  get storeUrl() {
    return standby.url(new URL(primaryUrl).pathname.slice(1));
  },
  async pause() {
    await queryOnce(this.storeUrl, "select pg_wal_replay_pause()");
    // It was only asked for.
    await eventually(
      () => queryOnce(this.storeUrl, "select pg_get_wal_replay_pause_state() as state"),
      ([row]) => row?.state === "paused",
    );
  },
  async resume() {
    await queryOnce(this.storeUrl, "select pg_wal_replay_resume()");
  },
  stop: standby.stop,
  start: standby.start,
});
