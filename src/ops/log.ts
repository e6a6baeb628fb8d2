import { type DestinationStream, type LevelWithSilent, type Logger, pino } from "pino";
import { isColorSupported, type PrettyOptions, prettyFactory } from "pino-pretty";

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
      hooks: { streamWrite: createRedactor(secrets) },
    },
    pretty ? prettyStream(lines, destination === undefined && isColorSupported) : lines,
  );
}

/** A terminal that was closed takes nothing any more; the program must still end in good order. */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true });
  output.on("error", () => {
    output.write = () => true;
  });
  return output;
}

/** Hides the middle of a phone number, always at least half of it: `+905551234567` becomes `+90******4567`. */
export function maskNumber(number: string): string {
  const plus = number.startsWith("+") ? "+" : "";
  const digits = number.slice(plus.length);
  const head = Math.min(2, Math.floor(digits.length / 6));
  const tail = Math.min(4, Math.floor(digits.length / 3));
  const hidden = digits.length - head - tail;
  return plus + digits.slice(0, head) + "*".repeat(hidden) + digits.slice(head + hidden);
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

interface ErrorFields {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
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

/**
 * Redacts by value, wherever it stands. The finished line is only searched (cheap, and nothing can slip past); on a
 * hit its strings are rewritten one by one, because replacing inside the JSON text could break the JSON.
 */
function createRedactor(secrets: readonly string[]): (line: string) => string {
  const needles = [...new Set(secrets.filter((secret) => secret !== "").flatMap(spellings))];
  // The longest first: else a secret that holds another one would leave its rest behind.
  needles.sort((a, b) => b.length - a.length);
  const inJson = needles.map(escapedForJson);

  const clean = (text: string) =>
    needles.reduce((rest, needle) => rest.replaceAll(needle, "[redacted]"), text);
  const cleanValue = (value: unknown): unknown => {
    if (typeof value === "string") return clean(value);
    if (typeof value === "number") return clean(String(value)) === String(value) ? value : "[redacted]";
    if (Array.isArray(value)) return value.map(cleanValue);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [clean(key), cleanValue(inner)]));
  };

  return (line) => {
    if (!inJson.some((needle) => line.includes(needle))) return line;
    const { level, time, ...fields }: Record<string, unknown> = JSON.parse(line);
    const cleaned = Object.entries(fields).map(([key, value]) => [
      key === "msg" ? key : clean(key),
      cleanValue(value),
    ]);
    return `${JSON.stringify({ level, time, ...Object.fromEntries(cleaned) })}\n`;
  };
}

/** A secret as it is, and as it looks in a URL and in JSON that is itself quoted in a message. */
function spellings(secret: string): string[] {
  const url = new URL("redacted://host");
  url.password = secret;
  return [secret, encodeURIComponent(secret.toWellFormed()), url.password, escapedForJson(secret)];
}

function escapedForJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

// prettyFactory and not pino-pretty's stream: a Node stream hands lines on later, and an exit would lose them.
function prettyStream(lines: DestinationStream, colorize: boolean): DestinationStream {
  const format = prettyFactory({
    colorize,
    customColors: "message:reset",
    ignore: "time,level",
    hideObject: true,
    messageFormat: personLine,
  });
  return { write: (line) => lines.write(format(line)) };
}

type PersonLine = Exclude<PrettyOptions["messageFormat"], string | false | undefined>;
type Paint = Parameters<PersonLine>[3]["colors"];

// The whole line is the "message", so that pino-pretty puts no brackets and colons around its parts.
const personLine: PersonLine = ({ level, time, msg, ...fields }, _messageKey, _levelLabel, { colors }) => {
  const head = `${colors.gray(clock(time))} ${paintLevel(String(level), colors)}`;
  const pairs: string[] = [];
  const stacks: string[] = [];
  for (const [key, value] of Object.entries(fields)) {
    if (isErrorFields(value)) {
      if (value.message !== msg) pairs.push(pair(key, value.message, colors));
      if (value.code !== undefined) pairs.push(pair("code", value.code, colors));
      if (value.stack !== undefined) stacks.push(...stackFrames(value.stack));
    } else {
      pairs.push(pair(key, value, colors));
    }
  }
  const text = typeof msg === "string" ? [visible(msg)] : [];
  return [[head, ...text, ...pairs].join("  "), ...stacks.map((frame) => colors.gray(frame))].join("\n");
};

/** Local time: the person at this terminal compares it with a wristwatch. */
function clock(time: unknown): string {
  return new Date(String(time)).toTimeString().slice(0, 8);
}

function paintLevel(level: string, colors: Paint): string {
  const label = level.toUpperCase().padEnd(5);
  if (level === "fatal" || level === "error") return colors.red(label);
  if (level === "warn") return colors.yellow(label);
  return level === "info" ? colors.green(label) : colors.gray(label);
}

function pair(key: string, value: unknown, colors: Paint): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const bare = typeof value !== "string" || /^[^\s"=\p{Cc}]+$/u.test(text);
  return `${colors.gray(`${visible(key)}=`)}${visible(bare ? text : JSON.stringify(text))}`;
}

function stackFrames(stack: string): string[] {
  return stack
    .split("\n")
    .filter((line) => /^\s+at /.test(line))
    .map(visible);
}

// A gateway's answer must not be able to move the cursor or fake a line.
function visible(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function isErrorFields(value: unknown): value is ErrorFields {
  if (typeof value !== "object" || value === null || !("type" in value && "message" in value)) return false;
  return typeof value.type === "string" && typeof value.message === "string";
}
