import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { toProblem } from "./error-to-problem.ts";
import { refuseInvalid } from "./faults.ts";
import { onlyLoopbackNames } from "./guards.ts";
import { PROBLEMS, ProblemError, type ProblemSlug, problemAnswer } from "./problem.ts";
import { LSN_HEADER } from "./query-store/lsn.ts";
import { LAG_HEADER } from "./query-store/reads.ts";

/** No fault of a request's: what is wrong was said in the log when it began, or goes by what is set up. */
const EXPECTED: ReadonlySet<ProblemSlug> = new Set([
  "not-ready",
  "query-store-unavailable",
  "search-unavailable",
]);

/** An app without routes: what all of our servers do with every request, and how they answer what goes wrong. */
export function createBareApp(
  dependencies: Pick<ApiDependencies, "log" | "corsOrigins" | "loopbackOnly">,
): OpenAPIHono<ApiEnv> {
  const { log } = dependencies;
  const app = new OpenAPIHono<ApiEnv>({ defaultHook: refuseInvalid });

  app.onError((error, c) => {
    const problem = toProblem(error);
    const { status } = PROBLEMS[problem.slug];
    const fields = { request_id: c.get("requestId"), method: c.req.method, path: c.req.path, err: error };
    if (status === 500) log("error", fields, "a request failed unexpectedly");
    else if (status > 500 && !EXPECTED.has(problem.slug))
      log("warn", fields, "a request could not be served");
    return problemAnswer(c, problem);
  });
  app.notFound((c) => problemAnswer(c, new ProblemError("not-found")));

  app.use(requestId({ limitLength: 128 }));
  app.use(logRequests(log));
  app.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      xFrameOptions: "DENY",
      strictTransportSecurity: false, // this server speaks plain HTTP; whoever puts TLS in front may promise it
      overwrite: false, // Swagger UI has a policy of its own
    }),
  );
  app.use(neverCached);
  const origins = dependencies.corsOrigins ?? [];
  if (origins.length > 0) app.use(allowOrigins(origins));
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        const answer = problemAnswer(
          c,
          new ProblemError("method-not-allowed", `Use ${methods.join(" or ")}.`),
        );
        answer.headers.set("Allow", methods.join(", "));
        return answer;
      },
    }),
  );
  if (dependencies.loopbackOnly) app.use(onlyLoopbackNames);
  return app;
}

/** Recipients and contents are nobody's to keep on the way; what may be kept says so itself. */
const neverCached: MiddlewareHandler<ApiEnv> = async (c, next) => {
  await next();
  if (!c.res.headers.has("Cache-Control")) c.header("Cache-Control", "no-store");
};

/** Keys, not cookies, say who asks: so no credentials of the browser. */
function allowOrigins(origins: readonly string[]): MiddlewareHandler<ApiEnv> {
  return cors({
    origin: [...origins],
    allowHeaders: [
      "Authorization",
      "Content-Type",
      "Idempotency-Key",
      "If-Match",
      "If-None-Match",
      "Last-Event-ID",
      LSN_HEADER,
      "X-Request-Id",
      "traceparent",
    ],
    exposeHeaders: [
      "ETag",
      "Idempotency-Replayed",
      "Link",
      "Location",
      "RateLimit",
      "RateLimit-Policy",
      "Retry-After",
      LSN_HEADER,
      LAG_HEADER,
      "X-Request-Id",
    ],
    maxAge: 600,
  });
}

/** The path without the query: a query may hold a recipient. */
function logRequests(log: ApiDependencies["log"]): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const start = performance.now();
    await next();
    const fields = {
      request_id: c.get("requestId"),
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      key: c.get("caller")?.name,
      duration_ms: Math.round(performance.now() - start),
    };
    log("debug", fields, "request answered");
  };
}
