import { isErrorFields } from "./error-fields.ts";
import { maskLikelyNumbers, maskPlainNumbers } from "./mask-numbers.ts";
import { createRedactor } from "./redact.ts";

/** Fields with words of a gateway, of Postgres or of a library, which may quote a number in any way. */
const OUTSIDE = new Set(["error", "detail", "answer", "reason"]);
const MAY_BE_NUMBER = /\d[\d ()/.-]{5,}\d/;
/** `{"level":"info","time":"2026-11-23T14:11:00.000Z"`, in which every search would find something. */
const PREAMBLE = 48;

/**
 * Takes secrets and phone numbers out of a finished line, wherever they stand. The line is only searched (cheap, and nothing can
 * slip past); on a hit its strings are rewritten one by one, because replacing inside the JSON text could break the JSON.
 */
export function createCensor(secrets: readonly string[]): (line: string) => string {
  const redactor = createRedactor(secrets);

  function cleanText(text: string, outside: boolean): string {
    return (outside ? maskLikelyNumbers : maskPlainNumbers)(redactor.clean(text));
  }

  function cleanValue(value: unknown, outside: boolean): unknown {
    if (typeof value === "string") return cleanText(value, outside);
    if (typeof value === "number")
      return redactor.clean(String(value)) === String(value) ? value : "[redacted]";
    if (Array.isArray(value)) return value.map((item) => cleanValue(item, outside));
    if (value === null || typeof value !== "object") return value;
    return cleanFields(value, outside || isErrorFields(value));
  }

  function cleanFields(fields: object, outside: boolean): object {
    return Object.fromEntries(
      Object.entries(fields).map(([key, value]) => [
        cleanText(key, outside),
        cleanValue(value, outside || OUTSIDE.has(key)),
      ]),
    );
  }

  return (line) => {
    if (!redactor.finds(line) && !MAY_BE_NUMBER.test(line.slice(PREAMBLE))) return line;
    const { level, time, msg, ...fields }: Record<string, unknown> = JSON.parse(line);
    // An error that is logged alone is the message, too.
    const isErrors = Object.values(fields).some((field) => isErrorFields(field) && field.message === msg);
    const cleaned = {
      level,
      time,
      ...cleanFields(fields, false),
      ...(msg === undefined ? {} : { msg: cleanValue(msg, isErrors) }),
    };
    return `${JSON.stringify(cleaned)}\n`;
  };
}
