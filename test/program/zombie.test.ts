import { afterAll, beforeAll, expect, it } from "vitest";
import { allSent, insert } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { startProgram } from "./program.ts";

const database = useDatabase();
let gateway: HttpGateway;

beforeAll(async () => {
  gateway = await startHttpGateway();
});
afterAll(() => gateway.close());

it("a relayer that wakes up after it was taken for dead sends nothing of what it had claimed, and its late result is stale", async () => {
  const COUNT = 3_000;
  const FAST = 1_000;
  const held = Promise.withResolvers<object>();
  gateway.answerWith(({ nth }) => (nth === FAST ? held.promise : {}));
  const env = {
    DATABASE_URL: database.url,
    WEBHOOK_URL: gateway.url,
    WEBHOOK_TIMEOUT: "1m",
    RELAY_CONCURRENCY: "1",
    RELAY_DEAD_AFTER: "5s",
    RETRY_BASE_DELAY: "20ms",
  };
  const zombie = startProgram({ env });
  await zombie.ready();
  const { relayer } = await zombie.logged(/^registered/);
  await insert(database.pool, COUNT);
  await gateway.received(FAST);
  const claims = async () =>
    (await database.pool.query("select from outbox.messages where claimed_by = $1", [relayer])).rowCount ?? 0;
  // One POST hangs; what was claimed ahead, while they went fast, waits for it.
  let claimed = -1;
  await eventually(claims, (count) => {
    const settled = count === claimed;
    claimed = count;
    return settled;
  });
  expect(claimed).toBeGreaterThan(1);
  zombie.kill("SIGSTOP");

  const other = startProgram({ env });
  await other.ready();
  await other.logged(/^another relayer is gone/);
  await allSent(database.pool, COUNT);
  const posts = gateway.requests.length;
  expect(posts).toBe(COUNT + 1);

  held.resolve({});
  zombie.kill("SIGCONT");
  await zombie.logged(/^results came too late/);
  await zombie.logged(/^this relayer lost its number/);
  const { rows } = await eventually(
    () => database.pool.query("select id from outbox.relayers"),
    ({ rowCount }) => rowCount === 2,
  );
  expect(rows.map(({ id }) => id)).not.toContain(relayer);
  expect(gateway.requests).toHaveLength(posts);
  for (const program of [zombie, other]) {
    program.kill("SIGTERM");
    expect((await program.end).code).toBe(0);
  }
});
