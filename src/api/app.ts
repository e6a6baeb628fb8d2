import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { toProblem } from "./error-to-problem.ts";
import { refuseInvalid } from "./faults.ts";
import { onlyLoopbackNames } from "./guards.ts";
import { addOpenApiDocument } from "./openapi-document.ts";
import { addOperations } from "./operations-routes.ts";
import { PROBLEMS, ProblemError, problemAnswer } from "./problem.ts";
import { addScheduler } from "./scheduler-route.ts";
import { addSentMessages } from "./sent-messages-route.ts";
import { addSwaggerUi } from "./swagger-ui.ts";

const MAX_BODY_BYTES = 64 * 1024;

/** The whole HTTP face, without a socket: `app.request("/readyz")` answers in process. */
export function createApp(dependencies: ApiDependencies): OpenAPIHono<ApiEnv> {
  const { log } = dependencies;
  const app = new OpenAPIHono<ApiEnv>({ defaultHook: refuseInvalid });

  app.onError((error, c) => {
    const problem = toProblem(error);
    const { status } = PROBLEMS[problem.slug];
    const fields = { request_id: c.get("requestId"), method: c.req.method, path: c.req.path, err: error };
    if (status === 500) log("error", fields, "a request failed unexpectedly");
    else if (status > 500 && problem.slug !== "not-ready")
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
  app.use(bodyLimit({ maxSize: MAX_BODY_BYTES, onError: tooLarge }));

  addSentMessages(app, dependencies);
  addScheduler(app, dependencies);
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
      duration_ms: Math.round(performance.now() - start),
    };
    log("debug", fields, "request answered");
  };
}

function tooLarge(): never {
  throw new ProblemError("body-too-large", `At most ${MAX_BODY_BYTES} bytes.`);
}
