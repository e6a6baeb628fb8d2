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

test("a relayer closes the minutes that are over", async () => {
  await database.pool.query(
    "insert into outbox.minutes (minute) values (date_trunc('minute', now()) - interval '10 minutes')",
  );
  relayer = await start();
  const last = () =>
    database.pool.query<{ ago: number }>(
      "select (extract(epoch from now() - max(minute)) / 60)::float8 as ago from outbox.minutes",
    );
  // The minute before this one is over, for 5 s or not.
  await eventually(last, ({ rows: [one] }) => (one?.ago ?? Number.POSITIVE_INFINITY) < 3.1);
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
