import { expect, onTestFinished, test } from "vitest";
import { createWatcher } from "../../src/ops/watcher.ts";

interface Watched {
  /** What each beat does, in turn; then nothing. */
  readonly beats: readonly (() => Promise<number>)[];
  readonly deadAfterMs?: number;
}

async function watching({ beats, deadAfterMs = 15 }: Watched) {
  const times: number[] = [];
  const freed: number[] = [];
  const errors: unknown[] = [];
  const all = Promise.withResolvers<void>();
  const watcher = createWatcher({
    async beat() {
      const beat = beats[times.length];
      times.push(performance.now());
      if (times.length > beats.length) all.resolve();
      return (await beat?.()) ?? 0;
    },
    onFreed: (workers) => void freed.push(workers),
    onError: (error) => void errors.push(error),
    deadAfterMs,
  });
  onTestFinished(() => watcher.stop());
  await watcher.start();
  return { times, freed, errors, all: all.promise, watcher };
}

const fail = () => Promise.reject(new Error("no Postgres"));

test("beats until it is stopped, and says what it freed", async () => {
  const its = await watching({ beats: [async () => 0, async () => 2, async () => 0] });
  expect(its.times).toHaveLength(1);
  await its.all;
  await its.watcher.stop();
  expect(its.freed).toEqual([2]);
  const { length } = its.times;
  await its.watcher.stop();
  expect(its.times).toHaveLength(length);
});

test("says once that it cannot, and again after it could", async () => {
  const its = await watching({ beats: [fail, fail, async () => 0, fail] });
  await its.all;
  expect(its.errors).toHaveLength(2);
});

test("beats several times before it would be taken for gone", async () => {
  const deadAfterMs = 2_400;
  const its = await watching({ beats: [async () => 0], deadAfterMs });
  await its.all;
  const [first = 0, second = 0] = its.times;
  expect(second - first).toBeGreaterThan(deadAfterMs / 4);
  expect(second - first).toBeLessThan(deadAfterMs);
});
