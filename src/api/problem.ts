import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { ApiEnv } from "./dependencies.ts";

/** Every problem this API answers with (RFC 9457). The slug ends its `type`, and is part of the contract. */
export const PROBLEMS = {
  "invalid-request": { status: 400, title: "The request is not valid" },
  "malformed-request": { status: 400, title: "The request cannot be read" },
  "foreign-origin": { status: 403, title: "Another web site may not do this" },
  "not-found": { status: 404, title: "There is nothing at this address" },
  "unknown-gateway": { status: 404, title: "There is no such gateway" },
  "method-not-allowed": { status: 405, title: "This address does not take that method" },
  "not-acceptable": { status: 406, title: "The answer is JSON, and the request does not accept it" },
  "body-too-large": { status: 413, title: "The body is too large" },
  "unsupported-media-type": { status: 415, title: "The body must be JSON" },
  "wrong-host": { status: 421, title: "This server does not go by that name" },
  "internal-error": { status: 500, title: "Something unexpected happened" },
  "database-unavailable": { status: 503, title: "The database is away" },
  "not-ready": { status: 503, title: "The service is not ready" },
  "query-too-slow": { status: 503, title: "The query took too long" },
} as const;

export const PROBLEM_TYPE = "application/problem+json";

export type ProblemSlug = keyof typeof PROBLEMS;

/** The things that pass by themselves, and how soon it is worth asking again. */
const RETRY_AFTER_SECONDS: Partial<Record<ProblemSlug, number>> = {
  "database-unavailable": 2,
  "not-ready": 2,
};

const Fault = z
  .object({
    detail: z.string(),
    parameter: z
      .string()
      .optional()
      .openapi({ description: "The query, path or header parameter at fault." }),
    pointer: z
      .string()
      .optional()
      .openapi({ description: "JSON pointer to the fault in the body, as a URI fragment." }),
  })
  .openapi("Fault");

export type Fault = z.infer<typeof Fault>;

export const Problem = z
  .object({
    type: z.string().openapi({ description: "Names the kind of problem; a URN that does not change." }),
    title: z.string(),
    status: z.int(),
    detail: z.string().optional(),
    instance: z.string().openapi({ description: "This request; its id is in the log too." }),
    errors: z.array(Fault).optional().openapi({ description: "Every fault that was found." }),
  })
  .openapi("Problem", { description: "An error, as RFC 9457 describes it." });

/** Thrown anywhere below the app; becomes the answer. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly slug: ProblemSlug;
  readonly errors: readonly Fault[] | undefined;

  constructor(slug: ProblemSlug, detail?: string, errors?: readonly Fault[]) {
    super(detail ?? "");
    this.slug = slug;
    this.errors = errors;
  }
}

export function problemType(slug: ProblemSlug): string {
  return `urn:outbox-relayer:problem:${slug}`;
}

/** The body of an answer; `requestId` is in the log too. */
export function problemBody(problem: ProblemError, requestId: string): z.infer<typeof Problem> {
  const { status, title } = PROBLEMS[problem.slug];
  return {
    type: problemType(problem.slug),
    title,
    status,
    ...(problem.message === "" ? {} : { detail: problem.message }),
    instance: `urn:outbox-relayer:request:${requestId}`,
    ...(problem.errors === undefined ? {} : { errors: [...problem.errors] }),
  };
}

export function problemAnswer(c: Context<ApiEnv>, problem: ProblemError): Response {
  const retryAfter = RETRY_AFTER_SECONDS[problem.slug];
  return c.json(problemBody(problem, c.get("requestId")), PROBLEMS[problem.slug].status, {
    "Content-Type": PROBLEM_TYPE,
    ...(retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) }),
  });
}
