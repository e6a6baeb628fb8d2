import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished } from "vitest";
import { wireTypes } from "../../src/db/wire-types.ts";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { useDatabase } from "../support/database.ts";

/** What a query runs on: the file's pool, or a session that a test keeps a transaction open in. */
export type On = pg.Pool | pg.Client;

// biome-ignore lint/suspicious/noExplicitAny: what a row holds depends on the query beside it
export type Row = Record<string, any>;

export interface Claimed {
  readonly id: number;
  readonly attempt: number;
  readonly recipient: string;
  readonly content: string;
  readonly expires_in_ms: number | null;
  readonly traceparent: string | null;
  readonly claimed_at: string;
  readonly revision: number;
}

export interface Shown {
  readonly id: number;
  readonly attempt?: number;
  readonly outcome?: OutcomeKind;
  readonly http_status?: number | null;
  readonly gateway_message_id?: string | null;
  readonly error?: string | null;
  readonly duration_ms?: number | null;
  readonly retry_after_ms?: number | null;
  /** Null is not compared. */
  readonly claimed_at?: string | null;
}

export interface Settled {
  readonly settled_at: string;
  readonly sent: number;
  readonly stale: number[];
  readonly dead: number[];
  readonly dead_reasons: string[];
  readonly held: string[];
}

export interface When {
  readonly as_of?: string | undefined;
  readonly on?: On;
}

/** A day without partitions of its own, so that no test depends on the day it runs. */
const NOON = Date.parse("2030-06-01T12:00:00Z");

/** A time in the tests' calendar: so many milliseconds after their noon. */
export const noon = (afterMs = 0): string => new Date(NOON + afterMs).toISOString();

/** A time by the real clock: so many milliseconds from now. */
export const fromNow = (ms: number): string => new Date(Date.now() + ms).toISOString();

/** Milliseconds between two timestamps as Postgres gave them. */
export const between = (from: string, to: string): number => Date.parse(to) - Date.parse(from);

/** The file's database, as it was after the migration at the start of each of its tests. */
export function useOutbox() {
  const database = useDatabase();
  let pool: pg.Pool;

  beforeAll(() => {
    pool = new pg.Pool({ connectionString: database.url, types: wireTypes });
    pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
  });
  beforeEach(async () => {
    await pool.query(FRESH);
  });
  afterAll(() => {
    void pool.end();
  });

  async function rows(text: string, values: readonly unknown[] = [], on: On = pool): Promise<Row[]> {
    return (await on.query<Row>(text, [...values])).rows;
  }

  /** The one row of an answer. */
  async function row(text: string, values: readonly unknown[] = [], on: On = pool): Promise<Row> {
    const [first, ...rest] = await rows(text, values, on);
    if (first === undefined || rest.length > 0) throw new Error(`not one row: ${text}`);
    return first;
  }

  /** The one value of an answer. */
  // biome-ignore lint/suspicious/noExplicitAny: what a value is depends on the query beside it
  async function value(text: string, values: readonly unknown[] = [], on: On = pool): Promise<any> {
    return Object.values(await row(text, values, on))[0];
  }

  /** A session of the test's own, in the file's database unless another is named. */
  async function session(name?: string): Promise<pg.Client> {
    const url = new URL(database.url);
    if (name !== undefined) url.pathname = name;
    const client = new pg.Client({ connectionString: url.href, types: wireTypes });
    client.on("error", () => {});
    await client.connect();
    onTestFinished(() => client.end());
    return client;
  }

  /** A user who is a member of one of our roles, or "nobody": the name, and a session. Both are gone after the test. */
  async function login(role: string): Promise<{ name: string; client: pg.Client }> {
    const name = `login_${role}_${await value("select current_database()")}`;
    await pool.query(
      `create role ${name} login password 'secret' ${role === "nobody" ? "" : `in role ${role}`}`,
    );
    const url = new URL(database.url);
    url.username = name;
    url.password = "secret";
    const client = new pg.Client({ connectionString: url.href, types: wireTypes });
    client.on("error", () => {});
    await client.connect();
    onTestFinished(async () => {
      await client.end();
      await pool.query(`drop owned by ${name}; drop role ${name}`);
    });
    return { name, client };
  }

  /** A plain INSERT, with the columns named and defaults for the two that have to be there. */
  async function insert(columns: Row = {}, on: On = pool): Promise<number> {
    const all: Row = { recipient: "+905551234567", content: "hi", ...columns };
    const names = Object.keys(all);
    return await value(
      `insert into outbox.messages (${names.join(", ")})
       values (${names.map((_, i) => `$${i + 1}`).join(", ")}) returning id`,
      Object.values(all),
      on,
    );
  }

  async function insertMany(count: number, columns: Row = {}): Promise<number[]> {
    const ids: number[] = [];
    for (let n = 0; n < count; n++) ids.push(await insert(columns));
    return ids;
  }

  async function enqueue(named: Row = {}, on: On = pool): Promise<number> {
    const all: Row = { recipient: "+905551234567", content: "hi", ...named };
    const args = Object.keys(all).map((name, i) => `${name} => $${i + 1}`);
    return await value(`select outbox.enqueue(${args.join(", ")})`, Object.values(all), on);
  }

  /** A registered relayer: its number, and the session that proves it alive. */
  async function register(name = "test"): Promise<{ id: number; client: pg.Client }> {
    const client = await session();
    return { id: await value("select outbox.register_relayer($1, '1.0')", [name], client), client };
  }

  async function claim(
    relayer: number,
    batch = 100,
    { gateway = "default", as_of, on = pool }: When & { gateway?: string } = {},
  ): Promise<Claimed[]> {
    return (await rows(
      "select * from outbox.claim($1, $2, $3, coalesce($4, clock_timestamp()))",
      [relayer, gateway, batch, as_of],
      on,
    )) as Claimed[];
  }

  async function settle(
    relayer: number,
    shown: readonly Shown[],
    { as_of, on = pool, moot = [] }: When & { moot?: readonly number[] } = {},
  ): Promise<Settled> {
    const column = (pick: (one: Shown) => unknown) => shown.map(pick);
    return (await row(
      "select * from outbox.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, moot => $11, as_of => $12)",
      [
        relayer,
        column(({ id }) => id),
        column(({ attempt = 1 }) => attempt),
        column(({ outcome = "accepted" }) => outcome),
        column(({ http_status = null }) => http_status),
        column(
          ({ id, outcome = "accepted", gateway_message_id = outcome === "accepted" ? `gw-${id}` : null }) =>
            gateway_message_id,
        ),
        column(({ error = null }) => error),
        column(({ duration_ms = 7 }) => duration_ms),
        column(({ retry_after_ms = null }) => retry_after_ms),
        column(({ claimed_at = null }) => claimed_at),
        moot,
        as_of ?? null,
      ],
      on,
    )) as Settled;
  }

  /** The tables in which a message stands: one, unless something is very wrong. */
  async function places(id: number): Promise<string[]> {
    return (
      await rows(
        `select 'messages' as place from outbox.messages where id = $1
         union all select 'sent' from outbox.sent where id = $1
         union all select 'dead_letters' from outbox.dead_letters where id = $1`,
        [id],
      )
    ).map(({ place }) => place);
  }

  const message = (id: number) => row("select * from outbox.messages where id = $1", [id]);
  const dead = (id: number) => row("select * from outbox.dead_letters where id = $1", [id]);
  const attempts = (id: number) =>
    rows("select * from outbox.attempts where message_id = $1 order by ended_at", [id]);
  const gateway = (name = "default") => row("select * from outbox.gateways where name = $1", [name]);

  async function addGateway(name: string, columns: Row = {}): Promise<void> {
    const names = ["name", ...Object.keys(columns)];
    await pool.query(
      `insert into outbox.gateways (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")})`,
      [name, ...Object.values(columns)],
    );
  }

  /** Resolves when the session waits for a lock that another one holds. */
  async function blocked(client: pg.Client): Promise<void> {
    const { processID } = client as unknown as { processID: number };
    await expect
      .poll(() => value("select cardinality(pg_blocking_pids($1))", [processID]), {
        interval: 5,
        timeout: 20_000,
      })
      .toBeGreaterThan(0);
  }

  return {
    get pool() {
      return pool;
    },
    get url() {
      return database.url;
    },
    rows,
    row,
    value,
    session,
    login,
    insert,
    insertMany,
    enqueue,
    register,
    claim,
    settle,
    places,
    message,
    dead,
    attempts,
    gateway,
    addGateway,
    blocked,
  };
}

/** The error of a query that has to fail; node-postgres puts what Postgres says of it on the error. */
export async function failure(work: Promise<unknown>): Promise<pg.DatabaseError> {
  return await work.then(
    () => expect.fail("it succeeded"),
    (error: pg.DatabaseError) => error,
  );
}

/** The code and the constraint of the error. */
export async function refusal(work: Promise<unknown>): Promise<string> {
  const { code, constraint } = await failure(work);
  return `${code} ${constraint}`;
}

const FRESH = `
  delete from outbox.messages;
  delete from outbox.sent;
  delete from outbox.dead_letters;
  delete from outbox.replays;
  delete from outbox.attempts;
  delete from outbox.minutes;
  delete from outbox.dedupe_keys;
  delete from outbox.idempotency_keys;
  delete from outbox.relayers;
  delete from outbox.audit;
  delete from outbox.alerts;
  delete from outbox.watchers;
  delete from outbox.gateways where name <> 'default';
  update outbox.gateways set
    url = default, concurrency = default, timeout = default, max_attempts = default, base_delay = default,
    max_delay = default, jitter = default, on_unknown = default, hold_for = default, weights = default,
    keep_attempts = default, dedupe_window = default, paused = default, held_until = default,
    hold_reason = default, hold_detail = default, rate_per_second = default, burst = default,
    circuit_failures = default, circuit_ratio = default, circuit_window = default, circuit_pause = default,
    circuit_max_pause = default, circuit_probes = default, tokens = default, tokens_at = default, circuit = default,
    proved_at = default, circuit_changed_at = default, circuit_pauses = default, run_of_failures = default, window_started_at = default,
    window_passed = default, window_failed = default, probes = default;
  update outbox.scheduler set running = default, last_tick = default;
  select setval('outbox.awake_until', 0);
  delete from outbox.events;`;
