import { setTimeout as pause } from "node:timers/promises";
import { migrate } from "../db/migrate.ts";
import { isOutage } from "../db/outage.ts";
import { type Database, messageOf, openDatabase, type Patience } from "./database.ts";
import { hasSubscription, identify } from "./kind.ts";
import { take } from "./one-at-a-time.ts";
import { publish } from "./publications.ts";
import { QueryStoreError } from "./query-store-error.ts";
import { refresh } from "./subscription.ts";

/** insufficient_privilege. */
const NO_RIGHT = "42501";

/** Messages wait for a relayer that starts: not for a store that is frozen. */
const STARTING: Patience = { connectMs: 3_000, queryMs: 5_000 };
const MAINTAINING: Patience = { queryMs: 600_000 };
/** Nor for one that makes an index over years of history. */
const MIGRATION_MS = 60_000;

/** How long the store keeps what it has, in milliseconds; undefined: for ever. */
export interface KeptInStore {
  readonly sentMs: number | undefined;
  readonly attemptsMs: number | undefined;
  readonly deadLettersMs: number | undefined;
  readonly auditMs: number | undefined;
  readonly eventsMs: number | undefined;
}

/** What the relayers do for a query store. Nothing of it is needed to relay: all faults are the log's. */
export interface QueryStoreUpkeep {
  /** Before the primary is migrated: what it has more than the store would stop the replication. What takes long goes on by itself. */
  migrateStore(): Promise<void>;
  /** After the primary is migrated, and the store: publishes and subscribes to what is new. */
  refreshStore(): Promise<void>;
  /** Partitions ahead, and the store's own retention. What it did, a sentence each; a fault is thrown. */
  maintain(): Promise<string[]>;
}

export interface UpkeepOptions {
  readonly databaseUrl: string;
  readonly queryDatabaseUrl: string;
  readonly kept: KeptInStore;
  readonly log: (message: string) => void;
  readonly warn: (message: string) => void;
  /** Where the migrations are; the project's own by default. */
  readonly migrations?: string;
  /** How long the store may take to answer when a relayer starts, and over its housekeeping. */
  readonly starting?: Patience;
  readonly maintaining?: Patience;
  /** How long a start waits for the store's migration. */
  readonly migrationMs?: number;
}

export function createUpkeep(options: UpkeepOptions): QueryStoreUpkeep {
  const { databaseUrl, queryDatabaseUrl, kept, log, warn, migrations } = options;
  const { starting = STARTING, maintaining = MAINTAINING, migrationMs = MIGRATION_MS } = options;
  let maintains = false;
  let migrating: Promise<void> | undefined;

  /** With a session in the store, when it is a logical subscriber. */
  async function inStore(
    work: (store: Database, name: string) => Promise<void>,
    patience?: Patience,
  ): Promise<void> {
    const store = await openDatabase("the query store", queryDatabaseUrl, patience);
    try {
      const { kind, name, subscribedAt } = await identify(store);
      if (
        kind === "logical" &&
        name !== null &&
        subscribedAt !== null &&
        (await hasSubscription(store, name))
      )
        await work(store, name);
    } finally {
      await store.close();
    }
  }

  async function orWarn(what: string, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      warn(`${what}: ${messageOf(error)}`);
    }
  }

  const broughtUpToDate = () =>
    orWarn(
      "the query store was not brought up to date before the primary, and may stop until a relayer starts that can do it",
      inStore(async () => {
        await migrate({
          connectionString: queryDatabaseUrl,
          log: (message) => log(`query store: ${message}`),
          ...(migrations !== undefined && { folder: migrations }),
        });
      }, starting),
    );

  return {
    async migrateStore() {
      migrating ??= broughtUpToDate().finally(() => {
        migrating = undefined;
      });
      const late = pause(migrationMs, "late", { ref: false });
      if ((await Promise.race([migrating, late])) === "late")
        warn(
          `the query store has been migrating for ${migrationMs / 1000} s and goes on; the primary does not wait for it, so the replication may stop until it is done`,
        );
    },
    async refreshStore() {
      await migrating;
      await orWarn(
        "what is new on the primary is not yet in the query store: npm run query-store -- init brings it there",
        inStore(async (store, name) => {
          // Only the owner may, on both; another user has nothing to do when nothing is new.
          if (!(await owns(store))) return;
          // Whoever has the store now brings it what is new.
          if (!(await take(store))) return;
          const primary = await openDatabase("the primary", databaseUrl);
          try {
            if (await owns(primary)) for (const said of await publish(primary)) log(`primary: ${said}`);
          } finally {
            await primary.close();
          }
          const taken = await refresh(store, name);
          if (taken.length > 0) log(`query store: copying ${taken.join(", ")} too`);
          for (const { said } of await store.rows<{ said: string }>(
            "select outbox.equip_query_store() as said",
          ))
            log(`query store: ${said}`);
        }),
      );
    },
    async maintain() {
      const done: string[] = [];
      // One that a frozen store keeps waiting takes one of Graphile Worker's places, not all of them.
      if (maintains) return done;
      maintains = true;
      await inStore(async (store) => {
        const interval = (ms: number | undefined) => (ms === undefined ? null : `${ms} milliseconds`);
        const rows = await store.rows<{ did: string }>(
          "select outbox.maintain_query_store($1::interval, $2::interval, $3::interval, $4::interval, $5::interval) as did",
          [kept.sentMs, kept.attemptsMs, kept.deadLettersMs, kept.auditMs, kept.eventsMs].map(interval),
        );
        done.push(...rows.map(({ did }) => `query store: ${did}`));
      }, maintaining)
        .catch((error: unknown) => {
          if ((error as { code?: unknown }).code === NO_RIGHT) {
            done.push(
              `query store: its housekeeping is not done: ${messageOf(error)}. There: grant outbox_relayer to its user`,
            );
            return;
          }
          // Away: its next turn is in minutes, and others tell that it is away.
          if (!isOutage(error instanceof QueryStoreError ? error.cause : error)) throw error;
        })
        .finally(() => {
          maintains = false;
        });
      return done;
    },
  };
}

async function owns(database: Database): Promise<boolean> {
  const { owns } = await database.row<{ owns: boolean }>(
    "select pg_has_role(nspowner, 'usage') as owns from pg_namespace where nspname = 'outbox'",
  );
  return owns;
}
