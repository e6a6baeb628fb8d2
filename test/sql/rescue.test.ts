import { describe, expect, test } from "vitest";
import { failure, fromNow, noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { attempts, claim, insert, insertMany, message, places, register, rows, settle, value } = outbox;

const rescue = (deadAfter = "30 seconds", as_of?: string, on?: Awaited<ReturnType<typeof outbox.session>>) =>
  rows("select * from outbox.rescue($1, coalesce($2, clock_timestamp()))", [deadAfter, as_of], on);

const release = (relayer: number, ids: readonly number[]): Promise<number> =>
  value("select outbox.release($1, $2)", [relayer, ids]);

/** A relayer whose connection is gone. */
async function gone(name?: string): Promise<number> {
  const { id, client } = await register(name);
  const { processID } = client as unknown as { processID: number };
  await client.end();
  await expect
    .poll(() => value("select count(*)::int from pg_stat_activity where pid = $1", [processID]), {
      interval: 5,
    })
    .toBe(0);
  return id;
}

/** Claims under a number, as if its relayer had done so before it went. */
async function claimedBy(relayer: number, many = 1, columns = {}): Promise<number[]> {
  const ids = await insertMany(many, columns);
  await claim(relayer, many);
  return ids;
}

describe("register_relayer", () => {
  test("gives each its own number, and a row that says who it is", async () => {
    const [one, two] = [await register("host:1"), await register("host:2")];
    expect(one.id).not.toBe(two.id);
    expect(
      await outbox.row(
        "select name, version, started_at > now() - interval '1 minute' as now, heartbeat_at >= started_at as heard from outbox.relayers where id = $1",
        [one.id],
      ),
    ).toEqual({ name: "host:1", version: "1.0", now: true, heard: true });
  });

  test("holds the lock that proves it alive", async () => {
    const { id } = await register();
    const alive = () =>
      value("select outbox.relayer_is_alive(id, heartbeat_at) from outbox.relayers where id = $1", [id]);
    expect(await alive()).toBe(true);
    expect(await value("select outbox.relayer_is_alive($1, now())", [await gone()])).toBe(false);
  });

  test("is seen with its lock from the first moment", async () => {
    const [session, rescuer] = [await outbox.session(), await outbox.session()];
    await session.query("begin");
    await session.query("select outbox.register_relayer('new', '1.0')");
    expect(await rescue("30 seconds", undefined, rescuer)).toEqual([]);
    await session.query("commit");
    expect(await rescue("30 seconds", undefined, rescuer)).toEqual([]);
  });
});

describe("heartbeat", () => {
  test("is kept, and true while the relayer is known", async () => {
    const { id } = await register();
    expect(await value("select outbox.heartbeat($1, as_of => $2)", [id, noon()])).toBe(true);
    expect(await value("select heartbeat_at from outbox.relayers")).toBe(noon().replace("Z", "000Z"));
  });

  test("is false for one that was rescued, which then cannot claim", async () => {
    const { id } = await register();
    await rescue("30 seconds", fromNow(60_000));
    expect(await value("select outbox.heartbeat($1)", [id])).toBe(false);
    expect((await failure(claim(id))).code).toBe("OB002");
  });

  test("does not wait for a claim under way, nor a claim for it", async () => {
    const { id, client } = await register();
    await client.query("begin");
    await claim(id, 1, { on: client });
    expect(await value("select outbox.heartbeat($1)", [id])).toBe(true);
    await client.query("commit");
    await client.query("begin");
    await client.query("select outbox.heartbeat($1)", [id]);
    expect(await claim(id)).toEqual([]);
    await client.query("commit");
  });
});

describe("unregister_relayer", () => {
  test("forgets the relayer and frees its lock", async () => {
    const { id, client } = await register();
    await client.query("select outbox.unregister_relayer($1)", [id]);
    expect(await rows("select from outbox.relayers")).toEqual([]);
    expect(
      await value(
        "select count(*)::int from pg_locks join pg_database on pg_database.oid = database where locktype = 'advisory' and datname = current_database() and objid = $1",
        [id],
      ),
    ).toBe(0);
    expect(await rescue()).toEqual([]);
  });

  test("with claims left stays on the list, and the rescue frees them at once", async () => {
    const { id, client } = await register();
    const [message1] = (await claimedBy(id)) as [number];
    await client.query("select outbox.unregister_relayer($1)", [id]);
    expect(await rescue()).toMatchObject([{ relayer: id, rescued: 1 }]);
    expect(await message(message1)).toMatchObject({ claimed_by: null });
  });

  test("waits for a claim under way, which would otherwise belong to nobody, for ever", async () => {
    const { id, client } = await register();
    const claiming = await outbox.session();
    const waiting = await insert();
    await claiming.query("begin");
    await claim(id, 1, { on: claiming });
    const farewell = client.query("select outbox.unregister_relayer($1)", [id]);
    await outbox.blocked(client);
    await claiming.query("commit");
    await farewell;
    expect(await rescue()).toMatchObject([{ relayer: id, rescued: 1 }]);
    expect(await message(waiting)).toMatchObject({ claimed_by: null });
  });
});

describe("release", () => {
  test("gives back what is the relayer's, uncounted, where it was", async () => {
    const relayer = await register();
    const id = await insert({ available_at: noon() });
    await claim(relayer.id, 1, { as_of: noon(1) });
    expect(await release(relayer.id, [id])).toBe(1);
    expect(await message(id)).toMatchObject({
      claimed_by: null,
      claimed_at: null,
      attempts: 0,
      available_at: noon().replace("Z", "000Z"),
      last_error: null,
    });
    expect(await attempts(id)).toEqual([]);
  });

  test("leaves alone what is not its own", async () => {
    const [one, two] = [await register(), await register()];
    const [theirs] = (await claimedBy(two.id)) as [number];
    const [own] = (await claimedBy(one.id)) as [number];
    const waiting = await insert();
    expect(await release(one.id, [theirs, own, waiting, waiting + 1_000])).toBe(1);
    expect(await message(theirs)).toMatchObject({ claimed_by: two.id, attempts: 1 });
    expect(await release(one.id, [theirs, own])).toBe(0);
    expect(await release(one.id, [])).toBe(0);
    expect(await value("select min(attempts)::int from outbox.messages")).toBe(0);
  });

  test("keeps the attempts before", async () => {
    const relayer = await register();
    const id = await insert();
    await outbox.pool.query("update outbox.messages set attempts = 2");
    await claim(relayer.id);
    await release(relayer.id, [id]);
    expect(await message(id)).toMatchObject({ attempts: 2 });
  });

  test("tells those who listen, unless it was nothing", async () => {
    const relayer = await register();
    const listener = await outbox.session();
    const payloads: unknown[] = [];
    listener.on("notification", ({ payload }) => payloads.push(payload));
    await listener.query("listen outbox");
    const ids = await claimedBy(relayer.id, 3);
    payloads.length = 0;
    await release(relayer.id, ids);
    await release(relayer.id, ids);
    await outbox.pool.query("select pg_notify('outbox', 'last')");
    await expect.poll(() => payloads).toContain("last");
    expect(payloads.filter((payload) => payload !== "insert")).toEqual(["release", "last"]);
  });
});

describe("disown", () => {
  const disown = (relayer: number, gateway: string, known: readonly number[]): Promise<number> =>
    value("select outbox.disown($1, $2, $3)", [relayer, gateway, known]);

  test("gives back what the relayer does not know of, uncounted", async () => {
    const relayer = await register();
    const [known, lost] = (await claimedBy(relayer.id, 2)) as [number, number];
    expect(await disown(relayer.id, "default", [known])).toBe(1);
    expect(await message(lost)).toMatchObject({ claimed_by: null, attempts: 0 });
    expect(await message(known)).toMatchObject({ claimed_by: relayer.id, attempts: 1 });
    expect(await disown(relayer.id, "default", [known])).toBe(0);
    expect(await disown(relayer.id, "default", [])).toBe(1);
  });

  test("leaves other gateways and other relayers alone", async () => {
    const [one, two] = [await register(), await register()];
    await outbox.addGateway("other");
    await claimedBy(two.id);
    await insert({ gateway: "other" });
    await claim(one.id, 1, { gateway: "other" });
    expect(await disown(one.id, "default", [])).toBe(0);
    expect(await disown(one.id, "other", [])).toBe(1);
  });
});

describe("rescue", () => {
  test("leaves a relayer alone that holds its lock and was heard of", async () => {
    const relayer = await register();
    await claimedBy(relayer.id);
    expect(await rescue()).toEqual([]);
    expect(await value("select claimed_by from outbox.messages")).toBe(relayer.id);
    expect(await value("select outbox.heartbeat($1)", [relayer.id])).toBe(true);
  });

  test("frees the claims of one whose connection is gone, at once, counted and on record", async () => {
    const dead = await gone("host:7");
    const [id] = (await claimedBy(dead)) as [number];
    expect(await rescue("30 seconds", fromNow(1))).toEqual([{ relayer: dead, name: "host:7", rescued: 1 }]);
    const error = `claimed by relayer ${dead} (host:7), which died; outcome unknown`;
    expect(await message(id)).toMatchObject({
      claimed_by: null,
      claimed_at: null,
      attempts: 1,
      last_error: error,
    });
    expect(await attempts(id)).toEqual([
      {
        message_id: id,
        attempt: 1,
        gateway: "default",
        relayer: dead,
        outcome: "unknown",
        http_status: null,
        gateway_message_id: null,
        error,
        duration_ms: null,
        ended_at: expect.any(String),
      },
    ]);
    expect(await rows("select from outbox.relayers")).toEqual([]);
    const other = await register();
    expect(await claim(other.id)).toMatchObject([{ id, attempt: 2 }]);
  });

  test("frees the claims of one that was not heard of, though its lock is held", async () => {
    const relayer = await register();
    await claimedBy(relayer.id);
    const heard = await value("select heartbeat_at from outbox.relayers");
    const later = (ms: number) => new Date(Date.parse(heard) + ms).toISOString();
    expect(await rescue("30 seconds", later(29_900))).toEqual([]);
    expect(await rescue("30 seconds", later(30_001))).toMatchObject([{ relayer: relayer.id, rescued: 1 }]);
  });

  test("makes late results of the one it took for dead stale", async () => {
    const [zombie, other] = [await register(), await register()];
    const [id] = (await claimedBy(zombie.id)) as [number];
    await outbox.pool.query("select outbox.heartbeat($1, as_of => $2)", [other.id, fromNow(60_000)]);
    await rescue("30 seconds", fromNow(60_000));
    expect(await settle(zombie.id, [{ id }])).toMatchObject({ sent: 0, stale: [id] });
    await claim(other.id);
    expect(await settle(zombie.id, [{ id }])).toMatchObject({ sent: 0, stale: [id] });
    expect(await settle(other.id, [{ id, attempt: 2 }])).toMatchObject({ sent: 1 });
  });

  test("buries what had its last attempt", async () => {
    await outbox.pool.query("update outbox.gateways set max_attempts = 2");
    const dead = await gone();
    const [first, last] = (await insertMany(2)) as [number, number];
    await outbox.pool.query("update outbox.messages set attempts = 1 where id = $1", [last]);
    await claim(dead);
    expect(await rescue()).toMatchObject([{ relayer: dead, rescued: 2 }]);
    expect(await places(first)).toEqual(["messages"]);
    expect(await outbox.dead(last)).toMatchObject({
      reason: "exhausted",
      attempts: 2,
      claimed_by: dead,
      error: expect.stringContaining("which died"),
    });
    expect(await attempts(last)).toMatchObject([{ attempt: 2, outcome: "unknown" }]);
  });

  test("parks where the gateway says so", async () => {
    await outbox.pool.query("update outbox.gateways set on_unknown = 'park'");
    const dead = await gone();
    const [id] = (await claimedBy(dead)) as [number];
    await rescue();
    expect(await outbox.dead(id)).toMatchObject({ reason: "unknown_outcome", attempts: 1 });
  });

  test("says who was gone and how many claims each had, none included", async () => {
    const [busy, idle, busier] = [await gone("busy"), await gone("idle"), await gone("busier")];
    const alive = await register("alive");
    await claimedBy(busy, 2);
    await claimedBy(busier, 3);
    await claimedBy(alive.id, 1);
    expect(await rescue()).toEqual([
      { relayer: busy, name: "busy", rescued: 2 },
      { relayer: idle, name: "idle", rescued: 0 },
      { relayer: busier, name: "busier", rescued: 3 },
    ]);
    expect(await rescue()).toEqual([]);
  });

  test("twice at once is once", async () => {
    const dead = await gone();
    const [id] = (await claimedBy(dead)) as [number];
    const one = await outbox.session();
    await one.query("begin");
    expect(await rescue("30 seconds", undefined, one)).toHaveLength(1);
    expect(await rescue()).toEqual([]);
    await one.query("commit");
    expect(await rescue()).toEqual([]);
    expect(await attempts(id)).toHaveLength(1);
  });

  test("waits for a claim of the dead that is still under way, and frees it too", async () => {
    const relayer = await register();
    const [claiming, rescuer] = [await outbox.session(), await outbox.session()];
    await insert();
    await claiming.query("begin");
    await claim(relayer.id, 1, { on: claiming });
    const rescued = rescue("0 seconds", undefined, rescuer);
    await outbox.blocked(rescuer);
    await claiming.query("commit");
    expect(await rescued).toMatchObject([{ relayer: relayer.id, rescued: 1 }]);
    expect(await value("select count(*)::int from outbox.messages where claimed_by is not null")).toBe(0);
  });

  test("keeps a claim that comes during it from its number", async () => {
    const relayer = await register();
    const rescuer = await outbox.session();
    await insert();
    await rescuer.query("begin");
    await rescue("0 seconds", undefined, rescuer);
    const claimed = failure(claim(relayer.id, 1, { on: relayer.client }));
    await outbox.blocked(relayer.client);
    await rescuer.query("commit");
    expect((await claimed).code).toBe("OB002");
  });

  test("frees the rest while somebody has locked one of the claims, and that one later", async () => {
    const dead = await gone();
    const [locked, free] = (await claimedBy(dead, 2)) as [number, number];
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select from outbox.messages where id = $1 for update", [locked]);
    expect(await rescue()).toMatchObject([{ relayer: dead, rescued: 1 }]);
    expect(await message(free)).toMatchObject({ claimed_by: null });
    expect(await rescue()).toEqual([]);
    await person.query("rollback");
    expect(await rescue()).toMatchObject([{ relayer: dead, rescued: 1 }]);
    expect(await message(locked)).toMatchObject({ claimed_by: null, attempts: 1 });
    expect(await rescue()).toEqual([]);
  });

  test("is final, also for a relayer that has a claim left which somebody has locked", async () => {
    const zombie = await register();
    await claimedBy(zombie.id);
    const waiting = await insert();
    const person = await outbox.session();
    await person.query("begin");
    await person.query("select from outbox.messages for update");
    await rescue("30 seconds", fromNow(60_000));
    await person.query("rollback");
    expect(await value("select outbox.heartbeat($1)", [zombie.id])).toBe(false);
    expect((await failure(claim(zombie.id))).code).toBe("OB002");
    expect(await rescue()).toMatchObject([{ relayer: zombie.id, rescued: 1 }]);
    expect(await message(waiting)).toMatchObject({ claimed_by: null, attempts: 0 });
  });

  test("of a paused outbox works; the claims wait for resume", async () => {
    const dead = await gone();
    await claimedBy(dead);
    await outbox.pool.query("select outbox.pause()");
    expect(await rescue()).toMatchObject([{ rescued: 1 }]);
    expect(await claim((await register()).id)).toEqual([]);
  });
});
