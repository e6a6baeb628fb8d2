import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { ApiDependencies } from "./dependencies.ts";
import { isInstant } from "./instant.ts";
import { ProblemError } from "./problem.ts";
import { createSigningKey } from "./signing-key.ts";

/** Where a page ended: a row's id, and before it its time, to the microsecond, where the list is ordered by time. */
export interface Position {
  readonly at?: string;
  readonly id: number;
}

/** Which list, and everything that decides which rows it holds and in which order. */
export interface Scope {
  readonly list: string;
  readonly filters: Readonly<Record<string, string | number | boolean | undefined>>;
}

export interface Cursors {
  seal(position: Position, scope: Scope): Promise<string>;
  /** Throws invalid-request for what is not, to the last character, a cursor of this list and these filters. */
  open(text: string, scope: Scope): Promise<Position>;
}

/** Opaque to clients: a position, a digest of its scope, and a keyed digest of both, so that no part can be changed. */
export function createCursors(pool: ApiDependencies["pool"]): Cursors {
  const key = createSigningKey(pool);
  return {
    async seal({ at = "-", id }, scope) {
      const body = `${at} ${id} ${digestOf(scope)}`;
      return Buffer.from(`${body} ${macOf(await key(), body)}`).toString("base64url");
    },
    async open(text, scope) {
      const found = SHAPE.exec(Buffer.from(text, "base64url").toString("latin1"))?.groups;
      // Decoding skips what is not base64url, so only the round trip shows that nothing was added.
      if (found === undefined || Buffer.from(text, "base64url").toString("base64url") !== text)
        throw damaged();
      const { body = "", at = "", id = "", digest = "", mac = "" } = found;
      if (!timingSafeEqual(Buffer.from(macOf(await key(), body)), Buffer.from(mac))) throw damaged();
      if (digest !== digestOf(scope)) throw ofOtherFilters(scope);
      if (at === "-") return { id: Number(id) };
      if (!isInstant(at)) throw damaged();
      return { at, id: Number(id) };
    },
  };
}

const SHAPE =
  /^(?<body>(?<at>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?<id>\d{1,16}) (?<digest>[\w-]{11})) (?<mac>[\w-]{22})$/;

function digestOf({ list, filters }: Scope): string {
  const given = Object.entries(filters)
    .filter(([, value]) => value !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([list, given]))
    .digest()
    .subarray(0, 8)
    .toString("base64url");
}

function macOf(key: Buffer, body: string): string {
  return createHmac("sha256", key).update(body).digest().subarray(0, 16).toString("base64url");
}

function damaged(): ProblemError {
  return fault("is damaged: send next_cursor as it came, or leave it out to start again");
}

function ofOtherFilters({ filters }: Scope): ProblemError {
  return fault(
    `was made for another list or other filters: send it with the ${Object.keys(filters).join(", ")} it came with, or leave it out to start again`,
  );
}

function fault(detail: string): ProblemError {
  return new ProblemError("invalid-request", undefined, [{ detail, parameter: "cursor" }]);
}
