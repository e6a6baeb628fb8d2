/** What this harness reads of JSON Schema 2020-12. A validator reads the rest. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly propertyNames?: Schema;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly pattern?: string;
  readonly format?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly multipleOf?: number;
  /** Of a stream: what each event's data is. */
  readonly contentSchema?: Schema;
  readonly default?: unknown;
  readonly example?: unknown;
  readonly examples?: readonly unknown[];
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly schema: Schema;
  /** Of an array in a query: `a=1&a=2`, or else `a=1,2`. */
  readonly explode: boolean;
  /** Its text is JSON. */
  readonly json: boolean;
  readonly examples: readonly unknown[];
}

export interface Media {
  readonly schema: Schema;
  readonly examples: readonly unknown[];
}

export interface Body {
  readonly required: boolean;
  readonly content: ReadonlyMap<string, Media>;
}

export interface AnswerDescription {
  readonly content: ReadonlyMap<string, Media>;
  readonly headers: readonly { readonly name: string; readonly required: boolean; readonly schema: Schema }[];
}

/** Any one of these is enough; each names the schemes, with their scopes, that it takes together. */
export type Security = readonly Readonly<Record<string, readonly string[]>>[];

export interface Operation {
  readonly id: string;
  readonly method: string;
  /** As the document writes it: `/messages/{id}`. */
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly body: Body | undefined;
  /** By status: `200`, `4XX` or `default`. */
  readonly answers: ReadonlyMap<string, AnswerDescription>;
  readonly security: Security;
}

export interface Contract {
  readonly operations: readonly Operation[];
  readonly schemes: Readonly<Record<string, unknown>>;
  /** What a reference leads to; anything else is itself. */
  readonly resolve: <T extends object>(one: T | { readonly $ref: string }) => T;
  readonly document: object;
}

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/** The document, its references still in place where they are in schemas, followed everywhere else. */
export function readContract(document: unknown): Contract {
  const root = object(document, "the document");
  const resolve = <T extends object>(one: T | { readonly $ref: string }): T => {
    if (!("$ref" in one) || typeof one.$ref !== "string") return one as T;
    const steps = one.$ref.replace(/^#\//, "").split("/");
    const names = steps.map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
    const found = names.reduce<unknown>((at, name) => (at as Json | undefined)?.[name], root);
    if (typeof found !== "object" || found === null) throw new Error(`${one.$ref} leads nowhere`);
    return resolve(found as T);
  };

  const operations = Object.entries(object(root.paths, "paths")).flatMap(([path, item]) =>
    Object.entries(item as Json)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, operation]) =>
        readOperation(root, path, method, item as Json, operation as Json, resolve),
      ),
  );
  const { securitySchemes = {} } = (root.components ?? {}) as Json;
  return { operations, schemes: securitySchemes as Json, resolve, document: root };
}

/** The operation that a request is for; a path without parameters comes before one with (OpenAPI 3.1, Paths Object). */
export function operationFor({ operations }: Contract, method: string, path: string): Operation | undefined {
  const here = operations.filter((one) => one.method === method.toUpperCase() && matches(one.path, path));
  return here.find((one) => one.path === path) ?? here[0];
}

function matches(template: string, path: string): boolean {
  const parts = template.split(/\{[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join("[^/]+")}$`).test(path);
}

type Json = Readonly<Record<string, unknown>>;
type Resolve = Contract["resolve"];

function readOperation(
  root: Json,
  path: string,
  method: string,
  item: Json,
  operation: Json,
  resolve: Resolve,
): Operation {
  const id = `${operation.operationId ?? `${method} ${path}`}`;
  const own = list(operation.parameters).map((one) => readParameter(resolve(one), id));
  const shared = list(item.parameters)
    .map((one) => readParameter(resolve(one), id))
    .filter(({ name }) => own.every((one) => one.name !== name));
  const body = operation.requestBody === undefined ? undefined : resolve(operation.requestBody as Json);
  const answers = Object.entries(object(operation.responses, `the responses of ${id}`)).map(
    ([status, answer]) => [status, readAnswer(resolve(answer as Json), resolve)] as const,
  );
  return {
    id,
    method: method.toUpperCase(),
    path,
    parameters: [...shared, ...own],
    body: body && { required: body.required === true, content: readContent(body.content) },
    answers: new Map(answers),
    security: (operation.security ?? root.security ?? []) as Security,
  };
}

function readParameter(parameter: Json, operation: string): Parameter {
  const { name, in: place, style, required, explode = true, content } = parameter;
  const media = (content as Record<string, Json> | undefined)?.["application/json"];
  const { schema } = media ?? parameter;
  const usual = { path: "simple", query: "form", header: "simple" }[`${place}`];
  if (usual === undefined || schema === undefined || (style !== undefined && style !== usual))
    throw new Error(`${operation}: this harness cannot send the parameter ${name} (${place}, ${style})`);
  return {
    name: `${name}`,
    in: place as Parameter["in"],
    required: required === true,
    schema: schema as Schema,
    explode: explode === true,
    json: media !== undefined,
    examples: readExamples(media ?? parameter),
  };
}

function readAnswer(answer: Json, resolve: Resolve): AnswerDescription {
  const headers = Object.entries((answer.headers ?? {}) as Json).map(([name, one]) => {
    const { required, schema = {} } = resolve(one as Json);
    return { name, required: required === true, schema: schema as Schema };
  });
  return { content: readContent(answer.content), headers };
}

function readContent(content: unknown = {}): ReadonlyMap<string, Media> {
  return new Map(
    Object.entries(content as Record<string, Json>).map(([type, media]) => [
      type.toLowerCase(),
      { schema: (media.schema ?? {}) as Schema, examples: readExamples(media) },
    ]),
  );
}

function readExamples({ example, examples }: Json): unknown[] {
  const named = Object.values((examples ?? {}) as Record<string, Json>).flatMap((one) => one.value ?? []);
  return example === undefined ? named : [example, ...named];
}

function list(value: unknown): Json[] {
  return (value ?? []) as Json[];
}

function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null) throw new Error(`${what} is not there`);
  return value as Json;
}
