import type { OpenAPIHono } from "@hono/zod-openapi";
import { createBareApp } from "./bare-app.ts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { addOperations } from "./routes/operations.ts";

/** For a port of its own: the probes and /metrics, and nothing that says anything of a message. */
export function createOperationsApp(
  dependencies: Pick<
    ApiDependencies,
    "log" | "loopbackOnly" | "alive" | "ready" | "metrics" | "metricsToken"
  >,
): OpenAPIHono<ApiEnv> {
  const app = createBareApp(dependencies);
  addOperations(app, dependencies);
  return app;
}
