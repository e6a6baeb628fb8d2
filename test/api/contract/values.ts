import fc from "fast-check";
import type { Contract, Schema } from "./document.ts";
import { OPAQUE } from "./opaque.ts";

export type Arbitrary = fc.Arbitrary<unknown>;

/** Values that a schema most likely accepts, with its boundaries among them. A validator has the last word, not this. */
export function valuesOf(schema: Schema, resolve: Contract["resolve"], depth = 0): Arbitrary {
  return withExamples(schema, plain(flat(schema, resolve), resolve, depth));
}

/** A schema with its references and `allOf` merged into it; the choices that are left are `anyOf` and `oneOf`. */
export function flat(schema: Schema, resolve: Contract["resolve"]): Schema {
  const { $ref, allOf = [], ...own } = schema;
  const parts = [...($ref === undefined ? [] : [resolve<Schema>({ $ref })]), ...allOf];
  return parts.map((part) => flat(part, resolve)).reduce(merge, own);
}

function merge(one: Schema, other: Schema): Schema {
  return {
    ...one,
    ...other,
    ...((one.properties ?? other.properties) && { properties: { ...one.properties, ...other.properties } }),
    ...((one.required ?? other.required) && {
      required: [...(one.required ?? []), ...(other.required ?? [])],
    }),
  };
}

/** The alternatives of a schema, each with one type, or none. */
export function branches(schema: Schema, resolve: Contract["resolve"]): Schema[] {
  const { anyOf, oneOf, ...own } = flat(schema, resolve);
  const choices = anyOf ?? oneOf;
  if (choices !== undefined)
    return choices.flatMap((choice) => branches(merge(own, flat(choice, resolve)), resolve));
  if (own.const !== undefined || own.enum !== undefined) return [own];
  const types = [own.type ?? inferred(own)].flat();
  return types.map((type) => (type === undefined ? own : { ...own, type }));
}

function inferred(schema: Schema): string | undefined {
  const { properties, additionalProperties, items, pattern, format, minLength, maxLength } = schema;
  const { minimum, maximum } = schema;
  if (properties ?? (typeof additionalProperties === "object" && additionalProperties)) return "object";
  if (items) return "array";
  if (pattern ?? format ?? minLength ?? maxLength) return "string";
  return minimum === undefined && maximum === undefined ? undefined : "number";
}

function withExamples(schema: Schema, arbitrary: Arbitrary): Arbitrary {
  const shown = [schema.example, schema.default, ...(schema.examples ?? [])].filter(
    (one) => one !== undefined,
  );
  if (shown.length === 0) return arbitrary;
  return fc.oneof({ weight: 5, arbitrary }, { weight: 1, arbitrary: fc.constantFrom(...shown) });
}

/** Deeper than this, only what has to be there: a schema may hold itself. */
const DEEP = 5;

function plain(schema: Schema, resolve: Contract["resolve"], depth: number): Arbitrary {
  return fc.oneof(...branches(schema, resolve).map((branch) => ofType(branch, resolve, depth)));
}

function ofType(schema: Schema, resolve: Contract["resolve"], depth: number): Arbitrary {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  switch (schema.type) {
    case "null":
      return fc.constant(null);
    case "boolean":
      return fc.boolean();
    case "integer":
      return integers(schema);
    case "number":
      return fc.oneof(integers(schema), numbers(schema));
    case "string":
      return strings(schema);
    case "array":
      return arrays(schema, resolve, depth);
    case "object":
      return objects(schema, resolve, depth);
    default:
      return anything;
  }
}

const awkward = fc.constantFrom("", "\0", "a\0b", "__proto__", "constructor", "toString", "🙂", "\u202e");

const anyText = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 20 }) },
  { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 20 }) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
  { weight: 1, arbitrary: awkward },
);

export const anything: Arbitrary = fc.oneof(
  anyText,
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(null, true, false, Number.MAX_SAFE_INTEGER, 1e300, [], {}),
  fc.array(anyText, { maxLength: 3 }),
  fc.dictionary(anyText, fc.oneof(anyText, fc.jsonValue({ maxDepth: 2 })), { maxKeys: 3 }),
);

function integers(schema: Schema): Arbitrary {
  const step = schema.multipleOf ?? 1;
  const { least, most } = range(schema, Number.isInteger(step) ? step : 1);
  const edges = [least, most, least + step, most - step, 0, 1, 2].filter((n) => n >= least && n <= most);
  return fc
    .oneof(
      fc.constantFrom(...edges),
      fc.integer({ min: Math.min(Math.max(least, -1000), most), max: Math.max(Math.min(most, 1000), least) }),
      fc.integer({ min: least, max: most }),
    )
    .map((n) => (Number.isInteger(step) ? n - (n % step) : n));
}

function numbers(schema: Schema): Arbitrary {
  const { least, most } = range(schema, 0);
  return fc.double({ min: least, max: most, noNaN: true, noDefaultInfinity: true });
}

function range(schema: Schema, step: number): { least: number; most: number } {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const least =
    minimum ?? (exclusiveMinimum === undefined ? -Number.MAX_SAFE_INTEGER : exclusiveMinimum + step);
  const most =
    maximum ?? (exclusiveMaximum === undefined ? Number.MAX_SAFE_INTEGER : exclusiveMaximum - step);
  return step === 0 ? { least, most } : { least: Math.ceil(least), most: Math.floor(most) };
}

function strings(schema: Schema): fc.Arbitrary<string> {
  const { format, pattern, minLength = 0, maxLength = Number.POSITIVE_INFINITY } = schema;
  const fits = (text: string) => {
    const length = [...text].length;
    return length >= minLength && length <= maxLength && (!pattern || new RegExp(pattern, "u").test(text));
  };
  if (format !== undefined) {
    const made = FORMATS[format];
    if (made === undefined) throw new Error(`this harness knows no texts of the format ${format}`);
    return often(made, fits) ?? matching(schema);
  }
  const free = often(anyText, fits);
  const edges = often(sized(schema), fits);
  const strict = pattern === undefined ? undefined : matching(schema);
  const all = [...(free ? [free, free] : []), ...(edges ? [edges] : []), ...(strict ? [strict] : [])];
  return fc.oneof(...all);
}

/** What of it fits; nothing when that is too rare to wait for. */
function often<Value>(arbitrary: fc.Arbitrary<Value>, fits: (value: Value) => boolean) {
  const some = fc.sample(arbitrary, { numRuns: 100, seed: 1 });
  return some.filter(fits).length < 20 ? undefined : arbitrary.filter(fits);
}

function matching({ pattern = "", examples, example }: Schema): fc.Arbitrary<string> {
  try {
    return fc.stringMatching(new RegExp(pattern, "u"));
  } catch (error) {
    // Not every pattern can be turned round; then what the document shows has to do.
    const shown = [example, ...(examples ?? [])].filter((one) => typeof one === "string");
    if (shown.length > 0) return fc.constantFrom(...shown);
    throw new Error(`this harness can make no text of ${pattern}: show examples`, { cause: error });
  }
}

/** At the limits, which count characters, not UTF-16 units. */
function sized({ minLength = 0, maxLength }: Schema): fc.Arbitrary<string> {
  const lengths = [minLength, ...(maxLength === undefined ? [] : [maxLength])].filter((n) => n <= MANY);
  return fc
    .tuple(fc.constantFrom("a", "é", "🙂", "1"), fc.constantFrom(...lengths, Math.max(minLength, 1)))
    .map(([character, length]) => character.repeat(length));
}

const two = (min: number, max: number) => fc.integer({ min, max }).map((n) => `${n}`.padStart(2, "0"));
const years = fc.oneof(
  fc.integer({ min: 1970, max: 2100 }),
  fc.integer({ min: 1, max: 9999 }),
  fc.constantFrom(1, 1582, 1900, 2000, 2024, 9999),
);
const dates = fc
  .tuple(years, two(1, 12), two(1, 28))
  .map(([year, month, day]) => `${`${year}`.padStart(4, "0")}-${month}-${day}`);
const soon = fc
  .integer({ min: -86_400, max: 30 * 86_400 })
  .map((seconds) => new Date(Date.now() + seconds * 1_000).toISOString());
const instants = fc
  .tuple(
    dates,
    fc.tuple(two(0, 23), two(0, 59), two(0, 59)).map((parts) => parts.join(":")),
    fc.constantFrom("", ".1", ".123", ".123456", ".123456789", ".000000000001"),
    fc.constantFrom("Z", "z", "+00:00", "-00:00", "+03:00", "-11:30", "+15:59", "-15:59", "+23:59"),
    fc.constantFrom("T", "t"),
  )
  .map(([date, time, fraction, offset, t]) => `${date}${t}${time}${fraction}${offset}`);

const FORMATS: Readonly<Record<string, fc.Arbitrary<string>>> = {
  date: dates,
  "date-time": fc.oneof(soon, instants, fc.constantFrom("2024-02-29T00:00:00Z", "2016-12-31T23:59:60Z")),
  uuid: fc.uuid(),
  uri: fc.webUrl(),
  email: fc.emailAddress(),
  ipv4: fc.ipV4(),
  ipv6: fc.ipV6(),
  [OPAQUE]: fc
    .base64String()
    .map((text) => text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")),
};

/** The most items, or characters, that are worth sending. */
export const MANY = 20_000;

function arrays(schema: Schema, resolve: Contract["resolve"], depth: number): Arbitrary {
  const { items = {}, minItems = 0, maxItems = Number.POSITIVE_INFINITY } = schema;
  if (depth >= DEEP && minItems === 0) return fc.constant([]);
  const item = valuesOf(items, resolve, depth + 1);
  const usual = fc.array(item, { minLength: minItems, maxLength: Math.max(minItems, Math.min(maxItems, 3)) });
  if (maxItems > MANY || depth > 0) return usual;
  const full = item.map((one) => new Array<unknown>(maxItems).fill(one));
  return fc.oneof({ weight: 20, arbitrary: usual }, { weight: 1, arbitrary: full });
}

function objects(schema: Schema, resolve: Contract["resolve"], depth: number): Arbitrary {
  const { properties = {}, required = [], additionalProperties = true } = schema;
  const open =
    additionalProperties !== false && (Object.keys(properties).length === 0 || additionalProperties !== true);
  const known = Object.entries(properties).filter(([name]) => depth < DEEP || required.includes(name));
  const record = fc.record(
    Object.fromEntries(known.map(([name, one]) => [name, valuesOf(one, resolve, depth + 1)])),
    { requiredKeys: known.map(([name]) => name).filter((name) => required.includes(name)) },
  );
  if (!open || depth >= DEEP) return record;
  const value =
    additionalProperties === true ? anything : valuesOf(additionalProperties as Schema, resolve, depth + 1);
  const names = schema.propertyNames === undefined ? anyText : strings(schema.propertyNames);
  const others = fc.dictionary(names, value, { maxKeys: Math.min(schema.maxProperties ?? 3, 3) });
  return fc.tuple(others, record).map(([more, own]) => ({ ...more, ...(own as object) }));
}
