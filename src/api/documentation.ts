import { PROBLEMS, Problem, type ProblemSlug, problemType } from "./problem.ts";

export const API = "/api/v1";

export const TAG = {
  messages: "messages",
  scheduler: "scheduler",
  operations: "operations",
} as const;

const ERRORS_EXAMPLE = [{ detail: "must be a whole number from 1 to 200", parameter: "limit" }];

/** A guard before every route, and a bug in any of them. */
const EVERYWHERE = ["wrong-host", "internal-error"] as const;

type Status<S extends ProblemSlug> = (typeof PROBLEMS)[S | (typeof EVERYWHERE)[number]]["status"];

interface ProblemResponse {
  description: string;
  headers?: Record<string, { description: string; schema: { type: "integer" } }>;
  content: {
    "application/problem+json": { schema: typeof Problem; examples: Record<string, { value: unknown }> };
  };
}

const RETRY_AFTER = {
  "Retry-After": { description: "Seconds to wait.", schema: { type: "integer" } },
} as const;

/** The part of a route's `responses` that says which problems it may answer with. */
export function problems<S extends ProblemSlug = never>(
  ...slugs: S[]
): { [K in Status<S>]: ProblemResponse } {
  const responses: Partial<Record<number, ProblemResponse>> = {};
  for (const slug of [...slugs, ...EVERYWHERE]) {
    const { status, title } = PROBLEMS[slug];
    const before = responses[status];
    responses[status] = {
      description: before === undefined ? `${title}.` : `${before.description} Or: ${title}.`,
      ...(status === 503 ? { headers: RETRY_AFTER } : {}),
      content: {
        "application/problem+json": {
          schema: Problem,
          examples: {
            ...before?.content["application/problem+json"].examples,
            [slug]: { value: example(slug) },
          },
        },
      },
    };
  }
  return responses as { [K in Status<S>]: ProblemResponse };
}

function example(slug: ProblemSlug) {
  const { status, title } = PROBLEMS[slug];
  return {
    type: problemType(slug),
    title,
    status,
    instance: "urn:outbox-relayer:request:7c9e6679-7425-40de-944b-e07fc1f90ae7",
    ...(slug === "invalid-request" ? { errors: ERRORS_EXAMPLE } : {}),
  };
}
