import { setImmediate, setTimeout } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { Claim } from "../../src/db/outbox.ts";
import { createLane, type LaneOptions } from "../../src/relay/lane.ts";

const claimOf = (id: number): Claim => ({
  id,
  relayer: 1,
  attempt: 1,
  claimed_at: "2030-06-01T12:00:00.000000Z",
  recipient: "",
  content: "",
  traceparent: null,
  revision: 0,
  expiresAtMs: Number.POSITIVE_INFINITY,
  priority: 1,
  dueSinceMs: 0,
});

/** A lane, and in order what it does; every attempt ends when the test says so. */
function laneWith(nextDue: LaneOptions["nextDue"], options: Partial<LaneOptions> = {}) {
  const due: Claim[] = [];
  const did: string[] = [];
  const lane = createLane({
    async claim() {
      did.push("claim");
      return due.splice(0);
    },
    async nextDue() {
      did.push("next_due");
      return await nextDue();
    },
    isLost: () => false,
    send({ id }, done) {
      did.push(`send ${id}`);
      queueMicrotask(() =>
        done({
          kind: "accepted",
          httpStatus: 202,
          gatewayMessageId: null,
          error: null,
          durationMs: 1,
          retryAfterMs: null,
        }),
      );
    },
    release: async () => {},
    onOutcome: () => {},
    onInFlight: () => {},
    onClaimed: () => undefined,
    onWoken: () => {},
    continuous: true,
    concurrency: 8,
    batchSize: 10,
    pollIntervalMs: 60_000,
    ...options,
  });
  onTestFinished(() => lane.stop());
  const until = (what: string, times = 1) =>
    expect
      .poll(() => did.filter((one) => one === what).length, { interval: 1 })
      .toBeGreaterThanOrEqual(times);
  return { lane, due, did, until };
}

test("what was claimed is on its way before it is asked what is due next", async () => {
  const { lane, due, did, until } = laneWith(async () => Number.POSITIVE_INFINITY);
  due.push(claimOf(1), claimOf(2));
  lane.wake();
  await until("next_due");
  expect(did).toEqual(["claim", "send 1", "send 2", "next_due"]);
});

test("a wake does not wait for the answer, which then is out of date", async () => {
  const answer = Promise.withResolvers<number>();
  const answers = [answer.promise, Promise.resolve(Number.POSITIVE_INFINITY)];
  const { lane, due, did, until } = laneWith(() => answers.shift() as Promise<number>);
  lane.wake();
  await until("next_due");
  due.push(claimOf(1));
  lane.wake();
  await until("send 1");
  await until("next_due", 2);
  answer.resolve(0);
  await setImmediate();
  // Were it taken for true, a timer would be running, and over before this one.
  await setTimeout(1);
  expect(did).toEqual(["claim", "next_due", "claim", "send 1", "next_due"]);
});

test("says why it looks by itself: something becomes due, or it is time to", async () => {
  const why: string[] = [];
  const answers = [1, 60];
  const { lane, until } = laneWith(async () => answers.shift() ?? Number.POSITIVE_INFINITY, {
    onWoken: (source) => why.push(source),
    pollIntervalMs: 50,
  });
  lane.wake();
  await until("claim", 3);
  expect(why.slice(0, 2)).toEqual(["timer", "poll"]);
});

test("a look that failed is made again by the poll", async () => {
  const why: string[] = [];
  const looked = Promise.withResolvers<void>();
  const { lane } = laneWith(async () => Number.POSITIVE_INFINITY, {
    claim: async () => {
      if (why.length > 0) looked.resolve();
      throw new Error("away");
    },
    onWoken: (source) => why.push(source),
    pollIntervalMs: 1,
  });
  lane.wake();
  await looked.promise;
  expect(why[0]).toBe("poll");
});

test("while it is awake it knows what it found without being told", async () => {
  const looks: [number, boolean][] = [];
  const woken: string[] = [];
  const { lane, due } = laneWith(async () => Number.POSITIVE_INFINITY, {
    onWoken: (source) => woken.push(source),
    onClaimed(count, untold) {
      looks.push([count, untold]);
      return 1;
    },
  });
  due.push(claimOf(1));
  lane.wake();
  await expect.poll(() => looks.length, { interval: 1 }).toBeGreaterThanOrEqual(3);
  expect(looks.slice(0, 3)).toEqual([
    [1, false],
    [0, true],
    [0, true],
  ]);
  const before = looks.length;
  due.push(claimOf(2));
  await expect.poll(() => looks.slice(before).some(([count]) => count === 1), { interval: 1 }).toBe(true);
  expect(looks.slice(before).find(([count]) => count === 1)).toEqual([1, true]);
  expect(woken).toEqual([]);
});
