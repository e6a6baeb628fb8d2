import { type DestinationStream, type LevelWithSilent, type Logger, pino } from "pino";
import { isColorSupported } from "pino-pretty";
import { LEVELS, type LogLevels, PARTS, type Part } from "../config/levels.ts";
import { createCensor } from "./log/censor.ts";
import type { ErrorFields } from "./log/error-fields.ts";
import { prettyStream } from "./log/pretty.ts";

export type { Logger } from "pino";

/** pino's number for the level. */
const ERROR = 50;

export interface LogOptions {
  readonly level: LevelWithSilent;
  /** One compact line for a person instead of JSON. */
  readonly pretty: boolean;
  /** Strings that never reach the log, in whatever field or message they turn up. Empty ones are ignored. */
  readonly secrets: readonly string[];
  /** Where finished lines go, newline included; standard output when left out. */
  readonly destination?: DestinationStream;
}

/**
 * Builds the logger. Writing is synchronous in both forms and there is no worker thread, so that the lines before
 * an exit, the ones that say why, are never lost.
 */
export function createLogger({ level, pretty, secrets, destination }: LogOptions): Logger {
  const lines = destination ?? standardOutput();
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Only a mixin is told the line's level; pino's own serializer would add the stack to every line.
      mixin: (fields, line, logger) =>
        describeErrors(fields, line >= ERROR || logger.isLevelEnabled("debug")),
      mixinMergeStrategy: (fields: object, described: object) => ({ ...fields, ...described }),
      serializers: { err: (value: unknown) => (value instanceof Error ? errorFields(value, false) : value) },
      hooks: { streamWrite: createCensor(secrets) },
    },
    pretty ? prettyStream(lines, destination === undefined && isColorSupported) : lines,
  );
}

/** The loggers of all parts; each line says its part. */
export interface Logs {
  /** The same object for the same part, each time. */
  part(name: Part): Logger;
  /** From now on; returns what is different by it. */
  setLevels(levels: LogLevels): LevelChange[];
}

export interface LevelChange {
  readonly part: Part;
  readonly from: string;
  readonly to: string;
}

export function createLogs({ level, levels, ...options }: Omit<LogOptions, "level"> & LogLevels): Logs {
  // The parts have levels of their own; this one says which lines could be written at all.
  const root = createLogger({ ...options, level: LEVELS[0] });
  const parts = new Map(
    PARTS.map((part) => [part, root.child({ part }, { level: levels[part] ?? level })] as const),
  );
  return {
    part: (name) => parts.get(name) as Logger,
    setLevels(wanted) {
      const changes: LevelChange[] = [];
      for (const [part, log] of parts) {
        const from = log.level;
        const to = wanted.levels[part] ?? wanted.level;
        if (from === to) continue;
        log.level = to;
        changes.push({ part, from, to });
      }
      return changes;
    },
  };
}

/** A terminal that was closed takes nothing any more; the program must still end in good order. */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true });
  output.on("error", () => {
    output.write = () => true;
  });
  return output;
}

/**
 * What went wrong in one line, with the causes. Node reports a refused connection to a name with two addresses as
 * an AggregateError without a message: the useful part is in its `errors`.
 */
export function errorMessage(error: unknown, depth = 4): string {
  if (!(error instanceof Error)) return String(error);
  const parts = error instanceof AggregateError ? error.errors.map((part) => errorMessage(part, 0)) : [];
  const own = error.message || parts.join("; ") || errorCode(error) || error.name;
  if (depth === 0 || error.cause === undefined) return own;
  const cause = errorMessage(error.cause, depth - 1);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}

// Named fields only: drivers hang the query's values, and ioredis the AUTH arguments, on their errors.
function errorFields(error: Error, withStack: boolean): ErrorFields {
  const code = errorCode(error);
  return {
    type: error.name,
    message: errorMessage(error),
    ...(code === undefined ? {} : { code }),
    ...(withStack && error.stack !== undefined ? { stack: error.stack } : {}),
  };
}

function errorCode(error: Error): string | undefined {
  return "code" in error && error.code !== undefined ? String(error.code) : undefined;
}

function describeErrors(fields: object, withStack: boolean): Record<string, ErrorFields> {
  const described: Record<string, ErrorFields> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value instanceof Error) described[key] = errorFields(value, withStack);
  }
  return described;
}
