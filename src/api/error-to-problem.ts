import { HTTPException } from "hono/http-exception";
import { isOutage } from "../db/outage.ts";
import { ProblemError, type ProblemSlug } from "./problem.ts";

/**
 * The one place where the SQLSTATEs that our SQL functions raise (class OB) become HTTP. Their messages are
 * written for users, so they are passed on; no other database error's message ever is.
 */
const BY_SQLSTATE: Readonly<Record<string, ProblemSlug>> = {
  OB001: "unknown-gateway",
};

/** The server's statement_timeout, or a DBA, ended the query. */
const QUERY_CANCELED = "57014";

/** What Hono and its validators throw by themselves, before a route is reached. */
const BY_STATUS: Readonly<Record<number, ProblemSlug>> = {
  400: "malformed-request",
  413: "body-too-large",
  415: "unsupported-media-type",
};

/** An error that is no one's to explain becomes `internal-error`, without a word of its own. */
export function toProblem(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (error instanceof HTTPException) {
    const slug = BY_STATUS[error.status];
    if (slug !== undefined) return new ProblemError(slug, error.message);
  }
  if (isOutage(error))
    return new ProblemError("database-unavailable", "It does not answer. Ask again shortly.");
  const code = sqlstate(error);
  if (code === QUERY_CANCELED) return new ProblemError("query-too-slow", "It was cancelled. Ask for less.");
  const slug = BY_SQLSTATE[code];
  if (slug !== undefined && error instanceof Error) return new ProblemError(slug, error.message);
  return new ProblemError("internal-error", "The log tells more, under this request's id.");
}

function sqlstate(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
