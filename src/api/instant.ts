import { z } from "@hono/zod-openapi";

const INSTANT =
  /^(?!0000|0001-01-01[Tt].*\+|9999-12-31[Tt].*-)(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:[Zz]|[+-](?:0\d|1[0-5]):[0-5]\d)$/;

/** The same for the OpenAPI document, where the format `date-time` says the rest: which days a month has. */
export const INSTANT_PATTERN = INSTANT.source.replaceAll(/\?<\w+>/g, "?:");

export const NOT_AN_INSTANT =
  "must be a time with its offset, such as 2026-11-23T09:30:00.123456Z (RFC 3339)";

/** RFC 3339, as far as Postgres can keep it and it can be written in UTC: microseconds, the years 1 to 9999, offsets below 16 hours. */
export function isInstant(text: string): boolean {
  const found = INSTANT.exec(text)?.groups;
  if (found === undefined) return false;
  const { year, month, day } = found;
  return Number(day) >= 1 && Number(day) <= daysIn(Number(year), Number(month));
}

function daysIn(year: number, month: number): number {
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}

/** In a body. In a query a + may have become a space, see list-parameters.ts. */
export const instant = z
  .string("must be a time")
  .refine(isInstant, NOT_AN_INSTANT)
  .openapi({ format: "date-time", pattern: INSTANT_PATTERN });
