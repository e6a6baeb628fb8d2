import { describe, expect, test } from "vitest";
import { useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { insert, rows, value } = outbox;

const SMALL = 8 * 1024 * 1024;

const rebuild = async () =>
  (await rows("select outbox.rebuild_indexes() as did")).map(({ did }) => did as string);
const indexes = () => value("select pg_indexes_size('outbox.messages')::int") as Promise<number>;
const tableSize = () => value("select pg_relation_size('outbox.messages')::int") as Promise<number>;

async function peak(): Promise<void> {
  await outbox.pool.query(
    "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 200000)",
  );
}

/** Everything has gone, and vacuum has been there. */
async function over(): Promise<void> {
  await outbox.pool.query("delete from outbox.messages");
  await outbox.pool.query("vacuum outbox.messages");
}

describe("the indexes of the outbox", () => {
  test("are small again after a peak, once, and work", async () => {
    await peak();
    await over();
    expect(await tableSize()).toBe(0);
    expect(await indexes()).toBeGreaterThan(SMALL);
    const waiting = await insert();

    expect(await rebuild()).toEqual([
      expect.stringMatching(/^rebuilt the indexes of outbox\.messages: \d+ kB, and \d+ MB before$/),
    ]);
    expect(await indexes()).toBeLessThan(SMALL / 10);
    expect(await rows("select id from outbox.messages where id = $1", [waiting])).toEqual([{ id: waiting }]);
    expect(await rebuild()).toEqual([]);
  });

  test("are left alone while the outbox is full, or has not been vacuumed", async () => {
    await peak();
    const full = await indexes();
    expect(full).toBeGreaterThan(SMALL);
    expect(await rebuild()).toEqual([]);
    await outbox.pool.query("delete from outbox.messages");
    expect(await rebuild()).toEqual([]);
    expect(await indexes()).toBe(full);
  });

  test("are rebuilt by the housekeeping, which waits for no producer", async () => {
    await peak();
    await over();
    const large = await indexes();
    const producer = await outbox.session();
    await producer.query("begin");
    await producer.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");
    const maintain = async () =>
      (await rows("select outbox.maintain() as did")).map(({ did }) => did as string);

    expect(await maintain()).toContain("outbox.messages is busy: its indexes are rebuilt next time");
    expect(await indexes()).toBe(large);

    await producer.query("commit");
    expect(await maintain()).toContainEqual(expect.stringContaining("rebuilt the indexes"));
    expect(await value("select count(*)::int from outbox.messages")).toBe(1);
  });
});
