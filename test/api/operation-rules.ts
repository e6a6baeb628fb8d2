/** What this project wants of each of its operations, and no linter knows. */
export function shortcomings(document: Document): string[] {
  const schemes = Object.keys(document.components?.securitySchemes ?? {});
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, operation]) =>
      [
        ...ofWords(operation),
        ...ofSecurity(operation, schemes),
        ...ofErrors(path, operation),
        ...ofExamples(operation),
      ].map((fault) => `${method.toUpperCase()} ${path}: ${fault}`),
    ),
  );
}

export interface Document {
  readonly components?: { readonly securitySchemes?: object };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

interface Operation {
  readonly operationId?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters?: readonly unknown[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: Content }>>;
}

type Content = Readonly<Record<string, { readonly example?: unknown; readonly examples?: object }>>;

function ofWords({ operationId = "", description = "", tags = [], responses }: Operation): string[] {
  const texts = [
    ["itself", description],
    ...Object.entries(responses).map(([status, one]) => [status, one.description]),
  ];
  return [
    ...(/^[a-z]+([A-Z][a-z]*)+$/.test(operationId) ? [] : [`has the operationId ${operationId}`]),
    ...(tags.length === 1 ? [] : [`has ${tags.length} tags`]),
    ...texts
      .filter(([, text]) => !text?.endsWith("."))
      .map(([what]) => `does not describe ${what} in a sentence`),
  ];
}

/** Stated by itself: whoever forgets it would else have made something public. */
function ofSecurity({ security, responses }: Operation, schemes: readonly string[]): string[] {
  if (security === undefined) return ["does not say whether it needs a key"];
  const unknown = security.flatMap((one) => Object.keys(one)).filter((name) => !schemes.includes(name));
  const refusals = security.length === 0 ? [] : ["401", "403"];
  return [
    ...unknown.map((name) => `needs ${name}, which is no security scheme`),
    ...refusals
      .filter((status) => !(status in responses))
      .map((status) => `needs a key, and has no ${status}`),
  ];
}

function ofErrors(path: string, { parameters = [], requestBody, responses }: Operation): string[] {
  const wanted = new Map([
    ["421", true],
    ["500", true],
    ["400", parameters.length > 0 || requestBody !== undefined],
    ["404", path.includes("{")],
    ["413", requestBody !== undefined],
    ["415", requestBody !== undefined],
  ]);
  return [...wanted]
    .filter(([status, needed]) => needed && !(status in responses))
    .map(([status]) => `has no ${status}`);
}

function ofExamples({ requestBody, responses }: Operation): string[] {
  const answers = Object.entries(responses).map(([status, { content = {} }]): [string, Content] => [
    status,
    content,
  ]);
  const bodies: [string, Content][] = [["its request", requestBody?.content ?? {}], ...answers];
  return bodies.flatMap(([where, content]) =>
    Object.entries(content)
      .filter(
        ([, { example, examples }]) => example === undefined && Object.keys(examples ?? {}).length === 0,
      )
      .map(([type]) => `shows no example of ${where} (${type})`),
  );
}
