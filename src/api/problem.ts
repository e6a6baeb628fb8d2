import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { ApiEnv } from "./dependencies.ts";

/**
 * Every problem this API answers with (RFC 9457), by its slug, which ends its `type` and is part of the contract. `help` is for
 * the page that documents them, docs/errors.md.
 */
export const PROBLEMS = {
  "invalid-request": {
    status: 400,
    title: "The request is not valid",
    help: "A parameter or the body is not as the OpenAPI document says. `errors` names every fault: `parameter`, or `pointer` (a JSON pointer into the body).",
  },
  "malformed-request": {
    status: 400,
    title: "The request cannot be read",
    help: "The body is no JSON in UTF-8, or did not come whole, or the request line, the Host header or a cursor's encoding cannot be read at all.",
  },
  unauthenticated: {
    status: 401,
    title: "A valid key is needed",
    help: "Send `Authorization: Bearer <key>`. The key is missing, unknown or has expired; `detail` says which. `npm run api-key -- NAME SCOPES` makes one.",
  },
  "insufficient-scope": {
    status: 403,
    title: "The key does not allow this",
    help: "The key is valid, but lacks the scope that `WWW-Authenticate` and `detail` name.",
  },
  "foreign-origin": {
    status: 403,
    title: "Another web site may not do this",
    help: "A browser sent this for a page of another site. List the site in `api.cors_origins` if it may.",
  },
  "not-found": {
    status: 404,
    title: "There is nothing at this address",
    help: "No operation has this path.",
  },
  "unknown-message": {
    status: 404,
    title: "There is no such message",
    help: "No message has this id: it never existed, its transaction was rolled back or is still open, or its retention is over.",
  },
  "unknown-gateway": {
    status: 404,
    title: "There is no such gateway",
    help: "The path names a gateway that outbox.gateways does not have. `GET /gateways` lists them.",
  },
  "unknown-replay": {
    status: 404,
    title: "There is no such replay",
    help: "No replay has this id. `GET /replays` lists them.",
  },
  "method-not-allowed": {
    status: 405,
    title: "This address does not take that method",
    help: "`Allow` lists those it takes.",
  },
  "not-acceptable": {
    status: 406,
    title: "The request does not accept what is answered",
    help: "Send `Accept: application/json` (`text/event-stream` for `GET /events`), or none.",
  },
  "wrong-state": {
    status: 409,
    title: "The message is not in a state for this",
    help: "It is being sent, was sent, or has ended, as `detail` says; it is unchanged. What is being sent can be changed once that attempt has failed.",
  },
  "replay-needs-force": {
    status: 409,
    title: "This replay may deliver the message twice",
    help: "The message was sent, or may have been. Ask again with `force: true` if that is wanted.",
  },
  "replay-needs-expires-at": {
    status: 409,
    title: "The message has expired",
    help: "It would only expire again. Ask again with a new `expires_at`.",
  },
  "replay-not-running": {
    status: 409,
    title: "The replay has ended",
    help: "It is done or cancelled already, so it cannot be cancelled.",
  },
  "dedupe-key-used": {
    status: 409,
    title: "Another message has this dedupe_key",
    help: "The key of the message to be replayed was used again by another message since; `detail` names it where it is known.",
  },
  "events-gone": {
    status: 410,
    title: "Some of what followed that event is gone",
    help: "`Last-Event-ID` is from longer ago than events are kept (`retention.events`, or `retention.sent` if that is shorter). Start again without it; the messages that were sent and the dead letters are still in their lists.",
  },
  "precondition-failed": {
    status: 412,
    title: "The message has changed",
    help: "`If-Match` is not its ETag any more: somebody else changed it, or it was claimed, sent or ended. Read it again.",
  },
  "body-too-large": {
    status: 413,
    title: "The body is too large",
    help: "`detail` says how much is taken.",
  },
  "unsupported-media-type": {
    status: 415,
    title: "The body must be JSON",
    help: "Send `Content-Type: application/json`.",
  },
  "wrong-host": {
    status: 421,
    title: "This server does not go by that name",
    help: "It listens on loopback only, so call it localhost, 127.0.0.1 or [::1].",
  },
  "refused-message": {
    status: 422,
    title: "The outbox refuses the message",
    help: "It is well formed, but breaks a rule of the table, as an INSERT would: a number that is not E.164, an unknown gateway, an end in the past, … `errors` names each, in an array of messages with its place. Nothing was put in or changed.",
  },
  "idempotency-key-reused": {
    status: 422,
    title: "This Idempotency-Key came with another request",
    help: "A key stands for one request: the same JSON, whatever the order of its keys and its spaces. Nothing was put in. Use a new key for a new request.",
  },
  "too-many-failures": {
    status: 429,
    title: "Too many requests without a valid key",
    help: "Failed authentications are limited for each address; `Retry-After` says when it may fail again. A valid key is answered all the same.",
  },
  "too-many-streams": {
    status: 429,
    title: "Too many event streams are open",
    help: "This process serves no more at a time. Close one, or ask another relayer.",
  },
  "internal-error": {
    status: 500,
    title: "Something unexpected happened",
    help: "A fault of ours. The log has it under the request's id, which `instance` names.",
  },
  "search-unavailable": {
    status: 501,
    title: "Messages cannot be searched here",
    help: "`q` takes a database with indexes for it: a query store (docs/query-store.md), or the primary where `select outbox.create_search_indexes()` made them. `detail` says what is missing.",
  },
  "database-unavailable": {
    status: 503,
    title: "The database is away",
    help: "It does not answer, or it takes no writes. A change that was asked for may or may not have happened: with an `Idempotency-Key` or `If-Match` it can be sent again safely.",
  },
  busy: {
    status: 503,
    title: "Somebody else is at this just now",
    help: "Another session has it locked. Nothing was changed; ask again.",
  },
  overloaded: {
    status: 503,
    title: "Too much is asked at once",
    help: "Every connection for such requests has been at work for longer than one waits for its turn, with slow questions or with messages that somebody has locked. Nothing was changed; ask again, and less at once.",
  },
  "not-ready": {
    status: 503,
    title: "The service is not ready",
    help: "It is starting or stopping, or has no database; `detail` names the parts.",
  },
  "query-store-unavailable": {
    status: 503,
    title: "The query store cannot answer",
    help: "It does not answer, is behind by more than `query_store.max_lag`, or has not seen the write of `X-Outbox-LSN` yet; and the primary is to be spared (`query_store.when_away: unavailable`), or cannot search. Changes are taken all the same.",
  },
  "query-too-slow": {
    status: 503,
    title: "The query took too long",
    help: "It would read too much history. Narrow it by time.",
  },
} as const satisfies Record<string, { status: number; title: string; help: string }>;

export const PROBLEM_TYPE = "application/problem+json";

export type ProblemSlug = keyof typeof PROBLEMS;

/** The things that pass by themselves, and how soon it is worth asking again. */
const RETRY_AFTER_SECONDS: Partial<Record<ProblemSlug, number>> = {
  "database-unavailable": 2,
  busy: 1,
  overloaded: 2,
  "not-ready": 2,
  "query-store-unavailable": 2,
  "query-too-slow": 10,
  "too-many-streams": 10,
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
    type: z.string().openapi({
      description: "Names the kind of problem; a URN that does not change, explained in docs/errors.md.",
    }),
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
  if (retryAfter !== undefined) c.header("Retry-After", String(retryAfter));
  return c.json(problemBody(problem, c.get("requestId")), PROBLEMS[problem.slug].status, {
    "Content-Type": PROBLEM_TYPE,
  });
}
