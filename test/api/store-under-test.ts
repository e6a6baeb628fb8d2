import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import type { ApiDependencies } from "../../src/api/dependencies.ts";
import {
  type Condition,
  createQueryStore,
  type QueryStore,
  type QueryStoreOptions,
} from "../../src/api/query-store/query-store.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiUnderTest, apiUnderTest, type LogLine, poolFor } from "./api-under-test.ts";

/** For tests of a lag that is too long: soon over, and with several beats in it. */
export const SHORT_LAG_MS = 2_000;

export interface StandIn {
  readonly primary: pg.Pool;
  readonly store: pg.Pool;
  readonly storeUrl: string;
  /** From now on no beat comes to the store, or each one again. */
  freeze(): void;
  thaw(): void;
  serve(options?: Partial<QueryStoreOptions>, overrides?: Partial<ApiDependencies>): Promise<Served>;
}

export interface Served extends ApiUnderTest {
  readonly queryStore: QueryStore;
  /** What the query store has logged. */
  readonly told: readonly LogLine[];
  readonly becomes: (state: Condition["state"]) => Promise<Condition>;
}

/**
 * Two databases of one server, of which one stands in for a query store: the beats come to it and nothing else does, so what is read
 * says where it was read. Of real stores other tests know.
 */
export function useStandIn(): StandIn {
  let databases: TestDatabase[];
  let primary: pg.Pool;
  let store: pg.Pool;
  let frozen = false;
  let over = false;
  let following: Promise<void>;

  async function follow(): Promise<void> {
    while (!over) {
      const { rows } = await primary.query("select * from outbox.query_store_beats");
      const [beat] = rows;
      if (!frozen && beat !== undefined)
        await store.query(
          `insert into outbox.query_store_beats values (true, $1, $2, $3, $4)
           on conflict (id) do update set
             (beat_at, lsn, sent_horizon, events_horizon) = (excluded.beat_at, excluded.lsn, excluded.sent_horizon, excluded.events_horizon)`,
          [beat.beat_at, beat.lsn, beat.sent_horizon, beat.events_horizon],
        );
      await pause(10);
    }
  }

  beforeAll(async () => {
    databases = [await createDatabase(), await createDatabase()];
    [primary, store] = databases.map(({ url }) => new pg.Pool({ connectionString: url })) as [
      pg.Pool,
      pg.Pool,
    ];
    for (const pool of [primary, store])
      pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
    await store.query("insert into outbox.query_store (name) values ('outbox_query_store_test')");
    await store.query("update outbox.scheduler set changed_by = 'store'");
    await primary.query("update outbox.scheduler set changed_by = 'primary'");
    following = follow();
  });
  afterAll(async () => {
    over = true;
    await following;
    void primary.end();
    void store.end();
    for (const database of databases) await database.drop();
  });

  return {
    get primary() {
      return primary;
    },
    get store() {
      return store;
    },
    get storeUrl() {
      return databases[1]?.url ?? "";
    },
    freeze() {
      frozen = true;
      onTestFinished(() => {
        frozen = false;
      });
    },
    thaw() {
      frozen = false;
    },

    async serve(options = {}, overrides = {}) {
      const [primaryUrl = "", storeUrl = ""] = databases.map(({ url }) => url);
      const pools = [poolFor(primaryUrl), poolFor(storeUrl)] as const;
      const told: LogLine[] = [];
      const queryStore = createQueryStore({
        primary: pools[0],
        pool: pools[1],
        whenAway: "primary",
        maxLagMs: 60_000,
        log: (level, fields, message) => told.push({ level, fields, message }),
        ...options,
      });
      queryStore.start();
      onTestFinished(async () => {
        await queryStore.stop();
        for (const pool of pools) await pool.end();
      });
      const becomes = (state: Condition["state"]) =>
        eventually(
          async () => queryStore.condition(),
          (condition) => condition.state === state,
        );
      const api = apiUnderTest(pools[0], { queryStore, ...overrides });
      return { ...api, queryStore, told, becomes };
    },
  };
}
