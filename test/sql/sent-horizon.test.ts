import { describe, expect, test } from "vitest";
import { between, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insertMany, register, rows, settle, value } = outbox;

const horizon = (): Promise<string> => value("select outbox.sent_horizon()");
const clock = (): Promise<string> => value("select clock_timestamp()");

describe("sent_horizon", () => {
  test("is now while nothing is being settled", async () => {
    const before = await clock();
    const reached = await horizon();
    expect(reached > before).toBe(true);
    expect(reached < (await clock())).toBe(true);
  });

  test("stays before the rows of a settle that is not committed, and then moves on", async () => {
    const relayer = await register();
    const [id] = (await insertMany(1)) as [number];
    await claim(relayer.id);
    await relayer.client.query("begin");
    const { settled_at } = await settle(relayer.id, [{ id }], { on: relayer.client });
    const during = await horizon();
    expect(during <= settled_at).toBe(true);
    // The lock holds milliseconds.
    expect(between(during, settled_at)).toBeLessThan(1_000);
    expect(await horizon()).toBe(during);
    await relayer.client.query("commit");
    expect((await horizon()) > settled_at).toBe(true);
  });

  test("moves on when the settle is rolled back, and when its connection is lost", async () => {
    for (const end of ["rollback", "select pg_terminate_backend(pg_backend_pid())"]) {
      const session = await outbox.session();
      const relayer = (await register()).id;
      await session.query("begin");
      await settle(relayer, [], { on: session });
      const during = await horizon();
      await session.query(end).catch(() => {});
      await expect.poll(horizon).not.toBe(during);
    }
  });

  test("is that of the oldest of several", async () => {
    const [one, two] = [await register(), await register()];
    await one.client.query("begin");
    const first = await settle(one.id, [], { on: one.client });
    await expect.poll(() => clock()).not.toBe(first.settled_at);
    await two.client.query("begin");
    await settle(two.id, [], { on: two.client });
    const during = await horizon();
    expect(during <= first.settled_at).toBe(true);
    await two.client.query("commit");
    expect(await horizon()).toBe(during);
    await one.client.query("commit");
    expect((await horizon()) > during).toBe(true);
  });

  test("minds no other lock, ours or not", async () => {
    const session = await outbox.session();
    await session.query("select outbox.register_relayer('x', '1')");
    await session.query("select pg_advisory_lock(0), pg_advisory_lock(1), pg_advisory_lock(-1)");
    await session.query("select pg_advisory_lock(9223372036854775807), pg_advisory_lock(1, 1)");
    await session.query("begin");
    await session.query("select outbox.pause()");
    const before = await clock();
    expect((await horizon()) > before).toBe(true);
  });

  test("minds no settle of another database on the server", async () => {
    const session = await outbox.session();
    await session.query("select pg_advisory_lock(outbox.settle_lock(now() - interval '1 hour'))");
    expect(between(await horizon(), await clock())).toBeGreaterThan(3_000_000);
    await session.query("select pg_advisory_unlock_all()");
    // Locks are seen server-wide, and so is this one of the neighbour.
    const neighbour = await outbox.session("postgres");
    await neighbour.query("select pg_advisory_lock($1)", [
      await value("select outbox.settle_lock(now() - interval '1 hour')::text"),
    ]);
    expect(between(await horizon(), await clock())).toBeLessThan(60_000);
  });

  test("makes a reader see every row once, in order, while a crowd settles", async () => {
    const relayers = await Promise.all(Array.from({ length: 4 }, () => register()));
    const ids = await insertMany(400);
    let settling = relayers.length;
    const work = relayers.map(async ({ id, client }) => {
      for (;;) {
        const claims = await claim(id, 5, { on: client });
        if (
          claims.length === 0 &&
          (await value("select not exists (select from outbox.messages where claimed_by is null)"))
        )
          break;
        await client.query("begin");
        await settle(
          id,
          claims.map(({ id: message, attempt }) => ({ id: message, attempt })).sort((a, b) => a.id - b.id),
          {
            on: client,
          },
        );
        // An open transaction, of a length that varies.
        if (Math.random() < 0.5) await client.query("select pg_sleep(random() * 0.01)");
        await client.query("commit");
      }
      settling--;
    });
    const seen: { id: number; sent_at: string }[] = [];
    const reader = await outbox.session();
    for (let last = false, cursor = "-infinity"; !last; ) {
      last = settling === 0;
      const until = (await outbox.row("select outbox.sent_horizon() as until", [], reader)).until;
      const page = await rows(
        "select id, sent_at from outbox.sent where sent_at > $1 and sent_at < $2 order by sent_at, id",
        [cursor, until],
        reader,
      );
      seen.push(...(page as typeof seen));
      cursor = seen.at(-1)?.sent_at ?? cursor;
    }
    await Promise.all(work);
    expect(seen.map(({ id }) => id).sort((a, b) => a - b)).toEqual(ids);
  });
});
