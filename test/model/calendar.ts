import { noon } from "../sql/outbox-under-test.ts";

/**
 * Every run has a calendar of its own, in milliseconds from the tests' noon; it goes on by a tick with each step. A tick is
 * an eighth of a second, so that the tokens of a rate add up without a rounding.
 */
export const TICK = 125;

/** What is due since before the calendar began: a message without a schedule is, for it has the time of the real clock. */
export const LONG_AGO = -1;

/** A time of the calendar, for SQL. */
export const instant = noon;

/** A timestamp as a time of the calendar. */
export const at = (column: string): string =>
  `(extract(epoch from ${column} - '${noon()}'::timestamptz) * 1000)::float8`;
