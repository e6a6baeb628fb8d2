import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "../dependencies.ts";
import { LSN_HEADER, LSN_SCHEMA } from "./lsn.ts";
import { LAG_HEADER } from "./reads.ts";

type Document = ReturnType<OpenAPIHono<ApiEnv>["getOpenAPI31Document"]>;

/** What the document says of every answer that a query store may give, and of every change that a reader may want to see. */
export function documentQueryStore(app: OpenAPIHono<ApiEnv>): void {
  app.openAPIRegistry.registerComponent("parameters", "ReadLsn", {
    name: LSN_HEADER,
    in: "header",
    required: false,
    description: `The ${LSN_HEADER} of a write: what is answered is from after it, wherever it is read.`,
    schema: { ...LSN_SCHEMA, examples: [...LSN_SCHEMA.examples] },
  });
  app.openAPIRegistry.registerComponent("headers", "WriteLsn", {
    description: `Send it as ${LSN_HEADER} with a read that has to see this change.`,
    schema: { ...LSN_SCHEMA, examples: [...LSN_SCHEMA.examples] },
  });
  app.openAPIRegistry.registerComponent("headers", "QueryStoreLag", {
    description:
      "Seconds. The query store answered, and has everything that was committed so long ago. Without this header the primary did.",
    schema: { type: "number", minimum: 0, examples: [0.412] },
  });
}

/** Puts them at every operation that needs a key, but for the stream of events: it is the primary's. */
export function referToQueryStore(paths: Document["paths"]): void {
  for (const { get, post, patch } of Object.values(paths ?? {})) {
    if (get !== undefined && get.security?.length !== 0 && !streams(get)) {
      get.parameters = [...(get.parameters ?? []), { $ref: "#/components/parameters/ReadLsn" }];
      addHeader(get, LAG_HEADER, "QueryStoreLag", ["200", "304", "404"]);
    }
    for (const change of [post, patch])
      if (change !== undefined) addHeader(change, LSN_HEADER, "WriteLsn", ["200", "201", "202"]);
  }
}

type Operation = NonNullable<NonNullable<Document["paths"]>[string]["get"]>;

function streams({ responses = {} }: Operation): boolean {
  return "text/event-stream" in ((responses as Responses)[200]?.content ?? {});
}

type Responses = Record<string, { headers?: Record<string, unknown>; content?: object } | undefined>;

function addHeader(operation: Operation, name: string, component: string, statuses: readonly string[]): void {
  const responses = operation.responses as Responses;
  for (const status of statuses) {
    const response = responses[status];
    if (response === undefined) continue;
    // Another object: routes share theirs.
    response.headers = { ...response.headers, [name]: { $ref: `#/components/headers/${component}` } };
  }
}
