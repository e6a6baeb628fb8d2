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
  /** What clients call the cursor, for faults. */
  readonly called?: Called;
}

interface Called {
  readonly parameter: string;
  /** What they were given. */
  readonly given: string;
}

export interface Cursors {
  seal(position: Position, scope: Scope): Promise<string>;
  /** Throws invalid-request for what is not, to the last character, a cursor of this list and these filters. */
  open(text: string, scope: Scope): Promise<Position>;
  /** As seal, for a list that is read from several tables: a position in each, in an order of the caller's. */
  sealAll(positions: readonly Position[], scope: Scope): Promise<string>;
  openAll(text: string, scope: Scope): Promise<Position[]>;
}

/** Opaque to clients: a position, a digest of its scope, and a keyed digest of both, so that no part can be changed. */
export function createCursors(pool: ApiDependencies["pool"]): Cursors {
  const key = createSigningKey(pool);

  async function sealAll(positions: readonly Position[], scope: Scope): Promise<string> {
    const places = positions.map(({ at = "-", id }) => `${at} ${id}`).join(" ");
    const body = `${places} ${digestOf(scope)}`;
    return Buffer.from(`${body} ${macOf(await key(), body)}`).toString("base64url");
  }

  async function openAll(text: string, scope: Scope): Promise<Position[]> {
    const found = SHAPE.exec(Buffer.from(text, "base64url").toString("latin1"))?.groups;
    // Decoding skips what is not base64url, so only the round trip shows that nothing was added.
    if (found === undefined || Buffer.from(text, "base64url").toString("base64url") !== text)
      throw damaged(scope);
    const { body = "", places = "", digest = "", mac = "" } = found;
    if (!timingSafeEqual(Buffer.from(macOf(await key(), body)), Buffer.from(mac))) throw damaged(scope);
    if (digest !== digestOf(scope)) throw ofOtherFilters(scope);
    return [...places.matchAll(PLACE)].map(([, at = "", id]) => {
      if (at === "-") return { id: Number(id) };
      if (!isInstant(at)) throw damaged(scope);
      return { at, id: Number(id) };
    });
  }

  return {
    seal: (position, scope) => sealAll([position], scope),
    async open(text, scope) {
      const [position] = await openAll(text, scope);
      if (position === undefined) throw damaged(scope);
      return position;
    },
    sealAll,
    openAll,
  };
}

const PLACE = /(-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\d{1,16})/g;
const SHAPE = new RegExp(
  `^(?<body>(?<places>${PLACE.source}(?: ${PLACE.source})*) (?<digest>[\\w-]{11})) (?<mac>[\\w-]{22})$`,
);

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

const CALLED: Called = { parameter: "cursor", given: "next_cursor" };

function damaged(scope: Scope): ProblemError {
  const { given } = scope.called ?? CALLED;
  return fault(scope, `is damaged: send ${given} as it came, or leave it out to start again`);
}

function ofOtherFilters(scope: Scope): ProblemError {
  const filters = Object.keys(scope.filters);
  const advice = filters.length === 0 ? "" : `send it with the ${filters.join(", ")} it came with, or `;
  return fault(scope, `was made for another list or other filters: ${advice}leave it out to start again`);
}

function fault({ called = CALLED }: Scope, detail: string): ProblemError {
  return new ProblemError("invalid-request", undefined, [{ detail, parameter: called.parameter }]);
}
