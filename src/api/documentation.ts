import { PROBLEMS, Problem, type ProblemSlug, problemType } from "./problem.ts";

export const API = "/api/v1";

export const TAG = {
  messages: "messages",
  deadLetters: "dead letters",
  gateways: "gateways",
  scheduler: "scheduler",
  insight: "insight",
  operations: "operations",
} as const;

const ERRORS_EXAMPLE = [{ detail: "must be a whole number from 1 to 200", parameter: "limit" }];

/** A guard before every route, and a bug in any of them. */
const EVERYWHERE = ["wrong-host", "internal-error"] as const;

/** What the guards and the database add to every route that needs a key. */
const GUARDED = [
  "unauthenticated",
  "insufficient-scope",
  "too-many-failures",
  "not-ready",
  "database-unavailable",
  "overloaded",
] as const;

/** What a route that reads may answer besides its own problems. By these it is known for one that a query store may answer. */
export const READING = [
  ...GUARDED,
  "invalid-request",
  "not-acceptable",
  "query-store-unavailable",
  "query-too-slow",
] as const;

/** The same of what is asked of the primary also where there is a query store, because it has to be of this moment. */
export const READING_NOW = [...GUARDED, "not-acceptable", "query-too-slow"] as const;

/** What a route that changes something may answer besides its own problems. */
export const CHANGING = [
  ...GUARDED,
  "not-acceptable",
  "foreign-origin",
  "malformed-request",
  "body-too-large",
  "busy",
  "query-too-slow",
] as const;

/** What a route that takes a body may answer besides. */
export const WITH_BODY = ["invalid-request", "unsupported-media-type"] as const;

type Status<S extends ProblemSlug> = (typeof PROBLEMS)[S | (typeof EVERYWHERE)[number]]["status"];

type Headers = Record<string, { description: string; schema: { type: "integer" | "string" } }>;

interface ProblemResponse {
  description: string;
  headers?: Headers;
  content: {
    "application/problem+json": { schema: typeof Problem; examples: Record<string, { value: unknown }> };
  };
}

const RETRY_AFTER: Headers = {
  "Retry-After": { description: "Seconds to wait.", schema: { type: "integer" } },
};
const RATE_LIMIT: Headers = {
  RateLimit: {
    description: "How many failures this address has left (r), and for how many seconds (t).",
    schema: { type: "string" },
  },
  "RateLimit-Policy": {
    description: "How many failures (q) an address may have in so many seconds (w).",
    schema: { type: "string" },
  },
};
const AUTHENTICATE: Headers = {
  "WWW-Authenticate": { description: "What kind of key is needed.", schema: { type: "string" } },
};

/** For an answer that may have a next page. */
export const NEXT_LINK: Headers = {
  Link: {
    description: 'The next page, with `rel="next"`, while there is one (RFC 8288).',
    schema: { type: "string" },
  },
};

/** Not all of them come with every problem of the status. */
const HEADERS: Readonly<Record<number, Headers>> = {
  401: { ...AUTHENTICATE, ...RATE_LIMIT },
  403: AUTHENTICATE,
  429: { ...RETRY_AFTER, ...RATE_LIMIT },
  503: RETRY_AFTER,
};

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
      ...(HEADERS[status] === undefined ? {} : { headers: HEADERS[status] }),
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
