import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { createAccesses } from "./access.ts";
import { createCursors } from "./cursor.ts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { API } from "./documentation.ts";
import { toProblem } from "./error-to-problem.ts";
import { refuseInvalid } from "./faults.ts";
import { onlyLoopbackNames } from "./guards.ts";
import { addOpenApiDocument } from "./openapi-document.ts";
import { PROBLEMS, ProblemError, type ProblemSlug, problemAnswer } from "./problem.ts";
import { LSN_HEADER } from "./query-store/lsn.ts";
import { LAG_HEADER } from "./query-store/reads.ts";
import { addAudit } from "./routes/audit.ts";
import { addDeadLetters } from "./routes/dead-letters.ts";
import { addEvents } from "./routes/events.ts";
import { addExplanation } from "./routes/explanation.ts";
import { addGateways } from "./routes/gateways.ts";
import { addMessage } from "./routes/message.ts";
import { addMessageChanges } from "./routes/message-changes.ts";
import { addMessages } from "./routes/messages.ts";
import { addNewMessages } from "./routes/new-messages.ts";
import { addOperations } from "./routes/operations.ts";
import { addRelayers } from "./routes/relayers.ts";
import { addReplayDeadLetters } from "./routes/replay-dead-letters.ts";
import { addReplays } from "./routes/replays.ts";
import { addScheduler } from "./routes/scheduler.ts";
import { addSentMessages } from "./routes/sent-messages.ts";
import { addStats } from "./routes/stats.ts";
import { addSwaggerUi } from "./swagger-ui.ts";

const KIB = 1_024;
/** A thousand messages of the longest contents, with room for their metadata. */
const MAX_MESSAGES_BYTES = 8 * KIB * KIB;
const MAX_BODY_BYTES = 64 * KIB;

/** No fault of a request's: what is wrong was said in the log when it began, or goes by what is set up. */
const EXPECTED: ReadonlySet<ProblemSlug> = new Set([
  "not-ready",
  "query-store-unavailable",
  "search-unavailable",
]);

/** The whole HTTP face, without a socket: `app.request("/readyz")` answers in process. */
export function createApp(dependencies: ApiDependencies): OpenAPIHono<ApiEnv> {
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
  app.use(limitBodies);

  const access = createAccesses(dependencies);
  const cursors = createCursors(dependencies.pool);
  // Before the messages by id: "sent" is none.
  addSentMessages(app, access, cursors);
  addDeadLetters(app, access, cursors);
  addReplayDeadLetters(app, dependencies, access);
  addReplays(app, dependencies, access, cursors);
  addMessages(app, access, cursors);
  addNewMessages(app, dependencies, access);
  addMessage(app, dependencies, access);
  addExplanation(app, access);
  addMessageChanges(app, dependencies, access);
  addScheduler(app, dependencies, access);
  addGateways(app, dependencies, access);
  addStats(app, access);
  addRelayers(app, access);
  addAudit(app, access, cursors);
  addEvents(app, dependencies, access, cursors);
  addOperations(app, dependencies);
  addOpenApiDocument(app, dependencies.version);
  addSwaggerUi(app);
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

const limitBodies: MiddlewareHandler<ApiEnv> = (c, next) =>
  c.req.method === "POST" && c.req.path === `${API}/messages` ? limitMessages(c, next) : limitOthers(c, next);

const limitMessages = bodyLimit({ maxSize: MAX_MESSAGES_BYTES, onError: tooLarge(MAX_MESSAGES_BYTES) });
const limitOthers = bodyLimit({ maxSize: MAX_BODY_BYTES, onError: tooLarge(MAX_BODY_BYTES) });

function tooLarge(bytes: number) {
  return (): never => {
    throw new ProblemError("body-too-large", `At most ${bytes / KIB} KiB.`);
  };
}
