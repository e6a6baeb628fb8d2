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
  const operation = methodsAt(document, url.split("?")[0] ?? "")?.[method.toLowerCase()];
  if (operation === undefined) {
    // No operation: a page, an asset, or a problem, which looks the same everywhere.
    if (answer.status >= 400) check(document, { $ref: "#/components/schemas/Problem" }, await answer.json());
    return;
  }
  const content = operation.responses[answer.status]?.content?.[mediaType];
  if (content === undefined)
    throw new Error(`${method} ${url}: ${answer.status} ${mediaType} is not documented`);
  check(document, content.schema, mediaType.endsWith("json") ? await answer.json() : await answer.text());
}

/** A path without parameters goes before one with: /messages/sent is not the message "sent". */
function methodsAt(document: OpenApiDocument, path: string): Record<string, Operation> | undefined {
  const template = Object.keys(document.paths).find((known) =>
    new RegExp(`^${known.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(path),
  );
  return document.paths[path] ?? document.paths[template ?? ""];
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
