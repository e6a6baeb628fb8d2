import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { listen } from "../api/event-client.ts";
import { attempts, insert, message, tally } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { freePort } from "../support/redis.ts";
import { embeddedHome, gone, probe, startProgram } from "./program.ts";

const database = useDatabase();
let gateway: HttpGateway;

beforeEach(async () => {
  gateway = await startHttpGateway();
});

afterEach(async () => {
  await gateway.close();
  await database.pool.query("truncate outbox.messages, outbox.sent, outbox.attempts");
});

const start = (env: Record<string, string>) =>
  startProgram({ env: { DATABASE_URL: database.url, WEBHOOK_URL: gateway.url, ...env } });

it("lets what is in flight finish, gives back what waits its turn, and ends with 0", async () => {
  const answer = Promise.withResolvers<object>();
  const FAST = 150;
  // Fast at first, so that it claims ahead of need; then one that takes its time.
  gateway.answerWith(({ nth }) => (nth <= FAST ? {} : answer.promise));
  const program = start({ RELAY_CONCURRENCY: "1", SHUTDOWN_GRACE: "1m" });
  const { api } = await program.ready();
  await insert(database.pool, 1_000);
  await gateway.received(FAST + 1);
  const { sending = 0 } = await eventually(
    () => tally(database.pool),
    ({ sent }) => sent === FAST,
  );
  expect(sending).toBeGreaterThan(1);

  program.kill("SIGTERM");
  const counts = await eventually(
    () => tally(database.pool),
    (now) => now.sending === 1,
  );
  expect(counts).toEqual({ sent: FAST, sending: 1, pending: 1_000 - FAST - 1 });
  const { rows } = await database.pool.query(
    "select max(attempts) from outbox.messages where claimed_by is null",
  );
  expect(rows).toEqual([{ max: 0 }]);
  expect((await probe(api, "readyz")).status).toBe(503);
  expect((await probe(api, "livez")).status).toBe(200);

  answer.resolve({});
  expect(await program.end).toEqual({ code: 0, signal: null });
  expect(await tally(database.pool)).toEqual({ sent: FAST + 1, pending: 1_000 - FAST - 1 });
  expect(gateway.requests).toHaveLength(FAST + 1);
  const { rowCount } = await database.pool.query("select from outbox.relayers");
  expect(rowCount).toBe(0);
});

it("ends what is still in flight when shutdown.grace is over, on record as unknown, with 0", async () => {
  gateway.answerWith(() => ({ fault: "hang" }));
  const program = start({ SHUTDOWN_GRACE: "300ms", WEBHOOK_TIMEOUT: "1m", RETRY_BASE_DELAY: "10m" });
  await program.ready();
  const [id = 0] = await insert(database.pool);
  await gateway.requestFor(id);
  program.kill("SIGINT");
  expect(await program.end).toEqual({ code: 0, signal: null });
  expect(await message(database.pool, id)).toMatchObject({ status: "pending", attempts: 1 });
  expect(await attempts(database.pool, id)).toMatchObject([{ attempt: 1, outcome: "unknown" }]);
});

it("does not wait for those who listen to events: they are told to come back", async () => {
  const program = start({ SHUTDOWN_GRACE: "1m" });
  const { api } = await program.ready();
  const client = await (await listen(`${api}/events`)).begun();
  const [id = 0] = await insert(database.pool);
  const [settled] = await client.events(1);
  expect(settled).toMatchObject({ event: "settled", data: { id } });
  program.kill("SIGTERM");
  await client.ended;
  expect(await program.end).toEqual({ code: 0, signal: null });
});

it("hears a signal while it waits for the database, and while it migrates", async () => {
  // Takes the connection and says nothing, as a database behind a stuck proxy does.
  const mute = createServer().listen(0, "127.0.0.1");
  await once(mute, "listening");
  const connected = once(mute, "connection");
  const { port } = mute.address() as { port: number };
  const waiting = start({ DATABASE_URL: `postgres://outbox@127.0.0.1:${port}/outbox` });
  await connected;
  const heard = performance.now();
  waiting.kill("SIGTERM");
  expect(await waiting.end).toEqual({ code: 0, signal: null });
  expect(performance.now() - heard).toBeLessThan(1_500);
  mute.close();

  const refused = start({ DATABASE_URL: `postgres://outbox@127.0.0.1:${await freePort()}/outbox` });
  await refused.logged(/^Waiting for Postgres at 127\.0\.0\.1:\d+\/outbox: connect ECONNREFUSED/);
  refused.kill("SIGINT");
  expect(await refused.end).toEqual({ code: 0, signal: null });

  const { env, server } = await embeddedHome();
  const migrating = startProgram({ env });
  await migrating.logged(/^Migration .* applied/);
  const postgres = server();
  migrating.kill("SIGTERM");
  expect(await migrating.end).toEqual({ code: 0, signal: null });
  await gone(postgres);
}, 90_000);

const MOMENTS = {
  "its database is made": (dataDir: string) =>
    readdirSync(dirname(dataDir)).some((name) => name.startsWith("data.new-")),
  "its database starts": (dataDir: string) => existsSync(join(dataDir, "server.log")),
};

it.each([
  ["its database is made", "SIGTERM", 0],
  ["its database starts", "SIGTERM", 0],
  ["its database starts", "SIGTERM twice", 1],
] as const)("leaves no server behind when %s: %s", async (moment, signals, expected) => {
  const { env } = await embeddedHome();
  const dataDir = env.EMBEDDED_POSTGRES_DATA_DIR;
  const program = startProgram({ env });
  await eventually(async () => MOMENTS[moment](dataDir), Boolean);
  program.kill("SIGTERM");
  const again = signals === "SIGTERM" ? undefined : setInterval(() => program.kill("SIGTERM"), 50);
  const { code } = await program.end.finally(() => clearInterval(again));
  // Twice is once when it has ended by then.
  if (program.output.includes("again")) expect(code).toBe(expected);
  else expect(code).toBe(0);
  await eventually(
    async () => existsSync(join(dataDir, "postmaster.pid")),
    (running) => !running,
    3_000,
  );
});
