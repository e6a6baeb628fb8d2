import { afterEach, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { startRelayer, type TestRelayer } from "../support/relayer.ts";
import { insert, settled } from "./messages.ts";

const database = useDatabase();
let gateway: HttpGateway;
let relayer: TestRelayer | undefined;

beforeEach(async () => {
  gateway = await startHttpGateway();
});
afterEach(async () => {
  await relayer?.stop();
  await gateway.close();
});

const start = () => startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url });

test("a relayer closes the minutes that are over, and counts what ended in them without an attempt", async () => {
  await database.pool.query(
    "insert into outbox.minutes (minute) values (date_trunc('minute', now()) - interval '10 minutes')",
  );
  await insert(database.pool, 2, { created_at: "2020-01-01", expires_at: "2020-01-02" });
  await database.pool.query("select outbox.expire('default', as_of => now() - interval '5 minutes')");
  relayer = await start();
  const { api } = relayer;
  const last = () =>
    database.pool.query<{ ago: number }>(
      "select (extract(epoch from now() - max(minute)) / 60)::float8 as ago from outbox.minutes",
    );
  // The minute before this one is over, for 5 s or not.
  await eventually(last, ({ rows: [one] }) => (one?.ago ?? Number.POSITIVE_INFINITY) < 3.1);
  const metrics = async () => await (await fetch(new URL("/metrics", api))).text();
  await eventually(metrics, (text) =>
    text.includes('outbox_dead_letters_total{gateway="default",reason="expired"} 2\n'),
  );
});

test("what goes wrong with it is in the log, and nothing else goes wrong", async () => {
  await database.pool.query(`
    create or replace function outbox.close_minutes(as_of timestamptz default clock_timestamp()) returns int
    language plpgsql as $$ begin raise exception 'out of order'; end $$`);
  relayer = await start();
  expect(await relayer.logged(({ during }) => during === "close_minutes")).toMatchObject({ level: "error" });
  const [id = 0] = await insert(database.pool);
  await settled(database.pool, id, "sent");
});
