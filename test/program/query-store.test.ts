import pg from "pg";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { PRIMARY, SUBSCRIBER } from "../support/logical-replication.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { startProgram } from "./program.ts";

// Store and primary as two databases of one server, which works too.
const server = usePrivatePostgres({ ...PRIMARY, ...SUBSCRIBER });
let gateway: HttpGateway;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  gateway = await startHttpGateway();
  env = {
    DATABASE_URL: await server.createDatabase(),
    QUERY_DATABASE_URL: await server.createDatabase(),
    QUERY_STORE_RETENTION_SENT: "365d",
    WEBHOOK_URL: gateway.url,
  };
});
afterAll(() => gateway.close());

/** The command as a user runs it: how it ended, and what it printed. */
async function queryStore(...words: string[]) {
  const program = startProgram({ env, command: ["query-store", ...words] });
  const { code } = await program.end;
  return { code, output: program.output };
}

/** Is killed while Postgres makes the slot for it, which a transaction keeps waiting; then run again, and let go on. */
async function killedThenMade() {
  const primary = env.DATABASE_URL as string;
  const slots = () =>
    queryOnce<{ active_pid: number | null }>(primary, "select active_pid from pg_replication_slots");
  const open = new pg.Client(primary);
  await open.connect();
  onTestFinished(() => open.end());
  await open.query("begin; select pg_current_xact_id()");

  const killed = startProgram({ env, command: ["query-store", "init"] });
  const [slot] = await eventually(slots, ([it]) => it !== undefined);
  killed.kill("SIGKILL");
  await killed.end;
  const made = queryStore("init");
  await eventually(slots, ([it]) => it !== undefined && it.active_pid !== slot?.active_pid);
  await open.query("rollback");
  return made;
}

it("is made (killed in the middle, too), shown, kept up and dropped by the program; a relayer does not begin on it", async () => {
  const made = await killedThenMade();
  expect(made).toMatchObject({
    code: 0,
    output: expect.stringContaining("query store: subscribed to 127.0.0.1:"),
  });
  expect(made.output).not.toContain("secret-of-the-test");
  expect(made.output).not.toContain('"msg":');

  const store = env.QUERY_DATABASE_URL as string;
  const relayer = startProgram({ env });
  await relayer.ready();
  await queryOnce(
    env.DATABASE_URL as string,
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')",
  );
  await gateway.received(1);
  await eventually(
    () => queryOnce(store, "select from outbox.sent"),
    (sent) => sent.length === 1,
  );
  // A day of the store's own, past its own retention.
  await queryOnce(store, "select outbox.make_partition('sent', 'sent_at', '2020-01-01')");
  await queryOnce(env.DATABASE_URL as string, "select outbox_worker.add_job('maintain')");
  await relayer.logged(/^maintenance: query store: dropped outbox\.sent_20200101$/);
  expect(await queryStore("status")).toMatchObject({
    code: 0,
    output: expect.stringMatching(/a logical subscriber.*\ntables: 13 of 13 ready\n/),
  });
  expect(relayer.output).not.toContain("copying");
  relayer.kill("SIGTERM");
  await relayer.end;

  const astray = startProgram({ env: { DATABASE_URL: store, WEBHOOK_URL: gateway.url } });
  expect((await astray.end).code).toBe(1);
  expect(astray.output).toContain(
    "is a query store, for questions alone: DATABASE_URL has to name the primary",
  );
  expect(gateway.requests).toHaveLength(1);

  expect(await queryStore("drop")).toMatchObject({
    code: 0,
    output: expect.stringContaining("primary: dropped the publications"),
  });
  expect(await queryStore("status")).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^FAULT: .* is no query store: npm run query-store -- init makes one$/m),
  });
}, 90_000);
