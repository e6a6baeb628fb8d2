import { type OpenAPIHono, z } from "@hono/zod-openapi";
import { SECURITY_SCHEME } from "./access.ts";
import type { ApiEnv } from "./dependencies.ts";
import { API, problems, TAG } from "./documentation.ts";
import { documentQueryStore, referToQueryStore } from "./query-store/document.ts";

export const DOCUMENT_PATH = `${API}/openapi.json`;

const DESCRIPTION = `
Text messages on their way out: put in, looked up, changed, cancelled, replayed; and the relay that delivers them. Messages
can be put in with SQL too, in the transaction of your own data:
\`INSERT INTO outbox.messages (recipient, content) VALUES ('+905551234567', 'hi')\`.

Where the server has keys, send one: \`Authorization: Bearer <key>\`. Without the scope \`read_pii\` numbers are masked,
contents left out, and of the gateway's answers only the status is shown. Lists are paged: follow \`next_cursor\`, or the \`Link\` with \`rel="next"\`. Every error is
\`application/problem+json\` (RFC 9457). Every answer carries \`X-Request-Id\`: the one that came with the request, or a
new one.

Where there is a query store, a database of its own for questions, every \`GET\` but those of the events and alerts is answered there, with
\`X-Query-Store-Lag\`. It may be a moment behind: whoever has changed something and wants to see it sends the \`X-Outbox-LSN\` of
that answer with the question.`;

const LICENSE = { name: "MIT", identifier: "MIT" };

/** Serves the document of every route the app has by now. */
export function addOpenApiDocument(app: OpenAPIHono<ApiEnv>, version: string): void {
  app.openAPIRegistry.registerPath({
    method: "get",
    path: DOCUMENT_PATH,
    operationId: "getOpenApiDocument",
    tags: [TAG.operations],
    security: [],
    summary: "This document",
    description: "The API as OpenAPI 3.1, made from the schemas that check its requests.",
    responses: {
      200: {
        description: "An OpenAPI document.",
        content: {
          "application/json": {
            schema: z.looseObject({ openapi: z.string() }).openapi("OpenApiDocument"),
            example: { openapi: "3.1.0" },
          },
        },
      },
      ...problems(),
    },
  });

  app.openAPIRegistry.registerComponent("securitySchemes", SECURITY_SCHEME, {
    type: "http",
    scheme: "bearer",
    description:
      "A key of this server, made by `npm run api-key -- NAME SCOPES`. Scopes: `read`; `read_pii` (whole numbers and " +
      "contents); `write` (put in, change, cancel); `operate` (replay, pause, start and stop). A server without keys, on " +
      "loopback, asks for none.",
  });

  documentQueryStore(app);

  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "outbox-relayer", version, description: DESCRIPTION.trim(), license: LICENSE },
    servers: [{ url: "/", description: "This server" }],
    security: [],
    tags: [
      { name: TAG.messages, description: "Text messages and what became of them." },
      { name: TAG.deadLetters, description: "What ended without being sent, and its way back." },
      { name: TAG.gateways, description: "The HTTP peers that take messages." },
      { name: TAG.insight, description: "What happens, and who did what." },
      { name: TAG.scheduler, description: "Starting and stopping the relay, everywhere at once." },
      { name: TAG.operations, description: "For load balancers, monitoring and tools." },
    ],
  });
  leaveOneSchema(document.paths);
  referToQueryStore(document.paths);
  app.get(DOCUMENT_PATH, (c) => c.json(document));
}

type Document = ReturnType<OpenAPIHono<ApiEnv>["getOpenAPI31Document"]>;

/** A parameter has a `schema` or a `content`; the generator gives those with a `content` both. */
function leaveOneSchema(paths: Document["paths"]): void {
  for (const { get } of Object.values(paths ?? {}))
    for (const parameter of get?.parameters ?? [])
      if ("content" in parameter && parameter.content !== undefined) delete parameter.schema;
}
