import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createDeadlineWheel } from "../../src/gateway/deadline-wheel.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setInterval", "clearInterval"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("an entry expires within a twentieth of its timeout, at most 100 ms late, and never early", () => {
  const moment = fc.integer({ min: 0, max: 3_000 });
  const timeout = fc.constantFrom(20, 50, 999, 1_000, 2_345, 10_000);
  fc.assert(
    fc.property(fc.array(fc.tuple(moment, timeout), { minLength: 1, maxLength: 20 }), (plan) => {
      const wheel = createDeadlineWheel();
      const lateness: number[] = [];
      let elapsed = 0;
      for (const [at, timeoutMs] of plan.toSorted(([a], [b]) => a - b)) {
        vi.advanceTimersByTime(at - elapsed);
        elapsed = at;
        const due = performance.now() + timeoutMs;
        const allowed = Math.min(100, timeoutMs / 20);
        wheel.add({ expire: () => lateness.push((performance.now() - due) / allowed) }, timeoutMs);
      }
      vi.advanceTimersByTime(11_000);
      expect(lateness).toHaveLength(plan.length);
      for (const late of lateness) {
        expect(late).toBeGreaterThanOrEqual(0);
        expect(late).toBeLessThanOrEqual(1);
      }
      expect(wheel.size).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: 50 },
  );
});

test("a finer timeout that joins postpones nobody", () => {
  const wheel = createDeadlineWheel();
  const start = performance.now();
  let expiredAfter = 0;
  const entry = {
    expire() {
      expiredAfter = performance.now() - start;
    },
  };
  wheel.add(entry, 2_345);
  vi.advanceTimersByTime(2_397);
  wheel.add({ expire: vi.fn() }, 999);
  vi.advanceTimersByTime(200);
  expect(expiredAfter).toBeGreaterThanOrEqual(2_345);
  expect(expiredAfter).toBeLessThanOrEqual(2_445);
});

test("a removed entry never expires", () => {
  const wheel = createDeadlineWheel();
  const kept = { expire: vi.fn() };
  const removed = { expire: vi.fn() };
  wheel.add(removed, 1_000);
  wheel.add(kept, 1_000);
  wheel.remove(removed);
  wheel.remove(removed);
  expect(wheel.size).toBe(1);
  vi.advanceTimersByTime(2_000);
  expect(kept.expire).toHaveBeenCalledTimes(1);
  expect(removed.expire).not.toHaveBeenCalled();
});

test("an entry may be added again, also while it expires", () => {
  const wheel = createDeadlineWheel();
  let times = 0;
  const entry = {
    expire() {
      times += 1;
      if (times < 3) wheel.add(entry, 100);
    },
  };
  wheel.add(entry, 100);
  vi.advanceTimersByTime(1_000);
  expect(times).toBe(3);
  expect(wheel.size).toBe(0);
});

test("one that expires may remove another that is due", () => {
  const wheel = createDeadlineWheel();
  const other = { expire: vi.fn() };
  wheel.add({ expire: () => wheel.remove(other) }, 100);
  wheel.add(other, 100);
  vi.advanceTimersByTime(1_000);
  expect(other.expire).not.toHaveBeenCalled();
});

test("one timer serves all timeouts, and none runs while nothing waits", () => {
  const wheel = createDeadlineWheel();
  expect(vi.getTimerCount()).toBe(0);
  const entries = [10_000, 500, 2_000].map((timeoutMs) => {
    const entry = { expire: vi.fn() };
    wheel.add(entry, timeoutMs);
    return entry;
  });
  expect(vi.getTimerCount()).toBe(1);
  for (const entry of entries) wheel.remove(entry);
  vi.advanceTimersByTime(100);
  expect(vi.getTimerCount()).toBe(0);

  wheel.add({ expire: vi.fn() }, 500);
  expect(vi.getTimerCount()).toBe(1);
});
