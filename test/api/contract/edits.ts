import type { Contract, Schema } from "./document.ts";
import { branches, MANY } from "./values.ts";

/** The same value with one thing changed, in every way and place that is worth a try. Some of them may still be valid. */
export function editsOf(schema: Schema, value: unknown, resolve: Contract["resolve"]): unknown[] {
  const alternatives = branches(schema, resolve);
  const here = [...OTHER_TYPES, ...alternatives.flatMap((one) => beyond(one, value)), ...nearly(value)];
  if (Array.isArray(value)) {
    const items = alternatives.find(({ items }) => items)?.items ?? {};
    const first = value
      .slice(0, 3)
      .flatMap((one, at) => editsOf(items, one, resolve).map((edit) => value.with(at, edit)));
    return [...here, ...first];
  }
  if (typeof value !== "object" || value === null) return here;
  const fields = Object.entries(value);
  const inside = fields.flatMap(([name, one]) => {
    const owner = alternatives.find(({ properties }) => properties && name in properties);
    const open = alternatives.find(({ additionalProperties }) => typeof additionalProperties === "object");
    const own = owner?.properties?.[name] ?? (open?.additionalProperties as Schema | undefined) ?? {};
    const replaced = (edit: unknown) =>
      Object.fromEntries(fields.map(([n, v]) => [n, n === name ? edit : v]));
    return editsOf(own, one, resolve).map(replaced);
  });
  const without = fields.map(([name]) => Object.fromEntries(fields.filter(([other]) => other !== name)));
  const sample = fields[0]?.[1] ?? 1;
  const more = NEW_NAMES.map((name) => Object.fromEntries([...fields, [name, sample]]));
  const renamed = fields.map(([name, one]) =>
    Object.fromEntries([...fields.filter(([other]) => other !== name), [name.toUpperCase(), one]]),
  );
  return [...here, ...without, ...more, ...renamed, ...inside];
}

const OTHER_TYPES = [
  null,
  true,
  0,
  1.5,
  -1,
  1e300,
  2 ** 53,
  "",
  "x",
  "a\0b",
  "\ud800",
  [],
  {},
  [[]],
  { x: 1 },
];
const NEW_NAMES = ["unknown", "", "__proto__", "constructor", "\0"];

/** Right beyond what a schema allows. */
function beyond(schema: Schema, value: unknown): unknown[] {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const { minLength = 0, maxLength, minItems = 0, maxItems } = schema;
  const edits: unknown[] = [];
  if (minimum !== undefined) edits.push(minimum - 1);
  if (maximum !== undefined) edits.push(maximum + 1);
  if (exclusiveMinimum !== undefined) edits.push(exclusiveMinimum);
  if (exclusiveMaximum !== undefined) edits.push(exclusiveMaximum);
  if (minLength > 0) edits.push("a".repeat(minLength - 1), "🙂".repeat(minLength - 1));
  if (maxLength !== undefined && maxLength < MANY)
    edits.push("a".repeat(maxLength + 1), "🙂".repeat(maxLength + 1));
  if (!Array.isArray(value)) return edits;
  if (minItems > 0) edits.push(value.slice(0, minItems - 1));
  if (maxItems !== undefined && maxItems < MANY && value.length > 0)
    edits.push(Array.from({ length: maxItems + 1 }, (_, n) => value[n % value.length]));
  return edits;
}

/** What a person gets wrong. */
function nearly(value: unknown): unknown[] {
  if (typeof value === "number") return [`${value}`, -value, value + 0.5, value * 1e20];
  if (typeof value === "boolean") return [`${value}`, Number(value)];
  if (typeof value !== "string") return [[value]];
  const twice = value.length < 100 ? [value + value] : [];
  return [
    ` ${value}`,
    `${value} `,
    `${value}\n`,
    `${value}\0`,
    value.toUpperCase(),
    value.slice(1),
    ...twice,
    [value],
  ];
}
