import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { as, OPERATORS_KEYS } from "./operators-keys.ts";

type Gateway = Record<string, unknown>;

const GATEWAYS = "/api/v1/gateways";
const database = useDatabase();
let pool: pg.Pool;
let api: ApiUnderTest;
let guarded: ApiUnderTest;

beforeAll(() => {
  pool = poolFor(database.url);
  api = apiUnderTest(pool);
  guarded = apiUnderTest(pool, { keys: OPERATORS_KEYS });
});
beforeEach(() =>
  pool.query(`
    truncate outbox.messages;
    delete from outbox.gateways where name <> 'default';
    select outbox.resume('default');
    truncate outbox.audit;
    insert into outbox.gateways (name, url, rate_per_second, burst)
    values ('bulk', 'https://sms.example.com/bulk?token=s3cret', 0.5, 7)`),
);
afterAll(() => pool.end());

const post = (path: string, init: RequestInit = {}, of = api) =>
  of.request(`${GATEWAYS}/${path}`, { ...init, method: "POST" });
const get = (name: string, init: RequestInit = {}, of = api) => of.json<Gateway>(`${GATEWAYS}/${name}`, init);

const hold = (name: string, until: string, reason: string) =>
  pool.query(
    `update outbox.gateways set held_until = $2, hold_reason = $3, hold_detail = 'HTTP 429 for +905551234567',
       circuit = case when $3 = 'circuit_open' then 'open' else 'closed' end
     where name = $1`,
    [name, until, reason],
  );

test("a gateway is its state, what waits for it, and what is set for it", async () => {
  await pool.query(`
    insert into outbox.messages (recipient, content, gateway, available_at)
    select '+905551234567', 'hi', 'bulk', now() + delay
    from unnest('{-90 s, -1 s, 1 h}'::interval[]) as delay`);
  const gateway = await get("bulk");
  expect(gateway).toEqual({
    name: "bulk",
    state: "relaying",
    paused: false,
    held_until: null,
    hold_reason: null,
    hold_detail: null,
    circuit: "closed",
    circuit_changed_at: null,
    run_of_failures: 0,
    due: 2,
    scheduled: 1,
    in_flight: 0,
    oldest_due_age_ms: expect.any(Number),
    tokens: 7,
    url: "https://sms.example.com/bulk",
    concurrency: 64,
    timeout_ms: 10_000,
    max_attempts: 5,
    base_delay_ms: 1_000,
    max_delay_ms: 600_000,
    jitter: 0.2,
    rate_per_second: 0.5,
    burst: 7,
    hold_for_ms: 300_000,
    on_unknown: "retry",
    circuit_failures: 5,
    circuit_ratio: 0.5,
    circuit_window_ms: 30_000,
    circuit_pause_ms: 2_000,
    circuit_max_pause_ms: 60_000,
    circuit_probes: 3,
    weights: [16, 4, 1],
    keep_attempts: "failed",
    dedupe_window_ms: 86_400_000,
  });
  expect(gateway.oldest_due_age_ms).toBeGreaterThanOrEqual(90_000);
  expect(gateway.oldest_due_age_ms).toBeLessThan(120_000);
});

test("what is not set is null", async () => {
  expect(await get("default")).toMatchObject({
    url: null,
    tokens: null,
    rate_per_second: null,
    burst: null,
    oldest_due_age_ms: null,
    due: 0,
  });
});

test("the list has all of them, by name, each as it is found by its name", async () => {
  const { gateways } = await api.json<{ gateways: Gateway[] }>(GATEWAYS);
  expect(gateways).toEqual([await get("bulk"), await get("default")]);
});

describe("its state", () => {
  test.each([
    ["throttled", "throttled"],
    ["hold", "hold"],
    ["circuit_open", "circuit_open"],
  ])("while it is held: %s", async (reason, state) => {
    await hold("bulk", "2999-01-01T00:00:00Z", reason);
    expect(await get("bulk")).toMatchObject({
      state,
      held_until: "2999-01-01T00:00:00.000000Z",
      hold_reason: reason,
    });
  });

  test("when the circuit is open and its time has come: probe_due", async () => {
    await hold("bulk", "2020-01-01T00:00:00Z", "circuit_open");
    expect(await get("bulk")).toMatchObject({ state: "probe_due", held_until: null, circuit: "open" });
  });

  test("held for ever by a person: without an end", async () => {
    await hold("bulk", "infinity", "hold");
    expect(await get("bulk")).toMatchObject({ state: "hold", held_until: null });
  });

  test("names the number in the answer only with read_pii", async () => {
    await hold("bulk", "2999-01-01T00:00:00Z", "throttled");
    const details = async (key: string) => [
      (await get("bulk", as(key), guarded)).hold_detail,
      (await guarded.json<{ gateways: Gateway[] }>(GATEWAYS, as(key))).gateways[0]?.hold_detail,
    ];
    expect(await details("reader")).toEqual(Array(2).fill("HTTP 429"));
    expect(await details("lead")).toEqual(Array(2).fill("HTTP 429 for +905551234567"));
    const paused = (await (await post("bulk/pause", as("operator"), guarded)).json()) as Gateway;
    expect(paused.hold_detail).toBe("HTTP 429");
  });
});

describe("pause and resume", () => {
  test("answer what it then is, may be repeated, and leave the others alone", async () => {
    for (const change of ["pause", "pause"]) {
      const answer = await post(`bulk/${change}`);
      expect(answer.status).toBe(200);
      expect(await answer.json()).toMatchObject({ name: "bulk", state: "paused", paused: true });
    }
    expect(await get("bulk")).toMatchObject({ state: "paused" });
    expect(await get("default")).toMatchObject({ state: "relaying" });
    for (const change of ["resume", "resume"])
      expect(await (await post(`bulk/${change}`)).json()).toMatchObject({ state: "relaying", paused: false });
    expect(await get("bulk")).toMatchObject({ state: "relaying" });
  });

  test("a resume ends a hold and closes the circuit, too", async () => {
    await hold("bulk", "2999-01-01T00:00:00Z", "circuit_open");
    expect(await (await post("bulk/resume")).json()).toMatchObject({
      state: "relaying",
      held_until: null,
      hold_reason: null,
      hold_detail: null,
      circuit: "closed",
      circuit_changed_at: expect.stringMatching(/\.\d{6}Z$/),
    });
  });

  test("a held gateway that is paused says both", async () => {
    await hold("bulk", "2999-01-01T00:00:00Z", "throttled");
    expect(await (await post("bulk/pause")).json()).toMatchObject({
      state: "paused",
      held_until: "2999-01-01T00:00:00.000000Z",
      hold_reason: "throttled",
    });
  });

  test("are on record under the name of the key", async () => {
    await post("bulk/pause", as("operator"), guarded);
    await post("bulk/resume", as("lead"), guarded);
    const { rows } = await pool.query("select actor, action, target from outbox.audit order by id");
    expect(rows).toEqual([
      { actor: "operator", action: "pause", target: "bulk" },
      { actor: "lead", action: "resume", target: "bulk" },
    ]);
  });

  test("take the scope operate", async () => {
    for (const change of ["pause", "resume"])
      expect((await post(`bulk/${change}`, as("reader"), guarded)).status).toBe(403);
    expect(await get("bulk")).toMatchObject({ state: "relaying" });
  });

  test("that cannot be done in time are not done later", async () => {
    const claiming = await pool.connect();
    try {
      await claiming.query("begin");
      await claiming.query("select pg_advisory_xact_lock_shared(outbox.lock_key('claim'))");
      const answer = await post("bulk/pause");
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({ type: "urn:outbox-relayer:problem:busy" });
      await claiming.query("commit");
      await pool.query("select pg_advisory_xact_lock(outbox.lock_key('claim'))");
      expect(await get("bulk")).toMatchObject({ state: "relaying" });
    } finally {
      claiming.release(true);
    }
  });
});

describe.each([
  ["GET", ""],
  ["POST", "/pause"],
  ["POST", "/resume"],
])("%s /gateways/{name}%s", (method, change) => {
  test("of one that there is none of is 404, and nothing is on record", async () => {
    const answer = await api.request(`${GATEWAYS}/nope${change}`, { method });
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({
      type: "urn:outbox-relayer:problem:unknown-gateway",
      detail: expect.stringContaining('"nope"'),
    });
    expect((await pool.query("select from outbox.audit where target = 'nope'")).rowCount).toBe(0);
  });

  test.each(["Bulk", "-", "a%2Fb", "%00"])("by the name %s is refused", async (name) => {
    const answer = await api.request(`${GATEWAYS}/${name}${change}`, { method });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ parameter: "name" }] });
  });
});
