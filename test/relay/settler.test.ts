import { expect, test } from "vitest";
import type { Result, Settled } from "../../src/db/outbox.ts";
import { createSettler } from "../../src/relay/settler.ts";

const AWAY = new Error("away");
const NOTHING: Settled = { settled_at: "", sent: 0, stale: [], dead: [], dead_reasons: [], held: [] };

function result(id: number, relayer = 1): Result {
  return {
    claim: {
      id,
      relayer,
      attempt: 1,
      claimed_at: "2026-11-23T14:11:00.000000Z",
      recipient: "",
      content: "",
      traceparent: null,
      revision: 0,
      expiresAtMs: Number.POSITIVE_INFINITY,
      priority: 1,
      dueSinceMs: 0,
    },
    outcome: {
      kind: "accepted",
      httpStatus: 202,
      gatewayMessageId: `gw-${id}`,
      error: null,
      durationMs: 1,
      retryAfterMs: null,
    },
    moot: false,
  };
}

type Group = { relayer: number; ids: number[] };

function settlerWith(settle: (group: Group) => Promise<void>) {
  const groups: Group[] = [];
  const settled: number[] = [];
  const refused: number[] = [];
  const settler = createSettler({
    retryMs: 1,
    async settle(relayer, results) {
      const group = { relayer, ids: results.map(({ claim }) => claim.id) };
      groups.push(group);
      await settle(group);
      return NOTHING;
    },
    onSettled: (results) => settled.push(...results.map(({ claim }) => claim.id)),
    onRefused: ({ claim }) => refused.push(claim.id),
    onError: () => {},
    isOutage: (error) => error === AWAY,
  });
  return { settler, groups, settled, refused };
}

const never = new AbortController().signal;

test("what completes together is settled together, sorted by id, one group at a time", async () => {
  let running = 0;
  const { settler, groups } = settlerWith(async () => {
    expect(++running).toBe(1);
    if (groups.length === 1) for (const id of [9, 8]) settler.add(result(id));
    await new Promise(setImmediate);
    running--;
  });
  for (const id of [3, 1, 2]) settler.add(result(id));
  expect(await settler.drained(never)).toBe(0);
  expect(groups).toEqual([
    { relayer: 1, ids: [1, 2, 3] },
    { relayer: 1, ids: [8, 9] },
  ]);
});

test("what completes one by one is settled at most every 10 ms; the first at once", async () => {
  const at: number[] = [];
  const { settler, groups } = settlerWith(async () => void at.push(performance.now()));
  const start = performance.now();
  settler.add(result(1));
  await new Promise(setImmediate);
  expect(groups).toEqual([{ relayer: 1, ids: [1] }]);
  for (let id = 2; id <= 40; id++) {
    settler.add(result(id));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await settler.drained(never);
  expect(groups.flatMap(({ ids }) => ids)).toHaveLength(40);
  // A timer may be a millisecond early, and its clock another one.
  for (let n = 1; n < at.length; n++) expect((at[n] as number) - (at[n - 1] as number)).toBeGreaterThan(7);
  expect(groups.length).toBeLessThanOrEqual(1 + Math.ceil((performance.now() - start) / 8));
});

test("a full group does not wait for its time", async () => {
  const { settler, groups } = settlerWith(async () => {});
  for (let id = 1; id <= 3_000; id++) settler.add(result(id));
  await settler.drained(never);
  expect(groups.map(({ ids }) => ids.length)).toEqual([1_000, 1_000, 1_000]);
});

test("claims of two relayer numbers are settled each under its own", async () => {
  const { settler, groups } = settlerWith(async () => {});
  for (const [id, relayer] of [
    [1, 1],
    [2, 5],
    [3, 1],
  ] as const)
    settler.add(result(id, relayer));
  await settler.drained(never);
  expect(groups).toEqual([
    { relayer: 1, ids: [1, 3] },
    { relayer: 5, ids: [2] },
  ]);
});

test("while Postgres is away, outcomes are kept, and settled when it is back", async () => {
  let tries = 0;
  const { settler, settled } = settlerWith(async () => {
    if (++tries < 5) throw AWAY;
  });
  settler.add(result(1));
  settler.add(result(2));
  await settler.drained(never);
  expect(tries).toBe(5);
  expect(settled.sort()).toEqual([1, 2]);
});

test("one that Postgres refuses is found by halving, keeps nobody, and is tried again", async () => {
  let poisonous = true;
  const { settler, settled, refused } = settlerWith(async ({ ids }) => {
    if (poisonous && ids.includes(5)) throw new Error("poison");
  });
  for (let id = 1; id <= 8; id++) settler.add(result(id));
  await expect.poll(() => refused).toContain(5);
  expect(settled).toEqual([1, 2, 3, 4, 6, 7, 8]);
  poisonous = false;
  expect(await settler.drained(never)).toBe(0);
  expect(settled).toContain(5);
});

test("drained gives up when told to, and says how many are left", async () => {
  const { settler } = settlerWith(async () => {
    throw AWAY;
  });
  settler.add(result(1));
  settler.add(result(2));
  expect(await settler.drained(AbortSignal.timeout(20))).toBe(2);
});
