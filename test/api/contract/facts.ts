import type { Contract, Operation, Parameter, Schema } from "./document.ts";
import { EVENT_ID, isEventId, OPAQUE } from "./opaque.ts";
import type { Answer } from "./wire.ts";

/**
 * What answers said, by name, so that later requests can speak of the same things. `GET /gateways` with `{"gateways": [{"name": "x"}]}`
 * makes the facts `name`, `gateway.name` and `gateway` … `x` for whoever asks by one of these names.
 */
export interface Facts {
  /** The values for one of these names, the newest first: for the surest of them that there are any, or for all of them. */
  readonly of: (wanted: Wanted, surest?: boolean) => unknown[];
  /** A query that an answer said how to go on with, by operation. */
  readonly continuations: (operation: Operation) => Continuation[];
  /** The newest ETag of this path, or of the nearest above it. */
  readonly etag: (path: string) => string | undefined;
  readonly learn: (operation: Operation, sent: Sent, answer: Answer) => void;
}

export type Wanted = readonly string[];

/** What has to be known of a request to learn from its answer. */
export interface Sent {
  readonly path: string;
  readonly query: readonly (readonly [name: string, text: string])[];
}

export interface Continuation {
  readonly query: Sent["query"];
  readonly parameter: string;
  readonly text: string;
}

const KEPT = 50;

export function createFacts(before?: Facts): Facts {
  const values = new Map<string, unknown[]>();
  const etags = new Map<string, string>();
  const continuations = new Map<Operation, Continuation[]>();

  function note(name: string, value: unknown): void {
    const known = values.get(name) ?? [];
    if (known.includes(value)) return;
    values.set(name, [value, ...known].slice(0, KEPT));
  }

  return {
    of(wanted, surest = false) {
      const known = wanted.map((name) => [...(values.get(name) ?? []), ...(before?.of([name]) ?? [])]);
      const chosen = surest ? (known.find((some) => some.length > 0) ?? []) : known.flat();
      return [...new Set(chosen)];
    },
    continuations: (operation) => [
      ...(continuations.get(operation) ?? []),
      ...(before?.continuations(operation) ?? []),
    ],
    etag: (path) => {
      for (let at = path; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
        const found = etags.get(at);
        if (found !== undefined) return found;
      }
      return before?.etag(path);
    },
    learn(operation, { path, query }, answer) {
      if (answer.status >= 300) return;
      const { etag } = answer.headers;
      if (etag !== undefined) etags.set(path, etag);
      for (const id of eventIds(answer)) note(EVENT_ID, id);
      const body = parsed(answer);
      if (body === undefined) return;
      walk(body, contexts(operation.path), note);
      for (const { name, schema, ...parameter } of operation.parameters) {
        const next = (body as Record<string, unknown> | null)?.[`next_${name}`];
        if (schema.format !== OPAQUE || parameter.in !== "query" || typeof next !== "string") continue;
        const others = query.filter(([other]) => other !== name);
        const known = continuations.get(operation) ?? [];
        continuations.set(
          operation,
          [{ query: others, parameter: name, text: next }, ...known].slice(0, KEPT),
        );
      }
    },
  };
}

/** The names of facts that a parameter can take its value from, the surest first; none for what stands for nothing. */
export function wantedBy(operation: Operation, { name, in: place }: Pick<Parameter, "name" | "in">): Wanted {
  if (isEventId(name)) return [EVENT_ID];
  if (place === "header") return [name.toLowerCase()];
  if (place === "query") return wantedByName(name);
  const before = operation.path.split(`{${name}}`)[0]?.split("/").at(-2) ?? "";
  const owner = singular(before);
  return [`${owner}.${singular(name)}`, `${owner}_${name}`, owner, name];
}

/** The same for a property of a body. */
export function wantedByName(name: string): Wanted {
  const one = singular(name);
  const base = /^(.+)_id$/.exec(one)?.[1];
  return [name, one, `next_${one}`, base === undefined ? `${one}.name` : `${base}.id`];
}

/** The names of the facts that an operation's answers may make, as far as its schemas tell. */
export function madeBy(operation: Operation, { resolve }: Pick<Contract, "resolve">): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [status, answer] of operation.answers) {
    if (!status.startsWith("2")) continue;
    if (answer.headers.some(({ name }) => name.toLowerCase() === "etag")) names.add("if-match");
    for (const [type, { schema }] of answer.content) {
      if (type === "text/event-stream") names.add(EVENT_ID);
      else walkSchema(schema, contexts(operation.path), resolve, (name) => names.add(name));
    }
  }
  return names;
}

type Note = (name: string, value: unknown) => void;

/** Deeper, there is only what producers keep for themselves. */
const DEEP = 10;

function walk(value: unknown, within: readonly string[], note: Note, name?: string, depth = 0): void {
  if (depth > DEEP) return;
  if (Array.isArray(value)) {
    for (const one of value.slice(0, KEPT)) walk(one, within, note, name, depth + 1);
  } else if (typeof value === "object" && value !== null) {
    for (const [key, one] of Object.entries(value)) walk(one, inside(name, within), note, key, depth + 1);
  } else if (name !== undefined && value !== null && typeof value !== "boolean") {
    for (const fact of factNames(name, within)) note(fact, value);
  }
}

function walkSchema(
  schema: Schema,
  within: readonly string[],
  resolve: Contract["resolve"],
  note: (name: string) => void,
  name?: string,
  depth = 0,
): void {
  if (depth > DEEP) return; // it refers to itself
  const { properties, items, anyOf = [], oneOf = [], allOf = [] } = resolve<Schema>(schema);
  const go = (one: Schema, inside = within, called = name) =>
    walkSchema(one, inside, resolve, note, called, depth + 1);
  for (const one of [...anyOf, ...oneOf, ...allOf]) go(one);
  if (items) go(items);
  for (const [key, one] of Object.entries(properties ?? {})) go(one, inside(name, within), key);
  if (!properties && !items && name !== undefined) for (const fact of factNames(name, within)) note(fact);
}

/** The items of `messages` are messages, whatever the path says. */
function inside(name: string | undefined, within: readonly string[]): readonly string[] {
  return name === undefined ? within : [singular(name)];
}

function factNames(name: string, within: readonly string[]): string[] {
  const own = singular(name);
  return [...new Set([name, own, ...within.map((owner) => `${owner}.${own}`)])];
}

/** Of `/api/v1/messages/{id}/cancel`: what its answers are about, by every word of the path. */
function contexts(path: string): string[] {
  return path
    .split("/")
    .filter((step) => step !== "" && !step.startsWith("{"))
    .map(singular);
}

function singular(word: string): string {
  return word.length > 3 ? word.replace(/ies$/, "y").replace(/(?<!s)s$/, "") : word;
}

function parsed({ headers, body }: Answer): unknown {
  if (!/[/+]json\b/.test(headers["content-type"] ?? "")) return undefined;
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

function eventIds({ headers, body }: Answer): string[] {
  if (!headers["content-type"]?.startsWith("text/event-stream")) return [];
  return [...body.toString().matchAll(/^id: ?(.+)$/gm)].map(([, id = ""]) => id);
}
