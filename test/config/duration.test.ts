import fc from "fast-check";
import { expect, test } from "vitest";
import { formatDuration, parseDuration } from "../../src/config/duration.ts";

test.each([
  ["0s", 0],
  ["500ms", 500],
  ["2s", 2_000],
  ["1.5s", 1_500],
  ["1.1s", 1_100],
  ["5m", 300_000],
  ["24h", 86_400_000],
  ["30d", 2_592_000_000],
])("%s is %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  "5",
  "s",
  "-1s",
  "1 s",
  " 1s",
  "1S",
  "1s ",
  "1.s",
  ".5s",
  "1e3ms",
  "1w",
  "1m30s",
  "1.5ms",
  "0.0001s",
  "99999999999999d",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  [0, "0s"],
  [1, "1ms"],
  [1_500, "1500ms"],
  [90_000, "90s"],
  [86_400_000, "1d"],
])("%d ms is written %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test("what is written reads back as the same", () => {
  const unit = fc.constantFrom(1, 1_000, 60_000, 3_600_000, 86_400_000);
  fc.assert(
    fc.property(fc.nat(100_000_000), unit, (count, size) => {
      expect(parseDuration(formatDuration(count * size))).toBe(count * size);
    }),
  );
});

test("tenths are exact", () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), (tenths) => {
      expect(parseDuration(`${Math.floor(tenths / 10)}.${tenths % 10}s`)).toBe(tenths * 100);
    }),
  );
});
