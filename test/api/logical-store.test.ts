import { beforeAll } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { init } from "../query-store/stores-under-test.ts";
import { eventually } from "../support/eventually.ts";
import { PRIMARY, SUBSCRIBER } from "../support/logical-replication.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { testReads } from "./real-stores.ts";

const primary = usePrivatePostgres(PRIMARY);
const subscriber = usePrivatePostgres(SUBSCRIBER);
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
