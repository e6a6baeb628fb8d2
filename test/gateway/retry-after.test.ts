import fc from "fast-check";
import { expect, test } from "vitest";
import { parseRetryAfter } from "../../src/gateway/retry-after.ts";

const NOW = Date.UTC(1994, 10, 6, 8, 49, 0);
const HOUR = 3_600_000;

test.each([
  ["0", 0],
  ["1", 1_000],
  [" 120 ", 120_000],
  ["3600", HOUR],
  ["3601", HOUR],
  ["9".repeat(400), HOUR],
  ["-5", 0],
])("seconds: %j", (header, expected) => {
  expect(parseRetryAfter(header, NOW)).toBe(expected);
});

test.each([
  ["Sun, 06 Nov 1994 08:49:37 GMT", 37_000],
  ["Sunday, 06-Nov-94 08:49:37 GMT", 37_000],
  ["Sun Nov  6 08:49:37 1994", 37_000],
  ["sun, 06 nov 1994 08:49:37 gmt", 37_000],
  ["Sun, 06 Nov 1994 08:49:60 GMT", 60_000],
  ["Sun, 06 Nov 1994 09:49:00 GMT", HOUR],
  ["Mon, 07 Nov 1994 08:49:37 GMT", HOUR],
  ["Sun, 06 Nov 1994 08:48:59 GMT", 0],
  ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
  ["Mon, 01 Jan 0001 00:00:00 GMT", 0],
  ["Friday, 31-Dec-99 23:59:59 GMT", HOUR],
  // More than 50 years ahead, so the last century's.
  ["Sunday, 06-Nov-45 08:49:37 GMT", 0],
])("a date: %j", (header, expected) => {
  expect(parseRetryAfter(header, NOW)).toBe(expected);
});

test("a two-digit year belongs to the century at hand", () => {
  const now = Date.UTC(2026, 10, 23, 12, 0, 0);
  expect(parseRetryAfter("Monday, 23-Nov-26 12:00:05 GMT", now)).toBe(5_000);
});

test.each([
  "",
  " ",
  "soon",
  "1.5",
  "1e3",
  "+5",
  "0x10",
  "5 seconds",
  "1, 2",
  "Sun, 06 Nov 1994 08:49:37",
  "Sun, 06 Nov 1994 08:49:37 PST",
  "Sun, 31 Feb 1994 08:49:37 GMT",
  "Sun, 00 Nov 1994 08:49:37 GMT",
  "Sun, 06 Xxx 1994 08:49:37 GMT",
  "Sun, 06 Nov 1994 24:00:00 GMT",
  "Sun, 06 Nov 1994 08:60:00 GMT",
  "Sun, 06 Nov 1994 08:49:61 GMT",
  "1994-11-06T08:49:37Z",
])("garbage: %j", (header) => {
  expect(parseRetryAfter(header, NOW)).toBeNull();
});

test("whatever the header, it is null or within the hour", () => {
  const dates = fc.date({ noInvalidDate: true }).map((date) => date.toUTCString());
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.integer().map(String), dates),
      fc.integer({ min: 0, max: 4e12 }),
      (header, now) => {
        const waitMs = parseRetryAfter(header, now);
        if (waitMs !== null) {
          expect(waitMs).toBeGreaterThanOrEqual(0);
          expect(waitMs).toBeLessThanOrEqual(HOUR);
        }
      },
    ),
  );
});
