import { z } from "zod";
import { formatDuration, parseDuration } from "./duration.ts";

/**
 * A setting's value: `read` takes what YAML or the environment (always text) gave and answers undefined to what is
 * not `allowed`, a phrase that completes "… is not".
 */
export function setting<T>(allowed: string, read: (given: unknown) => T | undefined) {
  return z.unknown().transform((given, context): T => {
    const value = read(given);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: allowed });
    return z.NEVER;
  });
}

export function text() {
  return setting("text (in quotes if it looks like a number)", (given) =>
    typeof given === "string" && given !== "" ? given : undefined,
  );
}

/** May be empty: a server that trusts its host asks for none. */
export function password() {
  return setting("text (in quotes if it looks like a number)", (given) =>
    typeof given === "string" ? given : undefined,
  );
}

export function oneOf<const T extends string>(...words: readonly T[]) {
  return setting(`one of ${words.join(", ")}`, (given) => words.find((word) => word === given));
}

export function integer(min: number, max: number) {
  return setting(`a whole number from ${min} to ${max}`, (given) => readInteger(given, min, max));
}

export function fraction() {
  return setting("a number from 0 to 1", (given) => {
    const value = readNumber(given);
    return isWithin(value, 0, 1) ? value : undefined;
  });
}

export function positive(max: number) {
  return setting(`a number above 0, at most ${max}`, (given) => {
    const value = readNumber(given);
    return isWithin(value, 0, max) && value > 0 ? value : undefined;
  });
}

/** Milliseconds. */
export function duration(min: string, max: string) {
  return setting(`a duration from ${min} to ${max}, such as 500ms, 2s, 5m, 24h or 30d`, (given) =>
    readDuration(given, min, max),
  );
}

/** Milliseconds; a bare number is seconds, as Redis itself and everything that sets REDIS_TTL counts. */
export function durationOrSeconds(min: string, max: string) {
  return setting(
    `a duration from ${min} to ${max}, such as 30m or 24h, or a whole number of seconds`,
    (given) =>
      readDuration(/^\d+$/.test(String(given)) ? formatDuration(Number(given) * 1_000) : given, min, max),
  );
}

/** Goes into an HTTP header, where a line break or a character beyond ASCII would fail at the first send. */
export function headerValue() {
  return setting("printable ASCII text without line breaks (in quotes if it looks like a number)", (given) =>
    typeof given === "string" && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(given) ? given : undefined,
  );
}

/** RFC 6750. Long enough that nobody guesses it. */
export function bearerToken() {
  return setting("at least 16 of the letters, digits and -._~+/ (openssl rand -hex 24 makes one)", (given) =>
    typeof given === "string" && /^[\w.~+/-]{16,}=*$/.test(given) ? given : undefined,
  );
}

/** https://github.com/standard-webhooks/standard-webhooks: `whsec_` and base64 of 24 to 64 bytes. */
export function signingSecret() {
  return setting("a signing secret: base64 of 24 to 64 bytes, with or without whsec_ before it", (given) => {
    if (typeof given !== "string") return undefined;
    const encoded = given.replace(/^whsec_/, "");
    const bytes = Buffer.from(encoded, "base64");
    // Buffer skips what is not base64; only what encodes back to itself was a key.
    return bytes.toString("base64") === encoded && isWithin(bytes.length, 24, 64) ? given : undefined;
  });
}

function readNumber(given: unknown): unknown {
  return typeof given === "string" && /^\d*\.?\d+$/.test(given) ? Number(given) : given;
}

export function readInteger(given: unknown, min: number, max: number): number | undefined {
  const value = typeof given === "string" && /^-?\d+$/.test(given) ? Number(given) : given;
  return isWithin(value, min, max) && Number.isInteger(value) ? value : undefined;
}

export function readDuration(given: unknown, min: string, max: string): number | undefined {
  const ms = typeof given === "string" ? parseDuration(given) : undefined;
  return isWithin(ms, parseDuration(min) ?? 0, parseDuration(max) ?? 0) ? ms : undefined;
}

function isWithin(value: unknown, min: number, max: number): value is number {
  return typeof value === "number" && value >= min && value <= max;
}
