import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "../dependencies.ts";
import { PROBLEM_TYPE, type ProblemSlug } from "../problem.ts";
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

/** Puts them at every operation that a query store may answer, which its problems say, and at every change. */
export function referToQueryStore(paths: Document["paths"]): void {
  for (const { get, post, patch } of Object.values(paths ?? {})) {
    if (get !== undefined && isReadInStore(get)) {
      get.parameters = [...(get.parameters ?? []), { $ref: "#/components/parameters/ReadLsn" }];
      addHeader(get, LAG_HEADER, "QueryStoreLag", ["200", "304", "404"]);
    }
    for (const change of [post, patch])
      if (change !== undefined) addHeader(change, LSN_HEADER, "WriteLsn", ["200", "201", "202"]);
  }
}

type Operation = NonNullable<NonNullable<Document["paths"]>[string]["get"]>;

type Media = { examples?: object } | undefined;
type Response = { headers?: Record<string, unknown>; content?: Record<string, Media> };
type Responses = Record<string, Response | undefined>;

function isReadInStore(operation: Operation): boolean {
  const unavailable = (operation.responses as Responses)[503]?.content?.[PROBLEM_TYPE];
  const slug: ProblemSlug = "query-store-unavailable";
  return slug in (unavailable?.examples ?? {});
}

function addHeader(operation: Operation, name: string, component: string, statuses: readonly string[]): void {
  const responses = operation.responses as Responses;
  for (const status of statuses) {
    const response = responses[status];
    if (response === undefined) continue;
    // Another object: routes share theirs.
    response.headers = { ...response.headers, [name]: { $ref: `#/components/headers/${component}` } };
  }
}
