import { beforeAll } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { init } from "../query-store/stores-under-test.ts";
import { eventually } from "../support/eventually.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { testReads } from "./real-stores.ts";

/** Else a table that has been copied may wait for ten seconds to hear where it is to go on from. */
const FAST = {
  synchronous_commit: "off",
  max_worker_processes: "24",
  wal_retrieve_retry_interval: "100ms",
  wal_receiver_status_interval: "1s",
};
const primary = usePrivatePostgres({
  ...FAST,
  wal_level: "logical",
  max_wal_senders: "20",
  max_replication_slots: "20",
});
const subscriber = usePrivatePostgres({
  ...FAST,
  max_logical_replication_workers: "16",
  max_sync_workers_per_subscription: "13",
  max_active_replication_origins: "20",
});
let primaryUrl = "";
let storeUrl = "";
let subscription = "";

beforeAll(async () => {
  primaryUrl = await primary.createDatabase();
  storeUrl = await subscriber.createDatabase();
  await migrate({ connectionString: primaryUrl, log: () => {} });
  await init(primaryUrl, storeUrl);
  const [made] = await queryOnce<{ name: string }>(storeUrl, "select name from outbox.query_store");
  subscription = made?.name ?? "";
});

testReads("logical", {
  get primaryUrl() {
    return primaryUrl;
  },
  get storeUrl() {
    return storeUrl;
  },
  async pause() {
    await queryOnce(storeUrl, `alter subscription ${subscription} disable`);
    // Its worker goes when it sees that.
    await eventually(
      () => queryOnce(storeUrl, "select from pg_stat_subscription where pid is not null"),
      (workers) => workers.length === 0,
    );
  },
  async resume() {
    await queryOnce(storeUrl, `alter subscription ${subscription} enable`);
  },
  stop: () => subscriber.stop(),
  start: () => subscriber.start(),
});
