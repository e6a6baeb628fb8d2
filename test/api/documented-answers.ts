import { z } from "zod";

interface MediaType {
  schema: unknown;
}

interface Operation {
  responses: Record<string, { content?: Record<string, MediaType> }>;
}

export interface OpenApiDocument {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

/** Throws unless the answer is one that the document announces: its status, its media type and its schema. */
export async function expectDocumented(
  document: OpenApiDocument,
  method: string,
  url: string,
  answer: Response,
): Promise<void> {
  const mediaType = (answer.headers.get("Content-Type") ?? "").split(";")[0] ?? "";
  const operation = pathsOf(document, url.split("?")[0] ?? "")[method.toLowerCase()];
  if (operation === undefined) {
    // No operation: a page, an asset, or a problem, which looks the same everywhere.
    if (answer.status >= 400) check(document, { $ref: "#/components/schemas/Problem" }, await answer.json());
    return;
  }
  const response = operation.responses[answer.status];
  if (response !== undefined && response.content === undefined && (await answer.clone().text()) === "")
    return;
  const content = response?.content?.[mediaType];
  if (content === undefined)
    throw new Error(`${method} ${url}: ${answer.status} ${mediaType} is not documented`);
  check(document, content.schema, mediaType.endsWith("json") ? await answer.json() : await answer.text());
}

/** The operations of a path as it was asked for: of the path that is written so, or else of the one with parameters that it fits. */
function pathsOf({ paths }: OpenApiDocument, path: string): Record<string, Operation> {
  const fits = (template: string) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(path);
  return paths[path] ?? Object.entries(paths).find(([template]) => fits(template))?.[1] ?? {};
}

/** The document's own JSON Schema does the checking, not the code that it was made from. */
export function check(document: OpenApiDocument, schema: unknown, value: unknown): void {
  const standalone = JSON.parse(
    JSON.stringify({ ...(schema as object), $defs: document.components.schemas }).replaceAll(
      "#/components/schemas/",
      "#/$defs/",
    ),
  );
  z.fromJSONSchema(standalone).parse(value);
}
