import { HTTPException } from "hono/http-exception";
import { isOutage } from "../db/outage.ts";
import { withoutAnswer } from "./pii.ts";
import { type Fault, ProblemError, type ProblemSlug } from "./problem.ts";

/**
 * The one place where a SQLSTATE becomes HTTP. The messages of our SQL functions (class OB) are written for users, so
 * they are passed on; no other database error's message ever is.
 */
const BY_SQLSTATE: Readonly<Record<string, (error: DatabaseFault) => ProblemError>> = {
  OB001: ({ message }) =>
    new ProblemError("refused-message", undefined, [{ detail: message, pointer: "#/gateway" }]),
  OB005: passedOn("wrong-state"),
  OB006: passedOn("unknown-message"),
  OB007: ({ message, constraint }) =>
    constraint === "replay_needs_expires_at"
      ? new ProblemError("replay-needs-expires-at", message)
      : new ProblemError("replay-needs-force", withoutAnswer(message)),
  OB008: passedOn("replay-not-running"),
  OB009: ({ message, detail }) => new ProblemError("refused-message", `${message}.`, refusals(detail)),
  OB010: passedOn("idempotency-key-reused"),
  OB011: takesNoWrites,
  // check_violation, of a table or raised by a function in its stead
  "23514": ({ constraint }) => new ProblemError("refused-message", undefined, [brokenRule(constraint)]),
  // unique_violation
  "23505": ({ detail = "" }) =>
    new ProblemError(
      "dedupe-key-used",
      /^Message \d+ has it\.$/.test(detail) ? detail : "Another message has it.",
    ),
  // lock_not_available, deadlock_detected
  "55P03": () => new ProblemError("busy", "Another session has it locked. Ask again shortly."),
  "40P01": () => new ProblemError("busy", "Another session has it locked. Ask again shortly."),
  // read_only_sql_transaction: a failover has made a standby of it
  "25006": takesNoWrites,
  // query_canceled: the server's statement_timeout, or a DBA, ended the query
  "57014": () => new ProblemError("query-too-slow", "It was cancelled. Ask for less."),
};

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
  if (isCutOff(error)) return new ProblemError("malformed-request", "It ended before its body did.");
  if (isOutage(error))
    return new ProblemError("database-unavailable", "It does not answer. Ask again shortly.");
  const explain = isDatabaseFault(error) ? BY_SQLSTATE[error.code] : undefined;
  if (explain !== undefined) return explain(error as DatabaseFault);
  return new ProblemError("internal-error", "The log tells more, under this request's id.");
}

/** What Node says of a client that went amid its body: with a code that a database which went would have too. */
function isCutOff(error: unknown): boolean {
  return (
    error instanceof Error && "code" in error && error.code === "ECONNRESET" && error.message === "aborted"
  );
}

export interface DatabaseFault {
  readonly code: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly constraint?: string | undefined;
}

function isDatabaseFault(error: unknown): error is DatabaseFault {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}

function takesNoWrites(): ProblemError {
  return new ProblemError("database-unavailable", "It takes no writes: it is a standby, or a query store.");
}

function passedOn(slug: ProblemSlug): (error: DatabaseFault) => ProblemError {
  return ({ message }) => new ProblemError(slug, message);
}

/** What outbox.enqueue_batch says of each message: where in the batch it stands (null: it came alone), and which rule it breaks. */
function refusals(detail = "[]"): Fault[] {
  const found = JSON.parse(detail) as { place: number | null; rule: string }[];
  return found.map(({ place, rule }) => brokenRule(rule, place === null ? "#" : `#/${place}`));
}

const COLUMNS = [
  "recipient",
  "content",
  "priority",
  "metadata",
  "dedupe_key",
  "available_at",
  "expires_at",
  "max_messages",
];

/** A constraint's name says which column it is about, and what is wrong: `expires_at_in_the_past`. */
export function brokenRule(constraint = "", pointer = "#"): Fault {
  if (constraint === "unknown_gateway")
    return { detail: "there is no such gateway", pointer: `${pointer}/gateway` };
  const column = COLUMNS.find((name) => constraint.startsWith(`${name}_`));
  if (column === undefined)
    return {
      detail: constraint.replaceAll("_", " ") || "breaks a rule of the table",
      ...(pointer === "#" ? {} : { pointer }),
    };
  return {
    detail: constraint.slice(column.length + 1).replaceAll("_", " "),
    pointer: `${pointer}/${column}`,
  };
}
