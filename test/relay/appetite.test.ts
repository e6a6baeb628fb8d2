import { expect, test } from "vitest";
import { createAppetite } from "../../src/relay/appetite.ts";

function appetiteAt(batchSize: number) {
  const clock = { ms: 0 };
  const appetite = createAppetite(batchSize, () => clock.ms);
  /** So many messages end in so many milliseconds, again and again. */
  const flow = (count: number, ms: number) => {
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < count; i++) appetite.completed();
      clock.ms += ms;
      appetite.size(0);
    }
  };
  return { appetite, clock, flow };
}

test("at first it claims what can be sent at once", () => {
  const { appetite } = appetiteAt(500);
  expect(appetite.size(64)).toBe(64);
  expect(appetite.size(1_000)).toBe(500);
});

test("behind a fast gateway it claims whole batches, and again when one is left", () => {
  const { appetite, flow } = appetiteAt(500);
  flow(1_000, 50);
  expect(appetite.size(0)).toBe(500);
  expect(appetite.wants(501)).toBe(false);
  expect(appetite.wants(500)).toBe(true);
  expect(appetite.size(-500)).toBe(500);
  expect(appetite.size(-900)).toBe(100);
});

test("behind a slow gateway it claims hardly anything that cannot be sent at once", () => {
  const { appetite, flow } = appetiteAt(500);
  flow(1, 100); // 10 a second
  expect(appetite.size(0)).toBeLessThanOrEqual(2);
  expect(appetite.size(3)).toBeLessThanOrEqual(5);
  expect(appetite.wants(5)).toBe(false);
});

test("it never claims less than nothing, and forgets a burst", () => {
  const { appetite, clock, flow } = appetiteAt(500);
  flow(1_000, 50);
  for (let i = 0; i < 20; i++) {
    clock.ms += 1_000;
    appetite.size(0);
  }
  expect(appetite.size(-10)).toBe(0);
  expect(appetite.size(1)).toBeLessThanOrEqual(2);
});
