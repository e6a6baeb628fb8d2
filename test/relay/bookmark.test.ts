import { expect, test } from "vitest";
import type { Position } from "../../src/db/outbox.ts";
import { createBookmark } from "../../src/relay/bookmark.ts";

const at = (id: number) => ({ at: `2030-06-01T12:00:00.${String(id).padStart(6, "0")}Z`, id });

function bookmarkAt() {
  const clock = { ms: 0 };
  const bookmark = createBookmark(() => clock.ms);
  /** A claim that ended with these messages. Returns where it began. */
  const claim = (lasts: Position, tookMs = 1): Position | undefined => {
    const began = bookmark.begin();
    clock.ms += tookMs;
    bookmark.turn({ claims: [], lasts }, tookMs);
    return began;
  };
  return { bookmark, clock, claim };
}

test("the first claim begins at the start, the next where it ended", () => {
  const { claim } = bookmarkAt();
  expect(claim([undefined, at(5)])).toBeUndefined();
  expect(claim([])).toEqual([undefined, at(5), undefined]);
});

test("each priority has a place of its own, which a claim that brings none of it leaves", () => {
  const { claim } = bookmarkAt();
  claim([at(1), at(2), at(3)]);
  claim([undefined, at(7)]);
  expect(claim([])).toEqual([at(1), at(7), at(3)]);
});

test("it sweeps again after 100 ms", () => {
  const { claim, clock } = bookmarkAt();
  claim([undefined, at(5)]);
  clock.ms += 99;
  expect(claim([])).toBeDefined();
  expect(claim([])).toBeUndefined();
  expect(claim([])).toBeDefined();
});

test("sweeps that are slow are rare: they take a twentieth of the time", () => {
  const { claim, clock } = bookmarkAt();
  claim([undefined, at(5)], 1_000);
  clock.ms += 19_990;
  expect(claim([], 5)).toBeDefined();
  clock.ms += 5;
  expect(claim([])).toBeUndefined();
});

test("a claim from the bookmark does not put the sweep off", () => {
  const { claim, clock } = bookmarkAt();
  claim([undefined, at(5)]);
  clock.ms += 60;
  claim([undefined, at(6)], 10);
  clock.ms += 30;
  expect(claim([])).toBeUndefined();
});

test("what a sweep finds is where the next claim goes on from, for there may be more beside it", () => {
  const { claim, clock } = bookmarkAt();
  claim([undefined, at(900)]);
  clock.ms += 200;
  expect(claim([undefined, at(5)])).toBeUndefined();
  expect(claim([])).toEqual([undefined, at(5), undefined]);
});

test("after a reset it sweeps at once", () => {
  const { bookmark, claim } = bookmarkAt();
  claim([undefined, at(5)]);
  bookmark.reset();
  expect(claim([])).toBeUndefined();
});

test("after a claim from the bookmark one has to look again when the sweep is due; after a sweep one need not", () => {
  const { bookmark, claim, clock } = bookmarkAt();
  claim([undefined, at(5)]);
  expect(bookmark.sweepInMs()).toBe(Number.POSITIVE_INFINITY);
  expect(bookmark.last()).toBeUndefined();
  clock.ms += 40;
  claim([undefined, at(6)], 10);
  expect(bookmark.sweepInMs()).toBe(50);
  expect(bookmark.last()).toEqual([undefined, at(6), undefined]);
  clock.ms += 500;
  expect(bookmark.sweepInMs()).toBe(0);
});
