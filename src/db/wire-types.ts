import { type CustomTypesConfig, types } from "pg";

const INT8 = 20;
const INT8_ARRAY = 1016;
const TIMESTAMPTZ = 1184;
const TIMESTAMPTZ_ARRAY = 1185;
const TEXT_ARRAY: number = 1009; // not in node-postgres' list of types, though it parses it

type Parser = (text: string) => unknown;

const textArray: Parser = types.getTypeParser(TEXT_ARRAY, "text");
const arrayOf =
  (parse: Parser): Parser =>
  (text) =>
    (textArray(text) as (string | null)[]).map((item) => (item === null ? null : parse(item)));

const PARSERS: ReadonlyMap<number, Parser> = new Map([
  [INT8, Number],
  [INT8_ARRAY, arrayOf(Number)],
  [TIMESTAMPTZ, remembering(utcTimestamp)],
  [TIMESTAMPTZ_ARRAY, arrayOf(utcTimestamp)],
]);

/**
 * What values look like in our code and, unchanged, in our JSON: `int8` is a number (our ids stay below 2^53), and
 * `timestamptz` is RFC 3339 in UTC with its microseconds, which a JavaScript Date would cut off. The rest is as
 * node-postgres has it, `jsonb` parsed.
 *
 * It is done on this side because asking the server for UTC would be a setting of the session, and behind a
 * transaction pooler the next transaction may run in another session.
 */
export const wireTypes: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text") =>
    (format ?? "text") === "text"
      ? (PARSERS.get(oid) ?? types.getTypeParser(oid, "text"))
      : types.getTypeParser(oid, format)) as typeof types.getTypeParser,
};

/** All messages of a claim have the same `claimed_at`: parsed once, not for each. */
function remembering(parse: (text: string) => string): Parser {
  let lastText = "";
  let lastValue = "";
  return (text) => {
    if (text !== lastText) {
      lastValue = parse(text);
      lastText = text;
    }
    return lastValue;
  };
}

const ISO_STYLE =
  /^(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d+))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?( BC)?$/;

/** "2026-11-23 17:11:00.5+03" → "2026-11-23T14:11:00.500000Z"; `infinity` and `-infinity` stay what they are. */
function utcTimestamp(text: string): string {
  if (text === "infinity" || text === "-infinity") return text;
  const parts = ISO_STYLE.exec(text);
  if (parts === null) {
    throw new Error(
      `Postgres sent the timestamp "${text}"; the relayer needs DateStyle ISO, which is the default.`,
    );
  }
  const [, year, month, day, hour, minute, second, fraction = "", sign, ...rest] = parts;
  const micros = fraction.padEnd(6, "0");
  const [offsetHours, offsetMinutes = "0", offsetSeconds = "0", era] = rest;
  const offset = Number(offsetHours) * 3600 + Number(offsetMinutes) * 60 + Number(offsetSeconds);
  if (offset === 0 && year?.length === 4 && era === undefined) {
    return `${year}-${month}-${day}T${hour}:${minute}:${second}.${micros}Z`;
  }
  // setUTCFullYear, because the constructor takes the year 26 for 1926.
  const date = new Date(0);
  date.setUTCFullYear(era === undefined ? Number(year) : 1 - Number(year), Number(month) - 1, Number(day));
  date.setUTCHours(Number(hour), Number(minute), Number(second) - (sign === "-" ? -offset : offset));
  // Postgres knows years that JavaScript does not; no message is from there.
  if (Number.isNaN(date.getTime())) return text;
  return date.toISOString().replace(/\.000Z$/, `.${micros}Z`);
}
