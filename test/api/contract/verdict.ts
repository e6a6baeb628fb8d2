import type { Body, Contract, Operation, Parameter, Schema } from "./document.ts";
import { OPAQUE } from "./opaque.ts";
import type { Schemas } from "./schemas.ts";
import { branches } from "./values.ts";

/**
 * What the document says of a request. `valid`: the server may refuse it for what it knows (there is no such message), but not for its
 * form. `broken`: it may not accept it. `odd`: the document does not say; anything documented will do.
 */
export interface Verdict {
  readonly kind: "valid" | "broken" | "odd";
  readonly why: string;
}

export interface Parts {
  readonly operation: Operation;
  /** By parameter, before they were escaped; nothing when they cannot be read. */
  readonly texts: ReadonlyMap<Parameter, readonly string[] | undefined>;
  /** Named by no parameter. */
  readonly otherHeaders: readonly string[];
  readonly body: { readonly type: string | undefined; readonly bytes: Buffer } | undefined;
  /** The parameters whose opaque texts an answer gave, for a request like this. */
  readonly given: ReadonlySet<Parameter>;
}

const VALID: Verdict = { kind: "valid", why: "" };
const broken = (why: string): Verdict => ({ kind: "broken", why });
const odd = (why: string): Verdict => ({ kind: "odd", why });

/** A request is as good as its worst part. */
export function verdictOn(parts: Parts, schemas: Schemas, resolve: Contract["resolve"]): Verdict {
  const { operation, texts, otherHeaders, body, given } = parts;
  const verdicts = [
    ...operation.parameters.map((parameter) => onParameter(parameter, texts, given, schemas, resolve)),
    ...otherHeaders.map((name) => odd(`the header ${name} is not in the document`)),
    onBody(operation.body, body, schemas),
  ];
  const of = (kind: Verdict["kind"]) => verdicts.find((one) => one.kind === kind);
  return of("broken") ?? of("odd") ?? VALID;
}

function onParameter(
  parameter: Parameter,
  sent: Parts["texts"],
  given: Parts["given"],
  schemas: Schemas,
  resolve: Contract["resolve"],
): Verdict {
  const { name, required, schema, explode, json } = parameter;
  if (!sent.has(parameter)) return required ? broken(`${name} is missing`) : VALID;
  const texts = sent.get(parameter);
  if (texts === undefined) return odd(`${name} is no text`);
  if (schema.format === OPAQUE && !given.has(parameter)) return odd(`${name} was not given for this request`);

  const types = branches(schema, resolve);
  const items = types.find(({ items }) => items)?.items;
  if (items !== undefined && !json) {
    const repeats = explode && parameter.in === "query";
    if (!repeats && texts.length !== 1) return broken(`${name} is given ${texts.length} times`);
    const separate = repeats ? texts : texts.flatMap((text) => text.split(","));
    const read = separate.map((text) => readings(text, branches(items, resolve).map(typeOf)));
    if (read.some((one) => one.length === 0)) return odd(`an item of ${name} may be read in several ways`);
    return onValues(name, [read.map(([one]) => one)], parameter, schemas);
  }
  if (texts.length !== 1) return broken(`${name} is given ${texts.length} times`);
  const [text = ""] = texts;
  // Where leading and trailing blanks are not part of the text.
  if (parameter.in === "header" && text !== text.trim()) return odd(`${name} begins or ends with a blank`);
  if (parameter.in === "header" && /[^\x20-\x7e]/.test(text)) return odd(`${name} is not ASCII`);
  if (json) return onJson(name, text, schema, schemas);
  const values = readings(text, types.map(typeOf));
  if (values.length === 0 && NUMBERLIKE.test(text)) return odd(`${name} may be read as a number, or not`);
  return onValues(name, values, parameter, schemas);
}

function onValues(
  name: string,
  values: readonly unknown[],
  { schema }: Parameter,
  schemas: Schemas,
): Verdict {
  const faults = values.map((value) => schemas.request(schema, value));
  if (faults.some((one) => one.length === 0)) return VALID;
  return broken(`${name}: ${faults[0]?.join("; ") ?? "is of another type"}`);
}

/** Servers differ in how lenient they are with these. */
const NUMBERLIKE = /^\s*[-+]?(\p{Nd}|[.,_]|e[-+]?\d|0x[\da-f])*\s*$/iu;

type TypeName = string | undefined;

function typeOf(schema: { type?: unknown; enum?: readonly unknown[]; const?: unknown }): TypeName {
  if (typeof schema.type === "string") return schema.type;
  const [sample] = schema.enum ?? [schema.const];
  return sample === undefined ? undefined : typeof sample;
}

/** Every value that a text may stand for. */
function readings(text: string, types: readonly TypeName[]): unknown[] {
  const numeric = types.some((type) => type === "integer" || type === "number");
  return [
    ...(types.some((type) => type === "string" || type === undefined) ? [text] : []),
    ...(numeric && `${Number(text)}` === text && Number.isFinite(Number(text)) ? [Number(text)] : []),
    ...(types.includes("boolean") && /^(true|false)$/.test(text) ? [text === "true"] : []),
  ];
}

function onBody(described: Body | undefined, sent: Parts["body"], schemas: Schemas): Verdict {
  if (described === undefined) return sent === undefined ? VALID : odd("a body that nobody asked for");
  if (sent === undefined) return described.required ? broken("the body is missing") : VALID;
  const [type = ""] = (sent.type ?? "").toLowerCase().split(";");
  const media = described.content.get(type.trim());
  if (media === undefined) {
    const unsure = sent.type === undefined || sent.bytes.length === 0;
    return unsure ? odd("a body of no type") : broken(`a body of the type ${sent.type}`);
  }
  if (!/^[^;]*(; ?charset=utf-8)?$/i.test(sent.type ?? "")) return odd("the media type has parameters");
  if (sent.bytes.length === 0) return described.required ? broken("the body is empty") : odd("an empty body");

  const text = sent.bytes.toString();
  if (!Buffer.from(text).equals(sent.bytes) || text.startsWith("\ufeff"))
    return odd("the body is not plain UTF-8");
  return onJson("the body", text, media.schema, schemas);
}

function onJson(what: string, text: string, schema: Schema, schemas: Schemas): Verdict {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return broken(`${what} is not JSON`);
  }
  const strange = strangeness(text);
  if (strange !== undefined) return odd(`${what} has ${strange}`);
  const faults = schemas.request(schema, value);
  return faults.length === 0 ? VALID : broken(`${what}: ${faults.slice(0, 3).join("; ")}`);
}

/** What JSON's grammar allows, and its readers do not agree on (RFC 8259, sections 4, 6, 8.2 and 9). */
function strangeness(text: string): string | undefined {
  let depth = 0;
  let deepest = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{[]|[}\]]/g)) {
    if (token === "{" || token === "[") depth += 1;
    else if (token === "}" || token === "]") depth -= 1;
    deepest = Math.max(deepest, depth);
  }
  if (deepest > 20) return `${deepest} levels`;
  let found: string | undefined;
  const value = JSON.parse(text, (key, one) => {
    if (!key.isWellFormed() || (typeof one === "string" && !one.isWellFormed())) found = "a lone surrogate";
    if (typeof one === "number" && !Number.isFinite(one)) found = "a number beyond all limits";
    return one;
  });
  if (found !== undefined) return found;
  return members(text) === count(value) ? undefined : "a name that comes twice";
}

function members(text: string): number {
  return [...text.matchAll(/"(?:[^"\\]|\\.)*"\s*(:)?/g)].filter(([, colon]) => colon).length;
}

function count(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce((sum: number, one) => sum + count(one), own);
}
