const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
] as const;

/** `500ms`, `1.5s`, `5m`, `24h`, `30d` in milliseconds; undefined unless it is a whole number of them. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+)(?:\.(\d+))?(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const [, whole, fraction = "", unit] = match;
  const unitMs = UNITS.find(([name]) => name === unit)?.[1] ?? Number.NaN;
  // Whole and fraction apart: 1.1 * 1000 is 1100.0000000000002.
  const ms = Number(whole) * unitMs + (Number(fraction) * unitMs) / 10 ** fraction.length;
  return Number.isSafeInteger(ms) ? ms : undefined;
}

/** Whole milliseconds in the largest unit that divides them, so that `parseDuration` gives them back. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  const [unit, unitMs] = UNITS.find(([, size]) => ms % size === 0) ?? ["ms", 1];
  return `${ms / unitMs}${unit}`;
}
