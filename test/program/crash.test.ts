import { createServer } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { allSent, insert } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { probe, startProgram } from "./program.ts";

const database = useDatabase();
const postgres = usePrivatePostgres();
let gateway: HttpGateway;

beforeAll(async () => {
  gateway = await startHttpGateway();
});
afterAll(() => gateway.close());

it("loses nothing to a kill -9 in a burst of 5,000: each is sent, and twice only what was in flight", async () => {
  const COUNT = 5_000;
  gateway.answerWith(() => ({ delayMs: 2 }));
  const env = { DATABASE_URL: database.url, WEBHOOK_URL: gateway.url, RETRY_BASE_DELAY: "20ms" };
  const first = startProgram({ env });
  await first.ready();
  await insert(database.pool, COUNT);
  await gateway.received(1_500);
  first.kill("SIGKILL");
  await first.end;
  const { rows } = await database.pool.query<{ content: string }>(
    "select content from outbox.messages where claimed_by is not null",
  );
  const claimed = new Set(rows.map(({ content }) => content));
  // What it had sent and not recorded: these and no others may come twice.
  const posted = gateway.requests.map(({ body }) => (body as { content: string }).content);
  const inFlight = new Set(posted.filter((content) => claimed.has(content)));
  expect(inFlight.size).toBeGreaterThan(0);
  expect(posted.length).toBeLessThan(COUNT);

  const second = startProgram({ env });
  await allSent(database.pool, COUNT);
  const keys = Map.groupBy(gateway.requests, ({ body }) => (body as { content: string }).content);
  expect(keys.size).toBe(COUNT);
  expect(gateway.counts.size).toBe(COUNT);
  const twice = [...keys].filter(([, requests]) => requests.length > 1);
  for (const [content, requests] of twice) {
    expect(inFlight).toContain(content);
    expect(requests).toHaveLength(2);
    expect(requests[0]?.id).toBe(requests[1]?.id);
  }
  expect(twice.length).toBe(inFlight.size);
  expect(gateway.requests).toHaveLength(COUNT + twice.length);
  second.kill("SIGTERM");
  expect((await second.end).code).toBe(0);
});

it("frees the claims of a killed relayer within 2 s when another is alive", async () => {
  gateway.answerWith(() => ({ fault: "hang" }));
  const env = {
    DATABASE_URL: database.url,
    WEBHOOK_URL: gateway.url,
    RELAY_CONCURRENCY: "64",
    RETRY_BASE_DELAY: "10m",
  };
  const first = startProgram({ env });
  await first.ready();
  const before = gateway.requests.length;
  await insert(database.pool, 64);
  await gateway.received(before + 64);
  const { relayer } = await first.logged(/^registered/);
  const second = startProgram({ env });
  await second.ready();
  const claims = async () => {
    const { rows } = await database.pool.query("select from outbox.messages where claimed_by = $1", [
      relayer,
    ]);
    return rows.length;
  };
  expect(await claims()).toBe(64);
  const killed = performance.now();
  first.kill("SIGKILL");
  await eventually(claims, (count) => count === 0);
  const tookMs = performance.now() - killed;
  console.log(`claims free again ${tookMs.toFixed(0)} ms after the kill`);
  expect(tookMs).toBeLessThan(2_000);
  expect(await second.logged(/^another relayer is gone/)).toMatchObject({
    dead_relayer: relayer,
    claims: 64,
  });
  await database.pool.query("truncate outbox.messages");
});

it("outlives a restart of Postgres: nothing is lost or sent twice, probes say so, and the log is short", async () => {
  gateway.answerWith(() => ({}));
  const url = await postgres.createDatabase();
  const program = startProgram({ env: { DATABASE_URL: url, WEBHOOK_URL: gateway.url } });
  const { api } = await program.ready();
  const put = (count: number) =>
    queryOnce(
      url,
      "insert into outbox.messages (recipient, content) select '+905551234567', 'n' || n from generate_series(1, $1::int) n",
      [count],
    );
  const sent = async () => (await queryOnce<{ id: number }>(url, "select id::int from outbox.sent")).length;
  const readiness = async () => (await probe(api, "readyz")).status;
  const before = gateway.requests.length;
  await put(500);
  await eventually(sent, (count) => count === 500);
  expect(await readiness()).toBe(200);
  const said = program.lines.length;

  await postgres.stop("fast");
  // In its place somebody who hangs up, and counts how often it is tried.
  let tries = 0;
  const busy = createServer((socket) => {
    tries += 1;
    socket.destroy();
  }).listen(Number(new URL(url).port), "127.0.0.1");
  await eventually(readiness, (status) => status === 503);
  expect((await probe(api, "livez")).status).toBe(200);
  await eventually(
    async () => tries,
    (count) => count >= 20,
  );
  await new Promise((resolve) => busy.close(resolve));
  await postgres.start();
  await put(500);
  await eventually(sent, (count) => count === 1_000);
  await eventually(readiness, (status) => status === 200);
  expect(gateway.requests).toHaveLength(before + 1_000);
  const outage = program.lines.slice(said);
  const messages = outage.map(({ msg }) => msg);
  expect(messages).toContain("Postgres is away; waiting for it");
  expect(messages).toContain("Postgres answers again");
  expect([...new Set(messages)]).toEqual(messages);
  expect(messages.length).toBeLessThan(15);
  const alarming = outage.filter(({ level }) => /error|fatal/.test(level));
  expect(alarming).toEqual([]);
  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);
});

it("keeps what the gateway said while Postgres is down, records it when it is back, and sends nothing twice", async () => {
  const COUNT = 40;
  const answer = Promise.withResolvers<object>();
  const before = gateway.requests.length;
  gateway.answerWith(() => answer.promise);
  const url = await postgres.createDatabase();
  const program = startProgram({
    env: { DATABASE_URL: url, WEBHOOK_URL: gateway.url, RETRY_BASE_DELAY: "20ms" },
  });
  await program.ready();
  await queryOnce(
    url,
    "insert into outbox.messages (recipient, content) select '+905551234567', 'm' || n from generate_series(1, $1::int) n",
    [COUNT],
  );
  await gateway.received(before + COUNT);
  await postgres.stop("immediate");
  answer.resolve({});
  await program.logged(/^Postgres is away/);
  await postgres.start();
  await eventually(
    () => queryOnce(url, "select from outbox.sent where attempts = 1"),
    (sent) => sent.length === COUNT,
  );
  expect(gateway.requests).toHaveLength(before + COUNT);
  expect(await queryOnce(url, "select from outbox.attempts")).toEqual([]);
  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);
});
