import { createHash } from "node:crypto";
import { isInstant } from "./instant.ts";

/** Where a page ended: a row's time, to the microsecond, and its id, which orders rows of one time. */
export interface Position {
  readonly at: string;
  readonly id: number;
}

export interface Cursor {
  readonly position: Position;
  /** Says which list and filters the cursor was made for. */
  readonly scope: string;
}

const SHAPE =
  /^(?<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?<id>\d{1,16}) (?<scope>[\w-]{11}) (?<check>[\w-]{11})$/;

/** `filters` is everything that decides which rows a list holds, and in which order. */
export function scopeOf(list: string, filters: readonly (string | number | undefined)[]): string {
  return digest(JSON.stringify([list, ...filters.map((filter) => filter ?? null)]));
}

export function sealCursor({ position, scope }: Cursor): string {
  const sealed = `${position.at} ${position.id} ${scope}`;
  return Buffer.from(`${sealed} ${digest(sealed)}`).toString("base64url");
}

/** Undefined when it is not, to the last character, what `sealCursor` made. */
export function openCursor(text: string): Cursor | undefined {
  const found = SHAPE.exec(Buffer.from(text, "base64url").toString("latin1"))?.groups;
  if (found === undefined) return undefined;
  const { at = "", id = "", scope = "" } = found;
  // The digest is no secret: who computes it may still not send Postgres a time that it does not know.
  if (!isInstant(at)) return undefined;
  const cursor: Cursor = { position: { at, id: Number(id) }, scope };
  // Decoding skips what is not base64url, so only the round trip shows that nothing was changed.
  return sealCursor(cursor) === text ? cursor : undefined;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest().subarray(0, 8).toString("base64url");
}
