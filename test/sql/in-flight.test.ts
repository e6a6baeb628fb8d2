import { describe, expect, test } from "vitest";
import { fromNow, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insert, insertMany, register, row, rows, settle } = outbox;

describe("in_flight", () => {
  const inFlight = () => rows("select * from outbox.in_flight");

  test("is what is claimed, and nothing else", async () => {
    const relayer = await register("host:1");
    const [sent] = (await insertMany(1)) as [number];
    await claim(relayer.id);
    await settle(relayer.id, [{ id: sent }]);
    const id = await insert({ priority: 0 });
    const [claimed] = await claim(relayer.id);
    await insert();
    expect(await inFlight()).toEqual([
      {
        relayer: relayer.id,
        name: "host:1",
        alive: true,
        gateway: "default",
        id,
        priority: 0,
        attempt: 1,
        claimed_at: claimed?.claimed_at,
        age: expect.anything(),
      },
    ]);
  });

  test("has the oldest first, with its age", async () => {
    const relayer = await register();
    const [a, b, c] = (await insertMany(3, { available_at: "2000-01-01" })) as [number, number, number];
    for (const ago of [30_000, 90_000, 60_000]) await claim(relayer.id, 1, { as_of: fromNow(-ago) });
    expect((await inFlight()).map(({ id }) => id)).toEqual([b, c, a]);
    const { old } = await row("select max(age) between '90 s' and '120 s' as old from outbox.in_flight");
    expect(old).toBe(true);
  });

  test("tells whether the relayer lives, also once its row is gone", async () => {
    const living = await register();
    const dead = await register();
    const silent = await register();
    await insertMany(3);
    for (const { id } of [living, dead, silent]) await claim(id, 1);
    await dead.client.query("select pg_advisory_unlock_all()");
    await outbox.pool.query("update outbox.relayers set heartbeat_at = '-infinity' where id = $1", [
      silent.id,
    ]);
    const lives = async () =>
      Object.fromEntries((await inFlight()).map(({ relayer, alive }) => [relayer, alive]));
    expect(await lives()).toEqual({ [living.id]: true, [dead.id]: false, [silent.id]: false });
    await outbox.pool.query("delete from outbox.relayers where id = $1", [dead.id]);
    expect(await lives()).toEqual({ [living.id]: true, [dead.id]: false, [silent.id]: false });
  });

  test("shows neither text nor recipient", async () => {
    await insert({ recipient: "+905550000001", content: "a secret code" });
    await claim((await register()).id);
    expect(JSON.stringify(await inFlight())).not.toMatch(/905550000001|a secret code/);
  });
});

describe("relayer_status", () => {
  const status = () => rows("select * from outbox.relayer_status");

  test("is each relayer, with what it has claimed", async () => {
    const busy = await register("busy");
    const idle = await register("idle");
    await insertMany(3, { available_at: "2000-01-01" });
    await claim(busy.id, 1, { as_of: fromNow(-90_000) });
    await claim(busy.id);
    await outbox.pool.query("select outbox.heartbeat($1, 'worker-1')", [busy.id]);
    const seen = await status();
    expect(seen).toEqual([
      {
        id: busy.id,
        name: "busy",
        version: "1.0",
        alive: true,
        started_at: expect.any(String),
        heartbeat_at: expect.any(String),
        heartbeat_age: expect.anything(),
        in_flight: 3,
        oldest_claim_age: expect.anything(),
        worker: "worker-1",
      },
      expect.objectContaining({
        id: idle.id,
        alive: true,
        in_flight: 0,
        oldest_claim_age: null,
        worker: null,
      }),
    ]);
    expect(
      await row(
        `select heartbeat_age between '0' and '20 s' as heard, oldest_claim_age between '90 s' and '120 s' as old
         from outbox.relayer_status where name = 'busy'`,
      ),
    ).toEqual({ heard: true, old: true });
  });

  test("tells the dead from the living", async () => {
    const [living, silent, gone, taken] = [
      await register("living"),
      await register("silent"),
      await register("gone"),
      await register("taken for dead"),
    ];
    await outbox.pool.query("select outbox.heartbeat($1, as_of => now() - interval '31 seconds')", [
      silent.id,
    ]);
    await gone.client.query("select pg_advisory_unlock_all()");
    await outbox.pool.query("update outbox.relayers set heartbeat_at = '-infinity' where id = $1", [
      taken.id,
    ]);
    const seen = await status();
    expect(seen.map(({ name, alive }) => [name, alive])).toEqual([
      ["living", true],
      ["silent", false],
      ["gone", false],
      ["taken for dead", false],
    ]);
    expect(seen.at(-1)).toMatchObject({ heartbeat_at: null, heartbeat_age: null });
    expect(living.id).toBe(seen[0]?.id);
  });
});
