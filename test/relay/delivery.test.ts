import { afterEach, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type RelayerOptions, startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, attempts, insert, settled, tally } from "./messages.ts";

const database = useDatabase();
let gateway: HttpGateway;
let relayers: TestRelayer[] = [];

async function start(options: Partial<RelayerOptions> = {}): Promise<TestRelayer> {
  const relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, ...options });
  relayers.push(relayer);
  return relayer;
}

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await Promise.all(relayers.map((relayer) => relayer.stop()));
  relayers = [];
  await gateway.close();
  await database.pool.query(`
    truncate outbox.messages, outbox.sent, outbox.dead_letters, outbox.attempts, outbox.dedupe_keys;
    delete from outbox.gateways where name <> 'default';
    update outbox.gateways set url = null, paused = false, held_until = null, hold_reason = null, hold_detail = null,
      concurrency = 64, timeout = '10 seconds', max_attempts = 5, on_unknown = 'retry';
    update outbox.scheduler set running = true, last_tick = '-infinity';
    select setval('outbox.awake_until', 0)`);
});

test("an INSERT reaches the gateway and ends in sent, with the gateway's id", async () => {
  await start();
  const [id = 0] = await insert(database.pool);
  const request = await gateway.requestFor(id);
  expect(request.body).toEqual({ to: "+905551234567", content: "message 1" });
  const row = await settled(database.pool, id, "sent");
  expect(row).toMatchObject({ attempts: 1, gateway_message_id: "gw-1" });
  expect(gateway.requests).toHaveLength(1);
});

test("a rolled-back INSERT never goes out", async () => {
  await start();
  const client = await database.pool.connect();
  await client.query(
    "begin; insert into outbox.messages (recipient, content) values ('+905551234567', 'never'); rollback",
  );
  client.release();
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
  expect(gateway.requests.map(({ body }) => body)).toEqual([{ to: "+905551234567", content: "message 1" }]);
});

test("500 twice, then accepted: sent on the third attempt, two rows in attempts, one idempotency key", async () => {
  gateway.answerWith(({ nthOfId }) => (nthOfId < 3 ? { status: 500, body: "busy" } : {}));
  await start();
  const [id = 0] = await insert(database.pool);
  expect(await settled(database.pool, id, "sent")).toMatchObject({ attempts: 3 });
  expect(await attempts(database.pool, id)).toEqual([
    { attempt: 1, outcome: "retry", error: "HTTP 500: busy" },
    { attempt: 2, outcome: "retry", error: "HTTP 500: busy" },
  ]);
  expect(new Set(gateway.requests.map((request) => request.id)).size).toBe(1);
});

test("400: a dead letter, rejected, with status and answer", async () => {
  gateway.answerWith(() => ({ status: 400, body: { error: "no such number" } }));
  await start();
  const [id = 0] = await insert(database.pool);
  expect(await settled(database.pool, id, "failed")).toMatchObject({
    reason: "rejected",
    http_status: 400,
    error: 'HTTP 400: {"error":"no such number"}',
    attempts: 1,
  });
  expect(gateway.requests).toHaveLength(1);
});

test("a gateway that refuses connections: retried, then exhausted", async () => {
  await gateway.close();
  await start({ env: { RETRY_MAX_ATTEMPTS: "3" } });
  const [id = 0] = await insert(database.pool);
  const row = await settled(database.pool, id, "failed");
  expect(row).toMatchObject({ reason: "exhausted", attempts: 3, http_status: null });
  expect(row.error).toContain("ECONNREFUSED");
  expect((await attempts(database.pool, id)).map(({ outcome }) => outcome)).toEqual([
    "retry",
    "retry",
    "retry",
  ]);
});

test("no answer in time: unknown, and tried again with the same key", async () => {
  gateway.answerWith(({ nthOfId }) => (nthOfId === 1 ? { fault: "hang" } : {}));
  await start({ env: { WEBHOOK_TIMEOUT: "150ms" } });
  const [id = 0] = await insert(database.pool);
  expect(await settled(database.pool, id, "sent")).toMatchObject({ attempts: 2 });
  expect(await attempts(database.pool, id)).toMatchObject([{ attempt: 1, outcome: "unknown" }]);
  expect(new Set(gateway.requests.map((request) => request.id)).size).toBe(1);
});

test("no answer in time where the gateway's policy is park: a dead letter for a person to decide", async () => {
  gateway.answerWith(() => ({ fault: "hang" }));
  await start({ env: { WEBHOOK_TIMEOUT: "150ms", WEBHOOK_ON_UNKNOWN: "park" } });
  const [id = 0] = await insert(database.pool);
  expect(await settled(database.pool, id, "failed")).toMatchObject({ reason: "unknown_outcome" });
  expect(gateway.requests).toHaveLength(1);
});

test("401 holds the gateway: no message dies, no attempt is spent, resume ends it", async () => {
  gateway.answerWith(() => ({ status: 401, body: "bad key" }));
  const relayer = await start({ env: { RELAY_CONCURRENCY: "1" } });
  const ids = await insert(database.pool, 20);
  const line = await relayer.logged(({ msg }) => msg === "gateway held");
  expect(line).toMatchObject({
    level: "warn",
    gateway: "default",
    reason: "hold",
    error: "HTTP 401: bad key",
  });
  const refused = gateway.requests.length;
  expect(refused).toBeLessThan(5);
  for (const id of ids) expect(await settled(database.pool, id, "pending")).toMatchObject({ attempts: 0 });

  gateway.answerWith(() => ({}));
  await database.pool.query("select outbox.resume('default')");
  await allSent(database.pool, 20);
  expect(gateway.requests).toHaveLength(refused + 20);
});

test("429 stops the gateway for as long as it asks, then goes on by itself", async () => {
  let first = 0;
  gateway.answerWith(({ nth }) => {
    if (nth > 1) return {};
    first = performance.now();
    return { status: 429, headers: { "retry-after": "1" } };
  });
  await start({ env: { RELAY_CONCURRENCY: "1" } });
  await insert(database.pool, 3);
  await gateway.received(2);
  expect(performance.now() - first).toBeGreaterThanOrEqual(990);
  await allSent(database.pool, 3);
});

test("an expired message is never sent, also when it expires while it waits for its turn", async () => {
  const answer = Promise.withResolvers<object>();
  gateway.answerWith(({ nth }) => (nth === 1 ? answer.promise : {}));
  await start({ env: { RELAY_CONCURRENCY: "1" } });
  const [slow = 0] = await insert(database.pool);
  await gateway.requestFor(slow);
  const [late = 0] = await insert(database.pool, 1, { expires_at: new Date(Date.now() + 300) });
  await eventually(
    async () =>
      (await database.pool.query("select from outbox.messages where id = $1 and expires_at > now()", [late]))
        .rowCount,
    (stillValid) => stillValid === 0,
  );
  answer.resolve({});
  expect(await settled(database.pool, late, "expired")).toMatchObject({ attempts: 0 });
  expect(gateway.requests).toHaveLength(1);
});

test("a slow gateway does not hold up another", async () => {
  const slow = await startHttpGateway({ answer: () => ({ fault: "hang" }) });
  try {
    await start({
      yaml: `gateways: { slow: { url: "${slow.url}" } }`,
      env: { RELAY_CONCURRENCY: "2", SHUTDOWN_GRACE: "0s" },
    });
    await insert(database.pool, 50, { gateway: "slow" });
    await slow.received(2);
    const [id = 0] = await insert(database.pool);
    await settled(database.pool, id, "sent");
    expect(slow.requests).toHaveLength(2);
  } finally {
    await slow.close();
  }
});

test("a gateway that a DBA adds is served at once, with its own limits, and follows its new url", async () => {
  await start();
  const other = await startHttpGateway();
  try {
    await database.pool.query(
      "insert into outbox.gateways (name, url, concurrency) values ('added', $1, 1)",
      [other.url],
    );
    const [first = 0] = await insert(database.pool, 1, { gateway: "added" });
    await other.requestFor(first);
    await database.pool.query("update outbox.gateways set url = $1 where name = 'added'", [gateway.url]);
    await settled(database.pool, first, "sent");
    await eventually(
      async () => {
        const [id = 0] = await insert(database.pool, 1, { gateway: "added" });
        await settled(database.pool, id, "sent");
        return gateway.requests.length;
      },
      (count) => count > 0,
    );
  } finally {
    await other.close();
  }
});

test("5,000 messages and two relayers: each is posted once and sent once", async () => {
  await Promise.all([start(), start()]);
  await insert(database.pool, 5_000);
  await allSent(database.pool, 5_000);
  expect(gateway.requests).toHaveLength(5_000);
  expect(gateway.counts.size).toBe(5_000);
});

test("never more POSTs in flight than relay.concurrency", async () => {
  gateway.answerWith(() => ({ delayMs: 5 }));
  await start({ env: { RELAY_CONCURRENCY: "7" } });
  await insert(database.pool, 200);
  await allSent(database.pool, 200);
  expect(gateway.mostAtOnce).toBe(7);
});

test("a row that Postgres refuses to record does not keep the others of its group", async () => {
  const relayer = await start();
  await database.pool.query(`
    create function public.poison() returns trigger language plpgsql as $$
      begin if new.content = 'message 7' then raise 'no room for %', new.id; end if; return new; end $$;
    create trigger poison before insert on outbox.sent for each row execute function public.poison()`);
  try {
    await insert(database.pool, 20);
    const line = await relayer.logged(({ msg }) => msg.startsWith("Postgres refuses a result"));
    expect(line).toMatchObject({ level: "error", outcome: "accepted" });
    await eventually(
      () => tally(database.pool),
      ({ sent, sending }) => sent === 19 && sending === 1,
    );
  } finally {
    await database.pool.query("drop trigger poison on outbox.sent; drop function public.poison()");
  }
  await allSent(database.pool, 20);
  expect(gateway.requests).toHaveLength(20);
});
