const INSTANT =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)T(?<hour>\d\d):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?<ahead>\d\d):[0-5]\d)$/i;

/** RFC 3339, as far as Postgres can keep it and it can be written in UTC: microseconds, the years 1 to 9999, offsets below 16 hours. */
export function isInstant(text: string): boolean {
  const found = INSTANT.exec(text)?.groups;
  if (found === undefined) return false;
  const { month, day, hour, ahead = 0 } = found;
  const year = Number(found.year);
  return (
    Number(day) >= 1 &&
    Number(day) <= daysIn(year, Number(month)) &&
    Number(hour) <= 23 &&
    Number(ahead) <= 15 &&
    year >= 1 &&
    hasYearInUtc(text)
  );
}

/** Its offset may take it to another year, and the year 10000 cannot be written. */
function hasYearInUtc(text: string): boolean {
  const year = new Date(text.toUpperCase()).getUTCFullYear();
  return year >= 1 && year <= 9999;
}

function daysIn(year: number, month: number): number {
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}
