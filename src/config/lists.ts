import { z } from "zod";
import { type ApiKey, KEY_FORM, readApiKey } from "./api-keys.ts";
import { EMAIL_ADDRESS, isEmailAddress } from "./email-address.ts";

/** A list in YAML; in the environment its items stand in a row, with commas between them. */
function list<T>(kind: string, read: (item: string) => T | { readonly fault: string }) {
  return z.unknown().transform((given, context): readonly T[] => {
    const items = typeof given === "string" ? given.split(",").map((item) => item.trim()) : given;
    if (!Array.isArray(items) || !items.every((item) => typeof item === "string")) {
      context.addIssue({ code: "custom", message: `a list of ${kind}` });
      return z.NEVER;
    }
    return items.map((item, index) => {
      const value = read(item);
      if (!isFault(value)) return value;
      const which = items.length === 1 ? "" : `item ${index + 1}: `;
      context.addIssue({ code: "custom", message: `a list of ${kind}: ${which}${value.fault}` });
      return z.NEVER;
    });
  });
}

function isFault(value: unknown): value is { readonly fault: string } {
  return typeof value === "object" && value !== null && "fault" in value;
}

export function apiKeys() {
  return list<ApiKey>(`keys (${KEY_FORM})`, readApiKey).superRefine((keys, context) => {
    const hashes = keys.map(({ sha256 }) => sha256);
    const twice = keys.find(({ sha256 }, index) => hashes.indexOf(sha256) !== index);
    if (twice === undefined) return;
    context.addIssue({
      code: "custom",
      message: `a list of different keys: that of ${twice.name} stands twice`,
    });
  });
}

export function emailAddresses() {
  return list<string>("e-mail addresses", (item) => (isEmailAddress(item) ? item : { fault: EMAIL_ADDRESS }));
}

export function webOrigins() {
  return list<string>("web origins", (item) => {
    const url = URL.parse(item);
    return url !== null && /^https?:$/.test(url.protocol) && url.origin === item
      ? item
      : { fault: "an origin is scheme, host and port alone, such as https://desk.example.com" };
  });
}

/** As OTEL_EXPORTER_OTLP_HEADERS has them. A fault quotes nothing: values are secrets. */
export function headerLines() {
  return list<{ readonly name: string; readonly value: string }>("headers (NAME=VALUE)", (item) => {
    const [, name = "", encoded = ""] = /^([\w!#$%&'*+.^`|~-]+)\s*=\s*(.*)$/.exec(item) ?? [];
    if (name === "") return { fault: "it has other parts" };
    const value = decoded(encoded);
    return value !== undefined && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)
      ? { name, value }
      : { fault: "a VALUE is printable ASCII, percent-encoded where it has a comma or a %" };
  });
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
