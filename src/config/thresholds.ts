import { readDuration, readInteger, setting } from "./values.ts";

/** From when on something is told; null: never. */
export type Threshold = number | null;

const OFF = "off";

export function countOrOff(min: number, max: number) {
  return orOff(`a whole number from ${min} to ${max}`, (given) => readInteger(given, min, max));
}

/** Milliseconds. */
export function durationOrOff(min: string, max: string) {
  return orOff(`a duration from ${min} to ${max}, such as 2s, 5m, 24h or 30d`, (given) =>
    readDuration(given, min, max),
  );
}

/** Bytes. */
export function sizeOrOff(min: string, max: string) {
  return orOff(`a size from ${min} to ${max}, such as 500MB or 1.5GB`, (given) => {
    const bytes = typeof given === "string" ? parseSize(given) : undefined;
    const within = bytes !== undefined && bytes >= (parseSize(min) ?? 0) && bytes <= (parseSize(max) ?? 0);
    return within ? bytes : undefined;
  });
}

function orOff(allowed: string, read: (given: unknown) => number | undefined) {
  return setting<Threshold>(`${allowed}, or ${OFF}`, (given) => (given === OFF ? null : read(given)));
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** As Postgres counts and writes them: a kB is 1024 B. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(B|kB|MB|GB|TB)$/.exec(text);
  if (match === null) return undefined;
  const [, number, unit = ""] = match;
  return Math.round(Number(number) * 1_024 ** UNITS.indexOf(unit));
}
