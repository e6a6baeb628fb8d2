import { oneOf } from "./values.ts";

/** From the one that tells the most to the one that tells the least. */
export const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"] as const;
/** Every line of the log says which of these it is from, and each may have a level of its own. */
export const PARTS = [
  "program",
  "database",
  "relay",
  "worker",
  "api",
  "metrics",
  "redis",
  "alerts",
  "query_store",
  "tracing",
  "demo",
] as const;

export type Level = (typeof LEVELS)[number];
export type Part = (typeof PARTS)[number];

/** How much to log: of everything, and of the parts that are named. */
export interface LogLevels {
  readonly level: Level;
  readonly levels: Readonly<Partial<Record<Part, Level>>>;
}

export function level() {
  return oneOf(...LEVELS);
}

/** A setting for each part, none of which has to be given. */
export function levelsOfParts() {
  const setting = level().optional();
  return Object.fromEntries(PARTS.map((part) => [part, setting])) as Record<Part, typeof setting>;
}
