const INSTANT =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)T(?<hour>\d\d):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?<ahead>\d\d):[0-5]\d)$/i;

/** RFC 3339, as far as Postgres can keep it: microseconds, the years 1 to 9999, offsets below 16 hours. */
export function isInstant(text: string): boolean {
  const found = INSTANT.exec(text)?.groups;
  if (found === undefined) return false;
  const { year, month, day, hour, ahead = 0 } = found;
  return (
    Number(year) >= 1 &&
    Number(day) >= 1 &&
    Number(day) <= daysIn(Number(year), Number(month)) &&
    Number(hour) <= 23 &&
    Number(ahead) <= 15
  );
}

function daysIn(year: number, month: number): number {
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}
