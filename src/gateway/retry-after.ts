const LONGEST_MS = 3_600_000;

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const TIME = String.raw`(?<hour>\d{2}):(?<minute>\d{2}):(?<second>\d{2})`;

/** The three forms of HTTP-date in RFC 9110, section 5.6.7; the last two are obsolete, and must be understood. */
const HTTP_DATES = [
  new RegExp(String.raw`^[a-z]{3}, (?<day>\d{2}) (?<month>[a-z]{3}) (?<year>\d{4}) ${TIME} GMT$`, "i"),
  new RegExp(String.raw`^[a-z]{6,9}, (?<day>\d{2})-(?<month>[a-z]{3})-(?<year>\d{2}) ${TIME} GMT$`, "i"),
  new RegExp(String.raw`^[a-z]{3} (?<month>[a-z]{3}) (?<day>[ \d]\d) ${TIME} (?<year>\d{4})$`, "i"),
];

/**
 * Reads a Retry-After header (RFC 9110, section 10.2.3): milliseconds from `nowMs`, at most an hour, so that a gateway
 * cannot park its queue for ever. A time in the past is 0; what is neither seconds nor a date is null.
 */
export function parseRetryAfter(header: string, nowMs: number): number | null {
  const value = header.trim();
  const waitMs = /^-?\d+$/.test(value) ? Number(value) * 1_000 : untilDate(value, nowMs);
  return waitMs === null ? null : Math.min(Math.max(waitMs, 0), LONGEST_MS);
}

function untilDate(value: string, nowMs: number): number | null {
  for (const form of HTTP_DATES) {
    const parts = form.exec(value)?.groups;
    if (parts) {
      const dateMs = toUtcMs(parts, nowMs);
      return dateMs === null ? null : dateMs - nowMs;
    }
  }
  return null;
}

function toUtcMs(parts: Record<string, string>, nowMs: number): number | null {
  const month = MONTHS.indexOf((parts.month ?? "").toLowerCase());
  const day = Number(parts.day);
  const hour = Number(parts.hour);
  const minute = Number(parts.minute);
  const second = Number(parts.second);
  // 60 is a leap second.
  if (month < 0 || hour > 23 || minute > 59 || second > 60) return null;

  const year = parts.year?.length === 2 ? fullYear(Number(parts.year), nowMs) : Number(parts.year);
  const midnight = new Date(0);
  // Not Date.UTC: it takes the years 0 to 99 for 1900 to 1999.
  midnight.setUTCFullYear(year, month, day);
  if (midnight.getUTCDate() !== day) return null;
  return midnight.getTime() + ((hour * 60 + minute) * 60 + second) * 1_000;
}

/** A two-digit year that seems more than 50 years ahead is the most recent past year with these digits. */
function fullYear(twoDigits: number, nowMs: number): number {
  const thisYear = new Date(nowMs).getUTCFullYear();
  const year = thisYear - (thisYear % 100) + twoDigits;
  return year > thisYear + 50 ? year - 100 : year;
}
