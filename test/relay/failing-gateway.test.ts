import { afterEach, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type RelayerOptions, startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, insert, settled, tally } from "./messages.ts";

const database = useDatabase();
let gateway: HttpGateway;
let relayers: TestRelayer[] = [];

/** Pauses as short as a test likes them. */
const SHORT = { CIRCUIT_PAUSE: "50ms", CIRCUIT_MAX_PAUSE: "200ms" };

async function start(options: Partial<RelayerOptions> = {}): Promise<TestRelayer> {
  const relayer = await startRelayer({
    databaseUrl: database.url,
    webhookUrl: gateway.url,
    ...options,
    env: { ...SHORT, ...options.env },
  });
  relayers.push(relayer);
  return relayer;
}

const circuit = async (): Promise<string> =>
  (await database.pool.query("select circuit from outbox.gateways where name = 'default'")).rows[0].circuit;

const readyz = async ({ api }: TestRelayer) => {
  const answer = await fetch(`${new URL(api).origin}/readyz`);
  const { parts } = (await answer.json()) as { parts: Record<string, { ok: boolean; detail?: string }> };
  return { status: answer.status, gateways: parts.gateways };
};

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await Promise.all(relayers.map((relayer) => relayer.stop()));
  relayers = [];
  await gateway.close();
  await database.pool.query(`
    truncate outbox.messages, outbox.sent, outbox.dead_letters, outbox.attempts;
    delete from outbox.gateways where name <> 'default';
    update outbox.gateways set url = null, rate_per_second = null, burst = default, hold_for = default, proved_at = default, max_attempts = default, concurrency = default,
      circuit_pause = default, circuit_max_pause = default;
    select outbox.resume('default')`);
});

test.each([
  ["refuses connections", undefined],
  ["answers 503", () => ({ status: 503 })],
  ["resets connections", () => ({ fault: "reset" as const })],
])(
  "a gateway that %s is left alone and probed; nothing dies, and the backlog drains by itself",
  async (_, script) => {
    const { port } = gateway;
    if (script === undefined) await gateway.close();
    else gateway.answerWith(script);
    // Not probed before it is seen to be held.
    const relayer = await start({
      env: { RETRY_MAX_ATTEMPTS: "5", CIRCUIT_PAUSE: "1h", CIRCUIT_MAX_PAUSE: "1h" },
    });
    const ids = await insert(database.pool, 300);
    expect(await relayer.logged(({ msg }) => msg === "gateway held")).toMatchObject({
      level: "warn",
      reason: "circuit_open",
      error: expect.stringContaining("failures in a row"),
    });
    await database.pool.query(
      "update outbox.gateways set circuit_pause = '50 ms', circuit_max_pause = '200 ms', held_until = now()",
    );
    // As many probes as would have killed every message there is.
    for (const _round of Array(8)) {
      const { held_until } = (
        await database.pool.query("select held_until from outbox.gateways where circuit <> 'closed'")
      ).rows[0];
      await eventually(
        async () => (await database.pool.query("select held_until from outbox.gateways")).rows[0].held_until,
        (now) => now.getTime() !== held_until.getTime(),
      );
    }
    expect(await readyz(relayer)).toMatchObject({
      status: 200,
      gateways: { ok: true, detail: expect.stringContaining("default:") },
    });
    expect(await tally(database.pool)).not.toHaveProperty("failed");

    if (script === undefined) gateway = await startHttpGateway({ port });
    else gateway.answerWith(() => ({}));
    await allSent(database.pool, ids.length);
    expect(await circuit()).toBe("closed");
    expect(await relayer.logged(({ msg }) => msg === "gateway no longer held")).toBeDefined();
    await eventually(
      () => readyz(relayer),
      ({ gateways }) => gateways?.detail === undefined,
    );
  },
);

test("a lone message outlives the outage: it costs no more than its gateway's run of failures", async () => {
  gateway.answerWith(() => ({ status: 500 }));
  await start({ env: { RETRY_MAX_ATTEMPTS: "5" } });
  const [id = 0] = await insert(database.pool);
  await gateway.received(12);
  expect(await settled(database.pool, id, "pending")).toMatchObject({ attempts: 4 });
  gateway.answerWith(() => ({}));
  expect(await settled(database.pool, id, "sent")).toMatchObject({ attempts: 5 });
});

test("a message that alone fails, while others pass, is exhausted: it is the message, not the gateway", async () => {
  gateway.answerWith(({ body }) =>
    (body as { content: string }).content === "message 1" ? { status: 500 } : {},
  );
  await start({ env: { RETRY_MAX_ATTEMPTS: "3" } });
  const [bad = 0] = await insert(database.pool, 30);
  expect(await settled(database.pool, bad, "failed")).toMatchObject({ reason: "exhausted", attempts: 3 });
  await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === 29,
  );
  expect(await circuit()).toBe("closed");
});

test("two relayers share the circuit: what one finds out stops the other, and one probe is enough", async () => {
  gateway.answerWith(() => ({ status: 500 }));
  const both = await Promise.all([
    start({ env: { CIRCUIT_PAUSE: "1s", CIRCUIT_MAX_PAUSE: "1s", RELAY_CONCURRENCY: "2" } }),
    start({ env: { CIRCUIT_PAUSE: "1s", CIRCUIT_MAX_PAUSE: "1s", RELAY_CONCURRENCY: "2" } }),
  ]);
  await insert(database.pool, 5_000);
  await Promise.all(both.map(({ logged }) => logged(({ msg }) => msg === "gateway held")));
  await eventually(
    () => tally(database.pool),
    ({ sending }) => sending === undefined,
  );
  const before = gateway.requests.length;
  expect(before).toBeLessThan(5_000);
  await gateway.received(before + 3);
  await eventually(circuit, (state) => state === "open");
  expect(gateway.requests).toHaveLength(before + 3);
});

test("after hold_for a probe finds out that the account is in order again", async () => {
  gateway.answerWith(() => ({ status: 403, body: "no credit" }));
  const relayer = await start({ env: { WEBHOOK_HOLD_FOR: "1s", RELAY_CONCURRENCY: "1" } });
  await insert(database.pool, 20);
  await relayer.logged(({ msg }) => msg === "gateway held");
  expect(await readyz(relayer)).toMatchObject({
    status: 200,
    gateways: { detail: expect.stringMatching(/^default: hold until 20\S+ \(HTTP 403\)$/) },
  });
  const { rows } = await database.pool.query(
    "select state, hold_detail, due::int from outbox.gateway_status where gateway = 'default'",
  );
  expect(rows).toEqual([{ state: "hold", hold_detail: "HTTP 403: no credit", due: 20 }]);
  gateway.answerWith(() => ({}));
  await allSent(database.pool, 20);
  expect((await database.pool.query("select max(attempts)::int as most from outbox.sent")).rows).toEqual([
    { most: 1 },
  ]);
});

test("a message that alone gets 403 is found out: the others go on, and it dies like any other failure", async () => {
  gateway.answerWith(({ body }) =>
    (body as { content: string }).content === "message 1" ? { status: 403, body: "blocked" } : {},
  );
  await start({ env: { WEBHOOK_HOLD_FOR: "1s", RETRY_MAX_ATTEMPTS: "2" } });
  const [bad = 0] = await insert(database.pool, 100);
  expect(await settled(database.pool, bad, "failed")).toMatchObject({
    reason: "exhausted",
    attempts: 2,
    error: "HTTP 403: blocked",
  });
  await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === 99,
  );
  expect(await circuit()).toBe("closed");
});

test("a gateway that asks to be tried again at once is tried once a second", async () => {
  const arrivals: number[] = [];
  gateway.answerWith(() => {
    arrivals.push(performance.now());
    return { status: 429, headers: { "retry-after": "0" } };
  });
  await start({ env: { RELAY_CONCURRENCY: "1" } });
  await insert(database.pool, 5);
  await gateway.received(3);
  expect((arrivals[2] as number) - (arrivals[0] as number)).toBeGreaterThanOrEqual(1_980);
});

test("a relayer that stops blames the gateway for nothing", async () => {
  gateway.answerWith(() => ({ fault: "hang" }));
  const relayer = await start({ env: { SHUTDOWN_GRACE: "0s" } });
  await insert(database.pool, 20);
  await gateway.received(20);
  await relayer.stop();
  expect(await tally(database.pool)).toEqual({ pending: 20 });
  const { rows } = await database.pool.query(
    "select circuit, run_of_failures, window_started_at from outbox.gateways where name = 'default'",
  );
  expect(rows).toEqual([{ circuit: "closed", run_of_failures: 0, window_started_at: null }]);
});

test("with 4 relayers the gateway never sees more than its rate and burst", async () => {
  const [rate, burst, count] = [40, 8, 88];
  const arrivals: number[] = [];
  gateway.answerWith(() => {
    arrivals.push(performance.now());
    return {};
  });
  const env = { WEBHOOK_RATE_PER_SECOND: String(rate), WEBHOOK_BURST: String(burst) };
  await Promise.all([start({ env }), start({ env }), start({ env }), start({ env })]);
  await insert(database.pool, count);
  await allSent(database.pool, count);
  expect(arrivals).toHaveLength(count);
  const tookMs = (arrivals.at(-1) as number) - (arrivals[0] as number);
  // Tokens are handed out by the database's clock; what a request takes on its way may only spread them, or bring two together.
  expect(count).toBeLessThanOrEqual(burst + (rate * (tookMs + 100)) / 1_000);
  for (const [i, from] of arrivals.entries()) {
    const within = arrivals.filter((at) => at >= from && at < from + 500).length;
    expect(within, `from arrival ${i}`).toBeLessThanOrEqual(burst + (rate * 750) / 1_000);
  }
});

test("a gateway with 100,000 waiting messages delays no other's", async () => {
  const busy = await startHttpGateway({ answer: () => ({ delayMs: 20 }) });
  try {
    await start({
      yaml: `gateways: { busy: { url: "${busy.url}", concurrency: 8 } }`,
      env: { SHUTDOWN_GRACE: "0s" },
    });
    await insert(database.pool, 100_000, { gateway: "busy" });
    await busy.received(8);
    for (const _ of Array(5)) {
      const before = busy.requests.length;
      const [id = 0] = await insert(database.pool);
      await gateway.requestFor(id);
      await settled(database.pool, id, "sent");
      // So many of the busy one's went meanwhile; each takes 20 ms, eight at a time.
      expect(busy.requests.length - before).toBeLessThan(400);
    }
  } finally {
    await busy.close();
  }
});
