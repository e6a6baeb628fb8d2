import { createHash, randomBytes } from "node:crypto";

/** What a key may do. read_pii adds to read: whole numbers and contents instead of masked ones. */
export const SCOPES = ["read", "read_pii", "write", "operate"] as const;

export type Scope = (typeof SCOPES)[number];

export interface ApiKey {
  /** Whom the audit and the log name. Two keys may share it, while one replaces the other. */
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** SHA-256 of the key, in hexadecimal. */
  readonly sha256: string;
  readonly expiresAt: Date | undefined;
}

/** How a key is configured. */
export const KEY_FORM = "NAME:SCOPES:SHA256 or NAME:SCOPES:SHA256:EXPIRES";

/** Reads one key as it is configured; a fault is a sentence that says what is allowed. */
export function readApiKey(text: string): ApiKey | { readonly fault: string } {
  const parts = /^([^:]*):([^:]*):([^:]*)(?::(.*))?$/.exec(text);
  if (parts === null) return { fault: "it has other parts" };
  const [, name = "", plus = "", sha256 = "", expires] = parts;
  if (!/^[a-z][a-z0-9_.-]{0,62}$/i.test(name))
    return { fault: "a NAME is a letter, then at most 62 letters, digits, _, - or ." };
  const words = plus.split("+");
  const scopes = SCOPES.filter((scope) => words.includes(scope));
  if (scopes.length !== words.length)
    return { fault: `SCOPES are some of ${SCOPES.join(", ")}, each once, with + between them` };
  if (scopes.includes("read_pii") && !scopes.includes("read"))
    return { fault: "the scope read_pii adds to read: give both" };
  if (!/^[0-9a-f]{64}$/i.test(sha256))
    return { fault: "a SHA256 is 64 hexadecimal digits; npm run api-key makes a key and its hash" };
  const expiresAt = expires === undefined ? undefined : readExpiry(expires);
  if (expires !== undefined && expiresAt === undefined)
    return { fault: "EXPIRES is a day, such as 2027-01-31 (UTC), or a time, such as 2027-01-31T12:00:00Z" };
  return { name, scopes, sha256: sha256.toLowerCase(), expiresAt };
}

function readExpiry(text: string): Date | undefined {
  const day = /^(\d{4}-\d\d-\d\d)(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d))?$/.exec(text)?.[1];
  const date = new Date(text);
  const midnight = new Date(`${day}T00:00:00Z`);
  if (day === undefined || Number.isNaN(date.getTime()) || Number.isNaN(midnight.getTime())) return undefined;
  // JavaScript takes the 30th of February for the 1st or 2nd of March.
  return midnight.toISOString().startsWith(day) ? date : undefined;
}

export function sha256Of(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

/** A new key, and the line that configures it; the key itself stands nowhere else. */
export function createApiKey(
  name: string,
  scopes: string,
  expires?: string,
): { readonly key: string; readonly setting: string } | { readonly fault: string } {
  const key = `obx_${randomBytes(32).toString("base64url")}`;
  const setting = [name, scopes, sha256Of(key), ...(expires === undefined ? [] : [expires])].join(":");
  const read = readApiKey(setting);
  return "fault" in read ? read : { key, setting };
}
