import { Ajv2020, type ErrorObject } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { Contract, Schema } from "./document.ts";
import { OPAQUE } from "./opaque.ts";

/** Says what is wrong with a value, by a schema of the document; nothing when it is valid. */
export type Check = (schema: Schema, value: unknown) => string[];

export interface Schemas {
  /** For what a client sends: what a schema leaves open is open. */
  readonly request: Check;
  /** For what the server answers: a property that is not in the document is a fault, too. */
  readonly answer: Check;
}

const ID = "urn:contract:document";
const OF_OPENAPI = ["example", "discriminator", "externalDocs", "xml"];

export function createSchemas({ document }: Pick<Contract, "document">): Schemas {
  const shared = referredToInAllOf(document);
  return {
    request: checker(document, (schema) => schema),
    answer: checker(document, (schema) => closed(schema, shared)),
  };
}

function checker(document: { components?: { schemas?: object } }, ready: (schema: object) => object): Check {
  const ajv = new Ajv2020({ allErrors: true, strictTypes: false, strictRequired: false });
  // CommonJS, whose types say otherwise: the function is the `default` of its default export.
  (addFormats as unknown as { default: typeof addFormats.default }).default(ajv);
  ajv.addFormat(OPAQUE, true);
  ajv.addVocabulary(OF_OPENAPI);
  const schemas = Object.entries(document.components?.schemas ?? {}).map(([name, schema]) => [
    name,
    ready(schema),
  ]);
  ajv.addSchema({ $id: ID, $defs: absolute(Object.fromEntries(schemas)) });

  const compiled = new WeakMap<Schema, ReturnType<typeof ajv.compile>>();
  return (schema, value) => {
    const validate = compiled.get(schema) ?? ajv.compile(absolute(ready(schema)));
    compiled.set(schema, validate);
    return validate(value) ? [] : (validate.errors ?? []).map(sentence);
  };
}

/** A schema is compiled by itself, so its references must say which document they mean. */
function absolute(part: object): object {
  return JSON.parse(JSON.stringify(part).replaceAll(`"#/components/schemas/`, `"${ID}#/$defs/`));
}

/**
 * The same schema, but an object that names its properties may have no others. Parts of an `allOf` are closed together, by the whole;
 * a component that is such a part stays open.
 */
function closed(schema: Schema, shared: ReadonlySet<Schema | string>): Schema {
  const each = (one: Schema): Schema => closed(one, shared);
  const { properties, additionalProperties, items, anyOf, oneOf, allOf } = schema;
  const copy: Schema = {
    ...schema,
    ...(properties && {
      properties: Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, each(one)])),
    }),
    ...(typeof additionalProperties === "object" && { additionalProperties: each(additionalProperties) }),
    ...(items && { items: each(items) }),
    ...(anyOf && { anyOf: anyOf.map(each) }),
    ...(oneOf && { oneOf: oneOf.map(each) }),
    ...(allOf && { allOf: allOf.map((part) => closed(part, new Set([...shared, part]))) }),
  };
  if (additionalProperties !== undefined || shared.has(schema)) return copy;
  if (allOf) return { ...copy, unevaluatedProperties: false } as Schema;
  return properties ? { ...copy, additionalProperties: false } : copy;
}

/** The components that stand in an `allOf` somewhere, as the schemas they are. */
function referredToInAllOf(document: { components?: { schemas?: Record<string, Schema> } }): Set<Schema> {
  const found = new Set<Schema>();
  const byReference = new Map(
    Object.entries(document.components?.schemas ?? {}).map(([name, one]) => [
      `#/components/schemas/${name}`,
      one,
    ]),
  );
  JSON.stringify(document, (key, value) => {
    if (key !== "allOf" || !Array.isArray(value)) return value;
    for (const { $ref = "" } of value as Schema[]) {
      const component = byReference.get($ref);
      if (component !== undefined) found.add(component);
    }
    return value;
  });
  return found;
}

function sentence({ instancePath, message, params }: ErrorObject): string {
  const named = params.additionalProperty ?? params.unevaluatedProperty ?? params.allowedValues;
  const which = named === undefined ? "" : `: ${JSON.stringify(named)}`;
  return `${instancePath || "the whole"} ${message}${which}`;
}
