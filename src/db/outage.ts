/** What the operating system and the resolver say when nobody answers. */
const NETWORK = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENOENT", // a Unix socket that is not there: the server behind it is down; see `connectErrorOnly`
]);

/** What Postgres says when it is going, coming, or full. Class 08 is tested by its prefix. */
const SERVER = new Set([
  "57P01", // admin_shutdown, pg_terminate_backend
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now: starting up, in recovery
  "57P05", // idle_session_timeout
  "25P03", // idle_in_transaction_session_timeout: the session is gone
  "53300", // too_many_connections
]);

/** node-postgres has no codes for its own; its sentences are all there is. */
const DRIVER =
  /^(Connection terminated|Connection ended|Client was closed and is not queryable|Client has encountered a connection error and is not queryable|timeout exceeded when trying to connect|timeout expired|Query read timeout)/;

/** Wrong user or password, no such database: an answer, and the same one tomorrow. */
const HOPELESS = new Set(["28P01", "28000", "3D000"]);

/**
 * Is this the database being away, and so worth waiting for, rather than a fault of ours or of the SQL?
 *
 * Looks through `cause`, and into the `AggregateError` that Node makes of `localhost` (::1 and 127.0.0.1), which
 * is an outage when every one of its errors is.
 */
export function isOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.every(isOutage);
  const code = codeOf(error);
  if (code !== undefined && (SERVER.has(code) || /^08...$/.test(code))) return true;
  if (code !== undefined && NETWORK.has(code)) return connectErrorOnly(error, code);
  if (code === undefined && DRIVER.test(error.message)) return true;
  return isOutage(error.cause);
}

/** The server, or the pooler in front of it, has answered, and waiting will not change the answer. */
export function isHopeless(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError) return error.errors.some(isHopeless);
  const code = codeOf(error);
  return (code !== undefined && HOPELESS.has(code)) || isHopeless(error.cause);
}

/** A missing file is ENOENT too; only the one that `connect` reports is a server that is away. */
function connectErrorOnly(error: Error, code: string): boolean {
  return code !== "ENOENT" || ("syscall" in error && error.syscall === "connect");
}

function codeOf(error: Error): string | undefined {
  return "code" in error && typeof error.code === "string" ? error.code : undefined;
}
