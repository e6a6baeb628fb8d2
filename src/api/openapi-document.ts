import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { ApiEnv } from "./dependencies.ts";
import { API, problems, TAG } from "./documentation.ts";

export const DOCUMENT_PATH = `${API}/openapi.json`;

const DESCRIPTION = `
What was sent, and whether the relay runs. Messages are put in with SQL:
\`INSERT INTO outbox.messages (recipient, content) VALUES ('+905551234567', 'hi')\`.

Every error is \`application/problem+json\` (RFC 9457). Every answer carries \`X-Request-Id\`: the one that came with
the request, or a new one.`;

const LICENSE = { name: "MIT", identifier: "MIT" };

/** Serves the document of every route the app has by now. */
export function addOpenApiDocument(app: OpenAPIHono<ApiEnv>, version: string): void {
  app.openAPIRegistry.registerPath({
    method: "get",
    path: DOCUMENT_PATH,
    operationId: "getOpenApiDocument",
    tags: [TAG.operations],
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

  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "outbox-relayer", version, description: DESCRIPTION.trim(), license: LICENSE },
    servers: [{ url: "/", description: "This server" }],
    security: [],
    tags: [
      { name: TAG.messages, description: "Text messages and what became of them." },
      { name: TAG.scheduler, description: "Starting and stopping the relay, everywhere at once." },
      { name: TAG.operations, description: "For load balancers, monitoring and tools." },
    ],
  });
  app.get(DOCUMENT_PATH, (c) => c.json(document));
}
