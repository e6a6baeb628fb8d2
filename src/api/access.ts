import type { Context, MiddlewareHandler } from "hono";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Scope } from "../config/api-keys.ts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import {
  onlyEventsWanted,
  onlyJsonWanted,
  onlyMediaTypesOf,
  onlyOwnOrigin,
  onlyUtf8,
  whenReady,
} from "./guards.ts";
import { type Caller, createKeyRing } from "./keys.ts";
import { ProblemError } from "./problem.ts";
import { createReads } from "./query-store/reads.ts";

/** The name of the security scheme in the OpenAPI document. */
export const SECURITY_SCHEME = "apiKey";

/** Wrong keys that one address may try before it is told to wait. A key that is right is never refused for it. */
export const FAILURES = { points: 20, seconds: 60 } as const;

const POLICY = `"failed-authentications";q=${FAILURES.points};w=${FAILURES.seconds}`;

/** Without keys: the server is on loopback, and whoever is on this machine may do everything. */
const ANYONE: Caller = {
  name: "api",
  scopes: new Set<Scope>(["read", "read_pii", "write", "operate"]),
  expiresAt: undefined,
};

/** What a route needs so that only those may use it who may, and so that the document says so. */
export interface Access {
  readonly security: { [scheme: string]: string[] }[];
  readonly middleware: MiddlewareHandler<ApiEnv>[];
}

export interface Accesses {
  readonly read: Access;
  /** As read, for what has to be of this moment: it is read on the primary. */
  readonly readNow: Access;
  readonly write: Access;
  readonly operate: Access;
  /** As read, for events. */
  readonly stream: Access;
}

/** Every guard of a route, in the order in which a request meets them. */
export function createAccesses(dependencies: ApiDependencies): Accesses {
  const authenticate = createAuthentication(dependencies);
  const ready = whenReady(dependencies);
  const { queryStore } = dependencies;
  // What the query store answers, it answers also while the primary is away.
  const readable = whenReady(dependencies, () =>
    queryStore?.condition().state === "usable" ? ["database"] : [],
  );
  const reads = createReads(dependencies);
  const origins = onlyOwnOrigin(dependencies.corsOrigins ?? []);
  const access = (scope: Scope, ...guards: MiddlewareHandler<ApiEnv>[]): Access => ({
    security: [{ [SECURITY_SCHEME]: [scope] }],
    middleware: [authenticate(scope), ...guards],
  });
  return {
    read: access("read", onlyJsonWanted, readable, reads),
    readNow: access("read", onlyJsonWanted, ready),
    write: access("write", origins, onlyJsonWanted, onlyUtf8, ready),
    operate: access("operate", origins, onlyJsonWanted, onlyUtf8, ready),
    stream: access("read", onlyEventsWanted, ready),
  };
}

/** The same for a route that takes a body. */
export function withBody(access: Access, body: Parameters<typeof onlyMediaTypesOf>[0]): Access {
  return { ...access, middleware: [...access.middleware, onlyMediaTypesOf(body)] };
}

export function mayReadPii(c: Context<ApiEnv>): boolean {
  return c.get("caller").scopes.has("read_pii");
}

/** To ask for a number and get an answer is to read that number. */
export function mayFilterByRecipient(c: Context<ApiEnv>, recipient: string | undefined): void {
  if (recipient === undefined || mayReadPii(c)) return;
  throw new ProblemError("insufficient-scope", "To filter by recipient takes a key with the scope read_pii.");
}

/** The same of a word. */
export function maySearch(c: Context<ApiEnv>, q: string | undefined): void {
  if (q === undefined || mayReadPii(c)) return;
  throw new ProblemError("insufficient-scope", "To search takes a key with the scope read_pii.");
}

function createAuthentication({ keys = [], log }: ApiDependencies) {
  const callerOf = createKeyRing(keys);
  const failures = new RateLimiterMemory({ points: FAILURES.points, duration: FAILURES.seconds });

  return (scope: Scope): MiddlewareHandler<ApiEnv> =>
    async (c, next) => {
      const caller = keys.length === 0 ? ANYONE : await authenticated(c);
      if (!caller.scopes.has(scope)) {
        c.header("WWW-Authenticate", `Bearer error="insufficient_scope", scope="${scope}"`);
        throw new ProblemError("insufficient-scope", `This needs a key with the scope ${scope}.`);
      }
      c.set("caller", caller);
      await next();
    };

  async function authenticated(c: Context<ApiEnv>): Promise<Caller> {
    const token = /^Bearer +([\x21-\x7e]+) *$/i.exec(c.req.header("Authorization") ?? "")?.[1];
    const caller = token === undefined ? undefined : callerOf(token);
    if (caller === undefined) {
      const detail =
        c.req.header("Authorization") === undefined
          ? "Send a key: Authorization: Bearer <key>."
          : "This is none of the keys that are known here. Send one as Authorization: Bearer <key>.";
      throw await refusal(c, detail);
    }
    if (caller.expiresAt !== undefined && caller.expiresAt.getTime() <= Date.now())
      throw await refusal(c, `This key expired at ${caller.expiresAt.toISOString()}.`);
    return caller;
  }

  /** Counts the failure against the address it came from. */
  async function refusal(c: Context<ApiEnv>, detail: string): Promise<ProblemError> {
    const address = addressOf(c);
    const { allowed, remaining, resetSeconds } = await consume(address);
    c.header("RateLimit-Policy", POLICY);
    c.header("RateLimit", `"failed-authentications";r=${remaining};t=${resetSeconds}`);
    // Once an address is over its limit, a line for each of its failures would only fill the disk.
    log(
      allowed ? "warn" : "debug",
      { request_id: c.get("requestId"), address, path: c.req.path },
      `refused: ${detail}`,
    );
    if (!allowed) {
      c.header("Retry-After", String(resetSeconds));
      return new ProblemError(
        "too-many-failures",
        `${FAILURES.points} requests of this address had no valid key within ${FAILURES.seconds} s. A valid one is answered at once.`,
      );
    }
    c.header("WWW-Authenticate", 'Bearer realm="outbox-relayer"');
    return new ProblemError("unauthenticated", detail);
  }

  async function consume(address: string) {
    const result = await failures.consume(address).catch((error: unknown) => {
      if (error instanceof RateLimiterRes) return error;
      throw error;
    });
    return {
      allowed: result.consumedPoints <= FAILURES.points,
      remaining: Math.max(0, result.remainingPoints),
      resetSeconds: Math.max(1, Math.ceil(result.msBeforeNext / 1_000)),
    };
  }
}

/** The peer of the connection: what a proxy claims of others is not looked at. In process there is none. */
function addressOf(c: Context<ApiEnv>): string {
  return c.env?.incoming?.socket?.remoteAddress ?? "in process";
}
