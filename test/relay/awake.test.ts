import { expect, test } from "vitest";
import { createAwake } from "../../src/relay/awake.ts";

function awakeAt() {
  const clock = { ms: 0 };
  const leases: number[] = [];
  const woken: number[] = [];
  const errors: unknown[] = [];
  const database: { away: Error | undefined } = { away: undefined };
  const awake = createAwake({
    async promise(leaseMs) {
      if (database.away) throw database.away;
      leases.push(leaseMs);
    },
    onAwake: () => woken.push(clock.ms),
    onError: (error) => errors.push(error),
    now: () => clock.ms,
  });
  /** So many fruitful claims, `everyMs` apart. Returns what the last one was told. */
  const claim = async (count: number, everyMs: number) => {
    let told: number | undefined;
    for (let i = 0; i < count; i++) {
      clock.ms += everyMs;
      told = awake.claimed(1);
      await Promise.resolve(); // the promise is kept in a microtask
      await Promise.resolve();
    }
    return told;
  };
  return { awake, clock, leases, woken, errors, database, claim };
}

test("quiet traffic never writes a lease", async () => {
  const { claim, leases } = awakeAt();
  expect(await claim(500, 50)).toBeUndefined(); // 20 a second
  expect(leases).toEqual([]);
});

test("fast traffic takes a lease, and a new one only when the first is nearly over", async () => {
  const { claim, leases } = awakeAt();
  expect(await claim(100, 2)).toBeGreaterThan(0);
  expect(leases).toEqual([3_000]);
  await claim(650, 2);
  expect(leases).toHaveLength(1);
  await claim(200, 2);
  expect(leases).toHaveLength(2);
});

test("steady traffic keeps its lease, though whoever is awake looks seldom; without traffic the lease ends", async () => {
  const { awake, claim, clock, leases } = awakeAt();
  await claim(60, 2);
  for (let look = 0; look < 1_000; look++) expect(await claim(1, 10)).toBeGreaterThan(0);
  expect(leases.length).toBeGreaterThanOrEqual(6);
  const taken = leases.length;
  for (let look = 0; look < 60; look++) await claim(1, 60);
  expect(leases.length).toBe(taken);
  clock.ms += 10;
  expect(awake.claimed(0)).toBeUndefined();
});

test("whoever sleeps until it is told is woken when the promise holds, for now nobody tells", async () => {
  const { claim, clock, woken, database } = awakeAt();
  await claim(60, 2);
  expect(woken).toEqual([clock.ms]);
  clock.ms += 4_000;
  database.away = new Error("away");
  await claim(65, 2);
  expect(woken).toHaveLength(1);
});

test("it looks by itself for longer than it promised, then goes back to being told", async () => {
  const { awake, claim, clock } = awakeAt();
  await claim(60, 2);
  const promisedAt = clock.ms;
  clock.ms = promisedAt + 3_001;
  expect(awake.claimed(0)).toBeGreaterThan(0);
  clock.ms = promisedAt + 3_200;
  expect(awake.claimed(0)).toBeUndefined();
});

test("claims that find nothing are no traffic", () => {
  const { awake, leases } = awakeAt();
  for (let i = 0; i < 1_000; i++) awake.claimed(0);
  expect(leases).toEqual([]);
});

test("many NOTIFYs take a lease, also when they bring nothing that is due", async () => {
  const { awake, clock, leases } = awakeAt();
  for (let i = 0; i < 59; i++) awake.told();
  clock.ms += 201;
  for (let i = 0; i < 59; i++) awake.told();
  expect(leases).toEqual([]);
  awake.told();
  expect(leases).toEqual([3_000]);
});

test("a NOTIFY and the claim that it leads to are counted once", () => {
  const { awake, leases } = awakeAt();
  for (let i = 0; i < 59; i++) {
    awake.told();
    awake.claimed(1);
  }
  expect(leases).toEqual([]);
});

test("a promise that could not be written is no promise", async () => {
  const { claim, database, errors } = awakeAt();
  database.away = new Error("away");
  expect(await claim(65, 2)).toBeUndefined();
  expect(errors).toEqual([database.away]);
});
