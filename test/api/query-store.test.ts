import { expect, onTestFinished, test } from "vitest";
import { storeLag, storePart } from "../../src/program/query-store.ts";
import { eventually } from "../support/eventually.ts";
import { NOBODY, poolFor, READY } from "./api-under-test.ts";
import type { OpenApiDocument } from "./documented-answers.ts";
import { pathsReadInStore } from "./store-reads.ts";
import { type Served, SHORT_LAG_MS, useStandIn } from "./store-under-test.ts";

const standIn = useStandIn();
const LAG = "X-Query-Store-Lag";

/** Where `GET /scheduler` was read. */
async function placeAsked({ request }: Served): Promise<string> {
  const answer = await request("/api/v1/scheduler");
  const { changed_by } = (await answer.json()) as { changed_by?: string };
  const lag = answer.headers.get(LAG);
  if (changed_by === "store") expect(lag).toMatch(/^\d+\.\d{3}$/);
  else expect(lag).toBeNull();
  return changed_by ?? `${answer.status}`;
}

const messages = ({ told }: Served) => told.map(({ level, message }) => `${level}: ${message}`);

test("every GET that the document has is answered by the store, but for the stream of events, to an auditor", async () => {
  await standIn.store.query("create role query_store_reader login password 'secret' in role outbox_auditor");
  onTestFinished(async () => {
    await standIn.store.query("drop role query_store_reader");
  });
  const url = new URL(standIn.storeUrl);
  url.username = "query_store_reader";
  url.password = "secret";
  const served = await standIn.serve({ pool: poolFor(url.href) });
  await served.becomes("usable");
  const { rows } = await standIn.store.query(
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'only here') returning id",
  );
  await standIn.store.query("insert into outbox.replays (actor, until, matched) values ('dba', now(), 1)");

  const document = await served.json<OpenApiDocument>("/api/v1/openapi.json");
  for (const path of pathsReadInStore(document)) {
    const id = path.includes("replays") ? "1" : rows[0].id;
    const answer = await served.request(path.replace("{id}", id).replace("{name}", "default"));
    expect([path, answer.status]).toEqual([path, 200]);
    expect([path, answer.headers.get(LAG)]).toEqual([path, expect.stringMatching(/^\d+\.\d{3}$/)]);
  }
  const message = await served.json<{ content: string }>(`/api/v1/messages/${rows[0].id}`);
  expect(message.content).toBe("only here");
});

test("changes are made on the primary, and the events are heard there", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  const events = await served.request("/api/v1/events", { method: "HEAD" });
  expect([events.status, events.headers.get(LAG)]).toEqual([200, null]);

  const paused = await served.request("/api/v1/scheduler/stop", { method: "POST" });
  onTestFinished(async () => {
    await standIn.primary.query("select outbox.resume()");
    await standIn.primary.query("update outbox.scheduler set changed_by = 'primary'");
  });
  expect(await paused.json()).toMatchObject({ running: false, changed_by: "api" });
  expect([paused.headers.get(LAG), paused.headers.get("X-Outbox-LSN")]).toEqual([
    null,
    expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
  ]);
  const { rows } = await standIn.store.query("select running from outbox.scheduler");
  expect(rows).toEqual([{ running: true }]);
});

test("a store that lags is left alone until it has caught up, and each change is told once", async () => {
  const lags: (number | undefined)[] = [];
  const served = await standIn.serve({ maxLagMs: SHORT_LAG_MS, onLag: (seconds) => lags.push(seconds) });
  await served.becomes("usable");
  expect(await placeAsked(served)).toBe("store");
  standIn.freeze();
  const { lagMs, since } = await served.becomes("lagging");
  expect(lagMs).toBeGreaterThan(SHORT_LAG_MS);
  expect(await placeAsked(served)).toBe("primary");
  // It grows while it stands still, and is still the same lag.
  await eventually(
    async () => served.queryStore.condition(),
    (now) => (now.lagMs ?? 0) > (lagMs ?? 0) + 300,
  );
  expect(served.queryStore.condition().since).toEqual(since);
  expect(await storeLag(served.queryStore)).toEqual({ lagMs: expect.any(Number) });
  expect(Math.max(...lags.map(Number))).toBeGreaterThan(SHORT_LAG_MS / 1_000 / 2);
  standIn.thaw();
  await served.becomes("usable");
  expect(await placeAsked(served)).toBe("store");
  expect(messages(served)).toEqual([
    "info: the query store answers the reads of the API",
    "warn: the query store lags by more than query_store.max_lag, 2000 ms; reads go to the primary",
    "info: the query store answers the reads of the API",
  ]);
});

test("a store that is away is told once, with why, and the primary answers", async () => {
  const pool = poolFor(NOBODY);
  const served = await standIn.serve({ pool });
  expect(await placeAsked(served)).toBe("primary");
  await eventually(
    async () => served.told.length,
    (lines) => lines > 0,
  );
  expect(served.queryStore.condition()).toMatchObject({ state: "away", lagMs: undefined });
  expect(messages(served)).toEqual([
    "warn: the query store is away: connect ECONNREFUSED 127.0.0.1:1; reads go to the primary",
  ]);
  expect(await storeLag(served.queryStore)).toEqual({ away: "connect ECONNREFUSED 127.0.0.1:1" });
  expect(storePart(served.queryStore)).toEqual({
    ok: true,
    detail: expect.stringMatching(/^It does not answer. Since 2\S+Z reads go to the primary.$/),
  });
});

test("a database that is no query store is none, whatever it holds", async () => {
  const primary = await standIn.serve({ pool: standIn.primary });
  await primary.becomes("away");
  expect(await placeAsked(primary)).toBe("primary");
  await eventually(
    async () => messages(primary),
    ([line]) =>
      line?.includes("that database is a primary, neither a standby nor made into a store") ?? false,
  );
});

test("nor is the query store of another outbox", async () => {
  const { rows } = await standIn.store.query("select installation from outbox.scheduler");
  await standIn.store.query("update outbox.scheduler set installation = 'another'");
  onTestFinished(async () => {
    await standIn.store.query("update outbox.scheduler set installation = $1", [rows[0].installation]);
  });
  const served = await standIn.serve();
  await eventually(
    async () => messages(served).length,
    (lines) => lines > 0,
  );
  expect(messages(served)).toEqual([
    "warn: the query store is away: it is the query store of another outbox than that of DATABASE_URL; reads go to the primary",
  ]);
  expect(await placeAsked(served)).toBe("primary");
});

test("where the primary is to be spared, reads are refused while the store cannot answer, and changes are taken", async () => {
  const served = await standIn.serve({ whenAway: "unavailable", maxLagMs: SHORT_LAG_MS });
  await served.becomes("usable");
  expect(await placeAsked(served)).toBe("store");
  standIn.freeze();
  await served.becomes("lagging");
  const refused = await served.request("/api/v1/scheduler");
  expect([refused.status, refused.headers.get("Retry-After")]).toEqual([503, "2"]);
  expect(await refused.json()).toMatchObject({
    type: "urn:outbox-relayer:problem:query-store-unavailable",
    detail: expect.stringMatching(
      /^It is \d+\.\d s behind, which is more than query_store.max_lag. Ask again/,
    ),
  });
  const taken = await served.request("/api/v1/messages", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ recipient: "+905551234567", content: "hi" }),
  });
  expect(taken.status).toBe(201);
  // Said when it began, not for each request.
  expect(served.log.filter(({ level }) => level === "warn")).toEqual([]);
  standIn.thaw();
  await served.becomes("usable");
  expect(await placeAsked(served)).toBe("store");
});

/** Asks for what the store cannot answer as long as it is locked there; then does something to the session that waits. */
async function whileItWaits(
  { request }: Served,
  act: "pg_terminate_backend" | "pg_cancel_backend",
): Promise<Response> {
  const client = await standIn.store.connect();
  await client.query("begin; lock table outbox.scheduler");
  const answer = request("/api/v1/scheduler");
  await eventually(
    async () =>
      standIn.store.query(
        `select ${act}(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and query like 'select running%'`,
      ),
    ({ rowCount }) => (rowCount ?? 0) > 0,
  );
  await client.query("rollback");
  client.release();
  return answer;
}

test("a connection that breaks in the middle of a read is made up for by the primary", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  const answer = await whileItWaits(served, "pg_terminate_backend");
  expect(await answer.json()).toMatchObject({ changed_by: "primary" });
  expect(answer.headers.get(LAG)).toBeNull();
  await served.becomes("usable");
  expect(messages(served)).toEqual([
    "info: the query store answers the reads of the API",
    "warn: the query store is away: terminating connection due to administrator command; reads go to the primary",
    "info: the query store answers the reads of the API",
  ]);
});

test("a store that hangs is waited for once, and then is away until it is found again", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  const client = await standIn.store.connect();
  await client.query("begin; lock table outbox.scheduler, outbox.query_store_beats");
  expect(await placeAsked(served)).toBe("primary");
  expect(served.queryStore.condition().state).toBe("away");
  const started = performance.now();
  expect(await placeAsked(served)).toBe("primary");
  expect(performance.now() - started).toBeLessThan(1_900);
  await client.query("rollback");
  client.release();
  await served.becomes("usable");
  expect(messages(served)).toEqual([
    "info: the query store answers the reads of the API",
    "warn: the query store is away: it does not answer in time; reads go to the primary",
    "info: the query store answers the reads of the API",
  ]);
});

test("where the primary is to be spared, a connection that breaks is a 503", async () => {
  const served = await standIn.serve({ whenAway: "unavailable" });
  await served.becomes("usable");
  const answer = await whileItWaits(served, "pg_terminate_backend");
  expect([answer.status, await answer.json()]).toEqual([
    503,
    expect.objectContaining({ type: "urn:outbox-relayer:problem:query-store-unavailable" }),
  ]);
});

test("what takes too long in the store is not asked of the primary", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  const answer = await whileItWaits(served, "pg_cancel_backend");
  expect([answer.status, await answer.json()]).toEqual([
    503,
    expect.objectContaining({ type: "urn:outbox-relayer:problem:query-too-slow" }),
  ]);
});

test("a store that lacks what this version asks for is made up for, and the log says what", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  await standIn.store.query("alter table outbox.scheduler rename column changed_by to who");
  onTestFinished(async () => {
    await standIn.store.query("alter table outbox.scheduler rename column who to changed_by");
  });
  expect(await placeAsked(served)).toBe("primary");
  expect(served.log).toContainEqual({
    level: "warn",
    fields: expect.objectContaining({
      path: "/api/v1/scheduler",
      err: expect.objectContaining({ message: 'column "changed_by" does not exist' }),
    }),
    message: "the query store could not answer a read",
  });
  expect(served.queryStore.condition().state).toBe("usable");
});

test("what a standby had to give up, because it must go on, is asked of the primary", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  await standIn.store.query("alter function outbox.explain(bigint, timestamptz) rename to explain_well");
  await standIn.store.query(
    `create function outbox.explain(id bigint) returns setof text language plpgsql as $$
     begin
       raise exception using errcode = '40001', message = 'canceling statement due to conflict with recovery';
     end $$`,
  );
  onTestFinished(async () => {
    await standIn.store.query("drop function outbox.explain(bigint)");
    await standIn.store.query("alter function outbox.explain_well(bigint, timestamptz) rename to explain");
  });
  const { rows } = await standIn.primary.query(
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi') returning id",
  );
  const answer = await served.request(`/api/v1/messages/${rows[0].id}/explanation`);
  expect([answer.status, answer.headers.get(LAG)]).toEqual([200, null]);
  expect(served.queryStore.condition().state).toBe("usable");
});

test("while the primary is away the store answers, and its lag stands still", async () => {
  const parts = { ...READY.parts, database: { ok: true } };
  let primary = standIn.primary as Pick<typeof standIn.primary, "query" | "connect">;
  const served = await standIn.serve(
    {
      primary: {
        get query() {
          return primary.query.bind(primary) as typeof standIn.primary.query;
        },
        get connect() {
          return primary.connect.bind(primary) as typeof standIn.primary.connect;
        },
      },
    },
    { ready: () => ({ ready: parts.database.ok, parts }) },
  );
  await served.becomes("usable");
  primary = poolFor(NOBODY);
  parts.database = { ok: false };
  await eventually(
    async () => messages(served),
    (lines) => lines.includes("warn: the query store's lag cannot be measured: no beat was made"),
  );
  const { lagMs } = served.queryStore.condition();
  expect(await placeAsked(served)).toBe("store");
  const change = await served.request("/api/v1/scheduler/stop", { method: "POST" });
  expect(await change.json()).toMatchObject({ type: "urn:outbox-relayer:problem:not-ready" });
  expect(served.queryStore.condition()).toMatchObject({ state: "usable", lagMs });
});

test("stopping it ends its beats, whenever it is stopped, and as often", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  await served.queryStore.stop();
  const beatAt = async () =>
    (await standIn.primary.query("select beat_at::text from outbox.query_store_beats")).rows;
  const last = await beatAt();
  await served.queryStore.stop();
  expect(await beatAt()).toEqual(last);
});
