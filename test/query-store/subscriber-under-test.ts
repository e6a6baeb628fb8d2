import { cp, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { calculateHash } from "graphile-migrate/dist/hash.js";
import { beforeAll } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { readMigrationSettings } from "../../src/db/migration-settings.ts";
import { parseQueryStoreWords, runQueryStore } from "../../src/query-store/command.ts";
import { PRIMARY, SUBSCRIBER } from "../support/logical-replication.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";
import { init, useAsking } from "./stores-under-test.ts";

/** For ever. */
export const KEPT = {
  sentMs: undefined,
  attemptsMs: undefined,
  deadLettersMs: undefined,
  auditMs: undefined,
  eventsMs: undefined,
};
/** The primary has a partition for it, from the start. */
export const OLD_DAY = "2020-01-01";

/** A primary and a logical subscriber of it, each on a server of the test file's own and of an owner who is no superuser. */
export function useSubscriber() {
  const primaryServer = usePrivatePostgres(PRIMARY);
  const storeServer = usePrivatePostgres(SUBSCRIBER);
  const { rows, value, caughtUp } = useAsking();
  let primary: string;
  let store: string;

  const onPrimary = (text: string, values?: readonly unknown[]) => rows(primary, text, values);
  const inStore = (text: string, values?: readonly unknown[]) => rows(store, text, values);
  const synced = () => caughtUp(primary, store);

  /** All rows of a table, as text. */
  const all = async (url: string, table: string) =>
    (await rows(url, `select ${table}::text as row from outbox.${table} order by 1`)).map(({ row }) => row);

  const where = async (url: string, id: number) =>
    (await rows(url, "select status from outbox.all_messages where id = $1", [id])).map(
      ({ status }) => status,
    );

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
    const claimed = await onPrimary(
      "select id, attempt from outbox.claim($1, 'default', 1000, as_of => $2)",
      [relayer, as_of],
    );
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

  return {
    primaryServer,
    storeServer,
    rows,
    value,
    caughtUp,
    onPrimary,
    inStore,
    synced,
    all,
    where,
    insert,
    attempt,
    send,
    reject,
    command,
    /** The two databases' URLs, once the tests run. */
    urls: () => ({ primary, store }),
  };
}

/** The project's migrations and one more: a folder, for the caller to remove. */
export async function nextMigration(text: string): Promise<string> {
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
