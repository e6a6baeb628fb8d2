import pg from "pg";
import { describe, expect, test } from "vitest";
import { failure, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { login, row, rows, value } = outbox;

const ROLES = ["outbox_producer", "outbox_auditor", "outbox_operator", "outbox_relayer"] as const;
const NO_RIGHT = "42501";

/** What became of a statement that was tried and undone: its SQLSTATE, "00000" if nothing was wrong. */
async function attempt(client: pg.Client, statement: string): Promise<string> {
  await client.query("begin");
  try {
    await client.query(statement);
    return "00000";
  } catch (error) {
    return (error as pg.DatabaseError).code ?? "?";
  } finally {
    await client.query("rollback");
  }
}

describe("who may call what", () => {
  /** Of each function: the roles that may call it. One that is new stands nowhere, until somebody decides. */
  const CALLS: Readonly<Record<string, readonly string[]>> = {
    admit: [],
    amend: [],
    beat: ["outbox_relayer"],
    broken_rules: [],
    bucket_size: [],
    bury: [],
    cancel: ["outbox_operator", "outbox_relayer"],
    cancel_replay: ["outbox_operator", "outbox_relayer"],
    changes: [],
    claim: ["outbox_relayer"],
    close_minutes: ["outbox_relayer"],
    configure_gateway: ["outbox_relayer"],
    count_due: [],
    create_search_indexes: [],
    current_traceparent: [],
    discreet: [],
    disown: ["outbox_relayer"],
    drop_partitions: [],
    edit: ["outbox_operator", "outbox_relayer"],
    enqueue: ["outbox_producer", "outbox_relayer"],
    enqueue_batch: ["outbox_producer", "outbox_relayer"],
    enqueue_once: ["outbox_producer", "outbox_relayer"],
    equip_query_store: [],
    event_lock: [],
    events_horizon: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    expire: [],
    explain: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    explain_dead: [],
    explain_missing: [],
    explain_replay: [],
    explain_sending: [],
    explain_sent: [],
    explain_waiting: [],
    find_alerts: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    find_dead_letters: [],
    find_full_slots: [],
    find_stopped: [],
    find_unsent_notices: [],
    find_waiting: [],
    gateway_must_exist: [],
    gateway_obstacles: [],
    grant_roles: [],
    guard_gateway: [],
    heartbeat: ["outbox_relayer"],
    in_words: [],
    is_own_fault: [],
    is_query_store: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    judge_gateway: [],
    keep_deleted: [],
    keep_history: [],
    last_beat: [],
    lingering_session: [],
    lock_key: [],
    lock_message: ["outbox_relayer"],
    maintain: ["outbox_relayer"],
    maintain_query_store: ["outbox_relayer"],
    make_partition: [],
    make_partitions: [],
    make_way: [],
    message_obstacles: [],
    message_timeline: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    next_due: ["outbox_relayer"],
    note_alerts: ["outbox_relayer"],
    note_housekeeping: [],
    notify_relayers: [],
    pause: ["outbox_operator", "outbox_relayer"],
    query_store_state: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    query_store_tables: [],
    queue_ahead: [],
    queue_figures: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    queue_notice: [],
    queue_replays: ["outbox_relayer"],
    rebuild_indexes: [],
    refuse_writes: [],
    register_relayer: ["outbox_relayer"],
    relayer_is_alive: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    release: ["outbox_relayer"],
    remember_key: [],
    replay: ["outbox_operator", "outbox_relayer"],
    replay_candidates: [],
    replay_room: [],
    replay_slice: ["outbox_relayer"],
    replay_where: ["outbox_operator", "outbox_relayer"],
    replays_of: [],
    report_deaths: [],
    report_gateway: [],
    report_switch: [],
    rescue: ["outbox_relayer"],
    resume: ["outbox_operator", "outbox_relayer"],
    retry_delay: [],
    revive: [],
    search_vector: ["outbox_producer", "outbox_auditor", "outbox_operator", "outbox_relayer"],
    sent_horizon: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    server_figures: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    settle: ["outbox_relayer"],
    settle_lock: [],
    stay_awake: ["outbox_relayer"],
    table_figures: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    take_tick: ["outbox_relayer"],
    tally: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    tally_minute: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    toggle: ["outbox_operator", "outbox_relayer"],
    tokens: ["outbox_auditor", "outbox_operator", "outbox_relayer"],
    unlock_jobs: [],
    unregister_relayer: ["outbox_relayer"],
    utc: [],
    watch: ["outbox_relayer"],
    wrong_state: [],
  };

  /** A call of each function, with a null for each parameter; `on` has an empty search_path, so that all names are whole. */
  const calls = (on: pg.Client) =>
    rows(
      `select
         proname as name,
         format(
           'select %s(%s)',
           oid::regproc,
           (
             select string_agg('null::' || argument::regtype, ', ' order by nth)
             from unnest(proargtypes::oid[]) with ordinality as parameter (argument, nth)
           )
         ) as call
       from pg_proc
       where pronamespace = 'outbox'::regnamespace
       order by proname`,
      [],
      on,
    );

  test.each([...ROLES, "nobody"])("%s, tried", async (role) => {
    const { client } = await login(role);
    await client.query("set search_path = ''");
    const expected = Object.keys(CALLS).map((name) => [name, CALLS[name]?.includes(role)]);
    const tried: unknown[] = [];
    for (const { name, call } of await calls(client)) {
      const code = await attempt(client, call);
      expect(code, call).not.toMatch(/^42(601|846|883)/); // then it was none
      tried.push([name, code !== NO_RIGHT]);
    }
    expect(tried).toEqual(expected);
  });

  test("as the owner: what a role may call, and triggers. Nothing else does", async () => {
    const asOwner = await rows(
      "select proname from pg_proc where pronamespace = 'outbox'::regnamespace and prosecdef order by 1",
    );
    // search_vector() reads nothing but its arguments; so, Postgres can have it for an index.
    const called = Object.keys(CALLS).filter(
      (name) => (CALLS[name]?.length ?? 0) > 0 && name !== "search_vector",
    );
    expect(asOwner.map(({ proname }) => proname)).toEqual(
      [
        ...called,
        "admit",
        "guard_gateway",
        "notify_relayers",
        "report_deaths",
        "report_gateway",
        "report_switch",
      ].sort(),
    );
  });
});

describe("who may do what to which table", () => {
  const OF_A_MESSAGE = [
    "gateway",
    "priority",
    "recipient",
    "content",
    "metadata",
    "dedupe_key",
    "available_at",
    "expires_at",
    "traceparent",
  ];
  const OF_A_GATEWAY = [
    "url",
    "concurrency",
    "timeout",
    "max_attempts",
    "base_delay",
    "max_delay",
    "jitter",
    "on_unknown",
    "hold_for",
    "weights",
    "keep_attempts",
    "dedupe_window",
    "rate_per_second",
    "burst",
    "circuit_failures",
    "circuit_ratio",
    "circuit_window",
    "circuit_pause",
    "circuit_max_pause",
    "circuit_probes",
  ];

  interface May {
    /** The columns, or all. */
    readonly select?: "all" | readonly string[];
    readonly insert?: readonly string[];
    readonly update?: readonly string[];
    readonly delete?: true;
  }
  const READ: May = { select: "all" };
  const READERS = { outbox_auditor: READ, outbox_operator: READ, outbox_relayer: READ };
  const SETTINGS: May = {
    ...READ,
    insert: ["name", ...OF_A_GATEWAY],
    update: OF_A_GATEWAY,
    delete: true,
  };

  /** Of each table and view: what each role may. One that is new stands nowhere, until somebody decides. */
  const TABLES: Readonly<Record<string, Readonly<Record<string, May>>>> = {
    alerts: READERS,
    all_messages: READERS,
    attempts: READERS,
    audit: READERS,
    backlog: READERS,
    cursor_keys: { outbox_relayer: READ },
    dead_letters: READERS,
    dedupe_keys: READERS,
    events: READERS,
    failures: READERS,
    gateway_status: READERS,
    gateways: { ...READERS, outbox_operator: SETTINGS, outbox_relayer: SETTINGS },
    health: READERS,
    housekeeping: READERS,
    idempotency_keys: READERS,
    in_flight: READERS,
    messages: {
      ...READERS,
      outbox_producer: { insert: OF_A_MESSAGE },
      outbox_relayer: { ...READ, insert: OF_A_MESSAGE },
    },
    minutes: READERS,
    open_alerts: READERS,
    query_store: READERS,
    query_store_beats: READERS,
    relayer_status: READERS,
    relayers: READERS,
    replays: READERS,
    replication_slots: READERS,
    scheduler: READERS,
    sent: READERS,
    snapshots: READERS,
    throughput: READERS,
    watchers: READERS,
  };

  /** Each column, and what an UPDATE may set it to. */
  const columnsOf = (table: string) =>
    rows(
      `select attname as column, case attidentity when 'a' then 'default' else 'null' end as value
       from pg_attribute
       where attrelid = $1::regclass and attnum > 0 and not attisdropped`,
      [`outbox.${table}`],
    );

  /** What is left when each statement has been tried: all, some, or nothing. */
  async function tried(client: pg.Client, table: string): Promise<May> {
    const columns = await columnsOf(table);
    const allowed = async (statement: (column: string, value: string) => string) => {
      const may: string[] = [];
      for (const { column, value } of columns) {
        const code = await attempt(client, statement(`"${column}"`, value));
        // A view is refused for what it is.
        expect(["00000", NO_RIGHT, "55000"], `${code} ${statement(column, value)}`).toContain(code);
        if (code === "00000") may.push(column);
      }
      return may;
    };
    const into = `insert into outbox.${table}`;
    const select = await allowed((column) => `select ${column} from outbox.${table} limit 0`);
    const insert = await allowed(
      (column) => `${into} (${column}) overriding system value select null from generate_series(1, 0)`,
    );
    const update = await allowed(
      (column, value) => `update outbox.${table} set ${column} = ${value} where false`,
    );
    const deleted = await attempt(client, `delete from outbox.${table} where false`);
    return {
      ...(select.length > 0 && { select: select.length === columns.length ? "all" : select }),
      ...(insert.length > 0 && { insert }),
      ...(update.length > 0 && { update }),
      ...(deleted === "00000" && { delete: true }),
    };
  }

  const sorted = (may: May): May => ({
    ...may,
    ...(may.insert && { insert: [...may.insert].sort() }),
    ...(may.update && { update: [...may.update].sort() }),
  });

  test("each table and view of the schema stands in the list", async () => {
    const there = await rows(
      "select relname from pg_class where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and not relispartition order by 1",
    );
    expect(there.map(({ relname }) => relname)).toEqual(Object.keys(TABLES));
  });

  test.each([...ROLES, "nobody"])("%s, tried", async (role) => {
    const { client } = await login(role);
    for (const [table, may] of Object.entries(TABLES)) {
      expect(sorted(await tried(client, table)), table).toEqual(sorted(may[role] ?? {}));
    }
  });

  test("a partition is read and written through its table alone; nobody creates, truncates or grants", async () => {
    await outbox.pool.query("select outbox.maintain()");
    const other = await rows(`
      select relname, privilege_type, grantee::regrole::text, is_grantable
      from pg_class
      cross join aclexplode(relacl)
      where relnamespace = 'outbox'::regnamespace
        and grantee <> relowner
        and (relispartition or privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE') or is_grantable)
      union all
      select nspname, privilege_type, grantee::regrole::text, is_grantable
      from pg_namespace
      cross join aclexplode(nspacl)
      where nspname ~ '^outbox' and grantee <> nspowner and (privilege_type <> 'USAGE' or is_grantable)`);
    expect(other).toEqual([]);
    const { client } = await login("outbox_auditor");
    expect((await failure(client.query("select from outbox.sent_default"))).code).toBe(NO_RIGHT);
  });

  test.each(["outbox_migrate.migrations", "outbox_worker._private_jobs"])(
    "%s is for the relayers alone",
    async (table) => {
      for (const role of [...ROLES, "nobody"]) {
        const { client } = await login(role);
        const code = await attempt(client, `select from ${table}`);
        expect(code, role).toBe(role === "outbox_relayer" ? "00000" : NO_RIGHT);
      }
    },
  );
});

describe("a producer", () => {
  test("puts messages in by INSERT, by enqueue() and by COPY", async () => {
    const { client } = await login("outbox_producer");
    await client.query(
      `insert into outbox.messages (recipient, content, priority, metadata, dedupe_key, expires_at)
       values ('+905551234567', 'one', 0, '{"a": 1}', 'key', now() + interval '1 hour'), ('+905551234567', 'two', 1, '{}', null, null)`,
    );
    await client.query("insert into outbox.messages (recipient, content) select '+905551234567', 'three'");
    const enqueued = await client.query(
      "select outbox.enqueue('+905551234567', 'four', dedupe_key => 'other') as id",
    );
    const again = await client.query(
      "select outbox.enqueue('+905551234567', 'four', dedupe_key => 'other') as id",
    );
    expect(again.rows).toEqual(enqueued.rows);

    const copy = new pg.Query("copy outbox.messages (recipient, content) from stdin");
    Object.assign(copy, {
      handleCopyInResponse(connection: {
        sendCopyFromChunk: (chunk: Buffer) => void;
        endCopyFrom: () => void;
      }) {
        connection.sendCopyFromChunk(Buffer.from("+905551234567\tfive\n+905551234567\tsix\n"));
        connection.endCopyFrom();
      },
    });
    client.query(copy);
    await new Promise((resolve, reject) => copy.once("end", resolve).once("error", reject));

    const contents = await rows("select content from outbox.messages order by id");
    expect(contents.map(({ content }) => content)).toEqual(["one", "two", "three", "four", "five", "six"]);
  });

  test("is refused what the rules refuse, by their names", async () => {
    const { client } = await login("outbox_producer");
    const insert = (columns: string, values: string) =>
      refusal(client.query(`insert into outbox.messages (${columns}) values (${values})`));
    expect(await insert("recipient, content", "'5551234567', 'hi'")).toBe("23514 recipient_not_e164");
    expect(await insert("recipient, content, gateway", "'+905551234567', 'hi', 'nope'")).toBe(
      "OB001 unknown_gateway",
    );
    await client.query("select outbox.enqueue('+905551234567', 'hi', dedupe_key => 'key')");
    expect(await insert("recipient, content, dedupe_key", "'+905551234567', 'hi', 'key'")).toBe(
      "23505 dedupe_key_seen_before",
    );
    expect(await refusal(client.query("select outbox.enqueue('5551234567', 'hi')"))).toBe(
      "23514 recipient_not_e164",
    );
  });

  test("reads nothing back, claims nothing, and names no id", async () => {
    const { client } = await login("outbox_producer");
    for (const statement of [
      "select recipient from outbox.messages",
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi') returning id",
      "insert into outbox.messages (recipient, content, attempts) values ('+905551234567', 'hi', 1)",
      "insert into outbox.messages (id, recipient, content) overriding system value values (1, '+905551234567', 'hi')",
      "select * from outbox.all_messages",
      "select * from outbox.health",
      "select nextval('outbox.messages_id_seq')",
      "select outbox.remember_key('k', 1, 'default')",
      "create table outbox.mine ()",
    ])
      expect((await failure(client.query(statement))).code, statement).toBe(NO_RIGHT);
  });

  test("is not led astray by temporary tables of its own", async () => {
    const { client } = await login("outbox_producer");
    await client.query(`
      set search_path = pg_temp;
      create temp table messages (id int);
      create temp table gateways (name text);
      create temp table dedupe_keys (dedupe_key text)`);
    await client.query("select outbox.enqueue('+905551234567', 'hi', dedupe_key => 'key')");
    await client.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");
    expect(await value("select count(*)::int from outbox.messages")).toBe(2);
  });
});

describe("an auditor", () => {
  test("reads every table and view, whole, but the key that signs cursors", async () => {
    await outbox.register();
    await outbox.addGateway("rated", { rate_per_second: 10 });
    await outbox.insert({ gateway: "rated" });
    const { client } = await login("outbox_auditor");
    const there = await rows(
      "select relname from pg_class where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition and relname <> 'cursor_keys'",
    );
    for (const { relname } of there) await client.query(`select * from outbox.${relname}`);
    expect((await client.query("select relayers_alive, due from outbox.health")).rows).toEqual([
      { relayers_alive: 1, due: 1 },
    ]);
    expect(
      (await client.query("select tokens from outbox.gateway_status where gateway = 'rated'")).rows,
    ).toEqual([{ tokens: 10 }]);
    expect((await client.query("select outbox.sent_horizon() <= clock_timestamp() as ok")).rows).toEqual([
      { ok: true },
    ]);
  });

  test("stops and changes nothing", async () => {
    const { client } = await login("outbox_auditor");
    for (const statement of [
      "select outbox.pause()",
      "update outbox.gateways set max_attempts = 1",
      "select from outbox.messages for update",
      "delete from outbox.audit",
    ])
      expect((await failure(client.query(statement))).code, statement).toBe(NO_RIGHT);
  });
});

describe("an operator", () => {
  async function operator() {
    const it = await login("outbox_operator");
    return { ...it, ask: (text: string, values: unknown[] = []) => row(text, values, it.client) };
  }

  test("pauses, cancels, edits and replays, and is on record by name", async () => {
    const { name, ask } = await operator();
    const id = await outbox.insert();
    expect(await ask("select outbox.pause() as did")).toEqual({ did: true });
    expect(await ask("select outbox.resume() as did")).toEqual({ did: true });
    expect(await ask("select outbox.toggle() as runs")).toEqual({ runs: false });
    expect(await ask("select outbox.toggle(actor => 'ayşe') as runs")).toEqual({ runs: true });
    expect(await ask("select outbox.edit($1, content => 'new') as did", [id])).toEqual({ did: true });
    await ask("select outbox.cancel($1)", [id]);
    await ask("select outbox.replay($1)", [id]);
    await ask("select outbox.cancel($1)", [id]);
    expect(await ask("select * from outbox.replay_where(dry_run => false)")).toMatchObject({ replayed: 1 });
    const replay = await value(
      "insert into outbox.replays (actor, until, matched) values ('x', now(), 0) returning id",
    );
    await ask("select outbox.cancel_replay($1)", [replay]);

    const audit = await rows("select actor, db_role, action from outbox.audit order by id");
    expect(audit.map(({ db_role }) => db_role)).toEqual(audit.map(() => name));
    expect(audit.map(({ actor, action }) => `${actor} ${action}`)).toEqual(
      [
        [name, "pause"],
        [name, "resume"],
        [name, "pause"],
        ["ayşe", "resume"],
        [name, "edit"],
        [name, "cancel"],
        [name, "replay"],
        [name, "cancel"],
        [name, "replay_where"],
        [name, "cancel_replay"],
      ].map((words) => words.join(" ")),
    );
    expect(await value("select changed_by from outbox.scheduler")).toBe("ayşe");
  });

  test("is on record by name under SET ROLE, too", async () => {
    const { name, client } = await operator();
    await client.query("set role outbox_operator; select outbox.pause()");
    expect(await row("select actor, db_role from outbox.audit")).toEqual({ actor: name, db_role: name });
  });

  test("has a replay of many queued for the relayers", async () => {
    const { ask } = await operator();
    await outbox.pool.query("delete from outbox_worker._private_jobs");
    await outbox.pool.query(
      `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
       select nextval('outbox.messages_id_seq'), 'default', 1, '+905551234567', 'hi', '{}', now(), 5, now(), now(), 'exhausted'
       from generate_series(1, 1001)`,
    );
    const { replay_id } = await ask("select * from outbox.replay_where(dry_run => false)");
    expect(await rows("select key from outbox_worker.jobs")).toEqual([{ key: `replay-${replay_id}` }]);
  });

  test("sets what is a gateway's setting, and none of its state", async () => {
    const { client } = await operator();
    await client.query("update outbox.gateways set max_attempts = 8 where name = 'default'");
    await client.query(
      "insert into outbox.gateways (name, url) values ('bulk', 'https://sms.example.com/bulk')",
    );
    await client.query("delete from outbox.gateways where name = 'bulk'");
    expect(await refusal(client.query("delete from outbox.gateways where name = 'default'"))).toBe(
      "OB003 undefined",
    );
    for (const column of ["paused", "held_until", "circuit", "tokens", "name"])
      expect(
        (await failure(client.query(`update outbox.gateways set ${column} = default`))).code,
        column,
      ).toBe(NO_RIGHT);
    expect(await outbox.gateway()).toMatchObject({ max_attempts: 8 });
  });

  test.each(ROLES)("never goes round the functions; nor does %s", async (role) => {
    const { client } = await login(role);
    for (const statement of [
      "update outbox.messages set content = 'x'",
      "delete from outbox.messages",
      "update outbox.scheduler set running = false",
      "update outbox.sent set recipient = 'x'",
      "delete from outbox.dead_letters",
      "insert into outbox.audit (actor, action) values ('somebody else', 'pause')",
      "delete from outbox.audit",
      "truncate outbox.messages",
      "alter table outbox.messages disable trigger all",
      "select outbox.bury('{1}', '{cancelled}', '{null}', '{null}')",
      "select outbox.grant_roles()",
    ])
      expect((await failure(client.query(statement))).code, statement).toBe(NO_RIGHT);
  });
});
