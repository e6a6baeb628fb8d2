import type { DestinationStream } from "pino";
import { type PrettyOptions, prettyFactory } from "pino-pretty";
import { isErrorFields } from "./error-fields.ts";

/** Takes lines of JSON and hands on one compact line each for a person. */
// By prettyFactory and not pino-pretty's stream: a Node stream hands lines on later, and an exit would lose them.
export function prettyStream(lines: DestinationStream, colorize: boolean): DestinationStream {
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
const personLine: PersonLine = (
  { level, time, part: _part, msg, ...fields },
  _messageKey,
  _levelLabel,
  { colors },
) => {
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
