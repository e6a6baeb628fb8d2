import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readTraceparent } from "../../src/gateway/traceparent.ts";
import { settled } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type CollectedSpan, type Collector, startCollector } from "../support/otlp-collector.ts";
import { freePort } from "../support/redis.ts";
import { startRelayer, type TestRelayer } from "../support/relayer.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID = "00f067aa0ba902b7";
const TRACE = `00-${TRACE_ID}-${SPAN_ID}-01`;
const CLIENT = 3;
const ERROR = 2;

const database = useDatabase();
let gateway: HttpGateway;
let collector: Collector;
let relayer: TestRelayer | undefined;

async function start(env: Readonly<Record<string, string>> = {}): Promise<TestRelayer> {
  relayer = await startRelayer({
    databaseUrl: database.url,
    webhookUrl: `${gateway.url}?token=of-the-query`,
    env: { TRACING_ENDPOINT: `${collector.url}/v1/traces`, ...env },
  });
  return relayer;
}

/** As an application whose tracer says where it is; "" for one that has none. */
async function insert(traceparent = "", content = "very private"): Promise<number> {
  const client = await database.pool.connect();
  await client.query("begin");
  await client.query("select set_config('outbox.traceparent', $1, true)", [traceparent]);
  const { rows } = await client.query<{ id: string }>(
    "insert into outbox.messages (recipient, content) values ('+905551234567', $1) returning id",
    [content],
  );
  await client.query("commit");
  client.release();
  return Number(rows[0]?.id);
}

/** Stopping sends what waits. */
async function spansAtTheEnd(): Promise<readonly CollectedSpan[]> {
  await relayer?.stop();
  return collector.spans;
}

const named = (spans: readonly CollectedSpan[], name: string) => spans.filter((span) => span.name === name);

const attemptsAt = (spans: readonly CollectedSpan[], id: number) =>
  named(spans, "outbox.attempt")
    .filter(({ attributes }) => attributes["outbox.message_id"] === id)
    .sort((a, b) => Number(a.attributes["outbox.attempt"]) - Number(b.attributes["outbox.attempt"]));

const postsOf = (id: number) => gateway.requests.filter((request) => request.id.endsWith(`_${id}`));

beforeEach(async () => {
  gateway = await startHttpGateway();
  collector = await startCollector();
});

afterEach(async () => {
  await relayer?.stop();
  relayer = undefined;
  await gateway.close();
  await collector.close();
  await database.pool.query(`
    truncate outbox.messages, outbox.sent, outbox.dead_letters, outbox.attempts;
    update outbox.gateways set url = null`);
});

describe("a message's trace", () => {
  test("goes on from what was stored, through the attempt, to the POST", async () => {
    await start();
    const id = await insert(TRACE);
    await settled(database.pool, id, "sent");
    const spans = await spansAtTheEnd();

    const [attempt, ...others] = attemptsAt(spans, id);
    expect(others).toEqual([]);
    expect(attempt).toMatchObject({
      traceId: TRACE_ID,
      parentSpanId: SPAN_ID,
      kind: CLIENT,
      attributes: {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": gateway.port,
        "http.response.status_code": 202,
        "outbox.message_id": id,
        "outbox.gateway": "default",
        "outbox.attempt": 1,
        "outbox.outcome": "accepted",
      },
    });
    expect(attempt?.status.code).not.toBe(ERROR);
    expect(postsOf(id).map(({ headers }) => headers.traceparent)).toEqual([
      `00-${TRACE_ID}-${attempt?.spanId}-01`,
    ]);

    const [claim] = named(spans, "outbox.claim");
    expect(claim).toMatchObject({
      kind: CLIENT,
      links: [],
      attributes: { "outbox.gateway": "default", "outbox.count": 1, "db.system.name": "postgresql" },
    });
    const [settle] = named(spans, "outbox.settle");
    expect(settle).toMatchObject({
      links: [{ traceId: TRACE_ID, spanId: attempt?.spanId }],
      attributes: { "outbox.gateway": "default", "outbox.count": 1, "outbox.sent": 1 },
    });
    for (const span of [claim, settle]) {
      expect(span?.parentSpanId).toBeUndefined();
      expect(span?.traceId).not.toBe(TRACE_ID);
    }
    expect(claim?.startMs).toBeLessThanOrEqual(attempt?.startMs ?? 0);
    expect(attempt?.endMs).toBeLessThanOrEqual((settle?.startMs ?? 0) + 1);
    for (const { resource } of spans)
      expect(resource).toMatchObject({
        "service.name": "outbox-relayer",
        "service.version": "0.0.0-test",
        "service.instance.id": `test:${process.pid}`,
      });
  });

  test("has a span for each attempt; what failed says how, and not what the gateway said", async () => {
    const answer = { status: 500, body: "cannot send very private to +905551234567" };
    gateway.answerWith(({ nthOfId }) => (nthOfId === 1 ? answer : nthOfId === 2 ? { fault: "reset" } : {}));
    await start();
    const id = await insert(TRACE);
    await settled(database.pool, id, "sent");
    const attempts = attemptsAt(await spansAtTheEnd(), id);
    expect(attempts).toMatchObject([
      {
        attributes: { "outbox.outcome": "retry", "http.response.status_code": 500, "error.type": "500" },
        status: { code: ERROR, message: "HTTP 500" },
      },
      {
        attributes: { "outbox.outcome": "unknown", "error.type": "unknown", "http.request.resend_count": 1 },
        status: { code: ERROR, message: expect.stringContaining("outcome unknown") },
      },
      { attributes: { "outbox.outcome": "accepted", "http.request.resend_count": 2 } },
    ]);
    expect(new Set(attempts.map(({ parentSpanId }) => parentSpanId))).toEqual(new Set([SPAN_ID]));
    expect(postsOf(id).map(({ headers }) => headers.traceparent)).toEqual(
      attempts.map(({ spanId }) => `00-${TRACE_ID}-${spanId}-01`),
    );
    const told = collector.requests.map(({ text }) => text).join();
    for (const secret of ["very private", "905551234567", "of-the-query", "/sms"])
      expect(told).not.toContain(secret);
  });

  test("begins with the attempt where it brings none", async () => {
    await start();
    const id = await insert();
    await settled(database.pool, id, "sent");
    const [attempt] = attemptsAt(await spansAtTheEnd(), id);
    expect(attempt?.parentSpanId).toBeUndefined();
    expect(postsOf(id)[0]?.headers.traceparent).toBe(`00-${attempt?.traceId}-${attempt?.spanId}-01`);
  });

  test("that is sampled out stays so: nothing is exported, and the POST says so", async () => {
    await start();
    const id = await insert(TRACE.replace(/01$/, "00"));
    await settled(database.pool, id, "sent");
    expect(await spansAtTheEnd()).toEqual([]);
    expect(collector.requests).toEqual([]);
    expect(readTraceparent(String(postsOf(id)[0]?.headers.traceparent))).toMatchObject({
      traceId: TRACE_ID,
      flags: 0,
    });
  });

  test("with a ratio of 0 is followed only where the message brings one", async () => {
    await start({ TRACING_SAMPLE_RATIO: "0" });
    const without = await insert();
    await settled(database.pool, without, "sent");
    const traced = await insert(TRACE);
    await settled(database.pool, traced, "sent");
    const spans = await spansAtTheEnd();
    expect(spans.map(({ name }) => name).sort()).toEqual(["outbox.attempt", "outbox.claim", "outbox.settle"]);
    expect(attemptsAt(spans, traced)).toHaveLength(1);
    expect(readTraceparent(String(postsOf(without)[0]?.headers.traceparent))).toMatchObject({ flags: 0 });
  });

  test("is passed on as it is with tracing off", async () => {
    await start({ TRACING_ENDPOINT: "" });
    const traced = await insert(TRACE);
    const without = await insert();
    for (const id of [traced, without]) await settled(database.pool, id, "sent");
    await spansAtTheEnd();
    expect(postsOf(traced)[0]?.headers.traceparent).toBe(TRACE);
    expect(postsOf(without)[0]?.headers).not.toHaveProperty("traceparent");
    expect(collector.requests).toEqual([]);
  });
});

describe("a collector", () => {
  test("that refuses costs a line, and no message; when it takes spans again, that is said", async () => {
    collector.answerWith(400);
    const { logged, logs } = await start();
    const first = await insert();
    await settled(database.pool, first, "sent");
    const lost = await logged(({ msg }) => msg.startsWith("spans were lost"));
    expect(lost).toMatchObject({ level: "warn", collector: collector.url });
    expect(lost.lost).toBeGreaterThan(0);
    collector.answerWith(200);
    const second = await insert();
    await settled(database.pool, second, "sent");
    await logged(({ msg }) => msg === "the collector takes spans again");
    expect(logs.filter(({ msg }) => msg.startsWith("spans were lost"))).toHaveLength(1);
    expect(attemptsAt(await spansAtTheEnd(), second)).toHaveLength(1);
  });

  test("that is away holds up neither a message nor, for long, the stop", async () => {
    const { stop, logged } = await start({
      TRACING_ENDPOINT: `http://127.0.0.1:${await freePort()}/v1/traces`,
    });
    const id = await insert(TRACE);
    await settled(database.pool, id, "sent");
    const began = performance.now();
    await stop();
    expect(performance.now() - began).toBeLessThan(10_000);
    await logged(({ msg }) => /^(stopped before the collector|spans were lost)/.test(msg));
  });
});

test("without tracing OpenTelemetry is not even loaded", () => {
  const program = new URL("../../src/program.ts", import.meta.url).href;
  const source = `
    import { registerHooks } from "node:module";
    const found = [];
    registerHooks({
      resolve(name, context, next) {
        // The API is loaded by prom-client, for itself.
        if (/^@opentelemetry\\/(?!api$)/.test(name)) found.push(name);
        return next(name, context);
      },
    });
    await import(${JSON.stringify(program)});
    console.log(JSON.stringify(found));`;
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", source], { encoding: "utf8" });
  expect(JSON.parse(said)).toEqual([]);
});
