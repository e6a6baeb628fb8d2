import { describe, expect, test } from "vitest";
import { noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, gateway, insertMany, register, value } = outbox;

async function limited(rate: number, burst: number, waiting = 100): Promise<number> {
  await outbox.pool.query("update outbox.gateways set rate_per_second = $1, burst = $2", [rate, burst]);
  await insertMany(waiting, { available_at: noon(-60_000) });
  return (await register()).id;
}

const claimed = async (relayer: number, atMs: number, batch = 100) =>
  (await claim(relayer, batch, { as_of: noon(atMs) })).length;
const due = (atMs: number) => value("select outbox.next_due('default', $1)", [noon(atMs)]);

describe("a gateway's rate", () => {
  test("lets a burst go, then so many a second", async () => {
    const relayer = await limited(10, 5);
    expect(await claimed(relayer, 0)).toBe(5);
    expect(await claimed(relayer, 0)).toBe(0);
    expect(await claimed(relayer, 99)).toBe(0);
    expect(await claimed(relayer, 100)).toBe(1);
    expect(await claimed(relayer, 350)).toBe(2);
    expect(await claimed(relayer, 400)).toBe(1);
    expect(await claimed(relayer, 60_000)).toBe(5);
  });

  test("holds for all relayers together", async () => {
    const relayers = [
      await limited(50, 10),
      (await register()).id,
      (await register()).id,
      (await register()).id,
    ];
    let count = 0;
    for (let ms = 0; ms <= 1_000; ms += 7) count += await claimed(relayers[(ms / 7) % 4] as number, ms, 3);
    expect(count).toBe(10 + 49);
  });

  test("holds for relayers that claim at the same time: the second finds nothing this time, and waits for nobody", async () => {
    const [one, two] = [await limited(1, 4), (await register()).id];
    const first = await outbox.session();
    await first.query("begin");
    expect(await claim(one, 3, { as_of: noon(), on: first })).toHaveLength(3);
    expect(await claimed(two, 0, 3)).toBe(0);
    await first.query("commit");
    expect(await claimed(two, 0, 3)).toBe(1);
  });

  test("has a burst of what it gives in 100 ms, at least 10, unless it is named", async () => {
    const relayer = await limited(1_000, 1, 500);
    await outbox.pool.query("update outbox.gateways set burst = null");
    expect(await claimed(relayer, 0, 500)).toBe(100);
    await outbox.pool.query("update outbox.gateways set rate_per_second = 5, tokens_at = default");
    expect(await claimed(relayer, 0, 500)).toBe(10);
  });

  test("is not kept waiting by a clock that was ahead", async () => {
    const relayer = await limited(10, 5);
    await claimed(relayer, 3_600_000);
    expect(await due(0)).toBeLessThanOrEqual(0);
    expect(await claimed(relayer, 0)).toBe(5);
    expect(await claimed(relayer, 0)).toBe(0);
    expect(await claimed(relayer, 200)).toBe(2);
  });

  test("takes no token for what was not there to claim", async () => {
    const relayer = await limited(1, 5, 2);
    expect(await claimed(relayer, 0)).toBe(2);
    await insertMany(10, { available_at: noon(-1) });
    expect(await claimed(relayer, 0)).toBe(3);
  });

  test("may be less than one a second", async () => {
    const relayer = await limited(0.1, 1);
    expect(await claimed(relayer, 0)).toBe(1);
    expect(await claimed(relayer, 9_999)).toBe(0);
    expect(await claimed(relayer, 10_000)).toBe(1);
  });

  test("gives back the tokens of what was not sent", async () => {
    const relayer = await limited(10, 5);
    const claims = await claim(relayer, 5, { as_of: noon() });
    const ids = claims.map(({ id }) => id).sort((a, b) => a - b);
    expect(await value("select outbox.release($1, $2)", [relayer, ids.slice(0, 2)])).toBe(2);
    expect(await claimed(relayer, 0)).toBe(2);
    expect(await claimed(relayer, 0)).toBe(0);
  });

  test("is looked at again when tokens have come: one, or what 50 ms bring", async () => {
    const relayer = await limited(10, 5);
    await claimed(relayer, 0);
    expect(await due(0)).toBe(100);
    await outbox.pool.query(
      "update outbox.gateways set rate_per_second = 1000, burst = 500, tokens_at = default",
    );
    await insertMany(450, { available_at: noon(-60_000) });
    expect(await claimed(relayer, 0, 500)).toBe(500);
    expect(await due(0)).toBe(50);
    await outbox.pool.query("update outbox.gateways set tokens_at = default");
    expect(await due(0)).toBeLessThanOrEqual(0);
  });

  test("changes at once when a person changes it", async () => {
    const relayer = await limited(1, 1);
    await claimed(relayer, 0);
    await outbox.pool.query("update outbox.gateways set rate_per_second = 100");
    expect(await claimed(relayer, 10)).toBe(1);
    await outbox.pool.query("update outbox.gateways set rate_per_second = null");
    expect(await claimed(relayer, 10)).toBe(98);
  });

  test("of another gateway has a bucket of its own", async () => {
    const relayer = await limited(1, 1);
    await outbox.addGateway("other", { rate_per_second: 1, burst: 2 });
    await insertMany(5, { gateway: "other", available_at: noon() });
    expect(await claimed(relayer, 0)).toBe(1);
    expect(await claim(relayer, 5, { as_of: noon(), gateway: "other" })).toHaveLength(2);
  });

  test("that is not there costs no write", async () => {
    const { id } = await register();
    await insertMany(5, { available_at: noon() });
    const version = () => value("select xmin::text from outbox.gateways");
    const before = await version();
    await claimed(id, 0);
    expect(await version()).toBe(before);
    expect(await gateway()).toMatchObject({ rate_per_second: null, tokens: 0 });
  });
});
