import { createHash, timingSafeEqual } from "node:crypto";
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { problems, TAG } from "../documentation.ts";
import { ProblemError } from "../problem.ts";

const Liveness = z.object({ alive: z.boolean(), reason: z.string().optional() }).openapi("Liveness");

const Readiness = z
  .object({
    ready: z.boolean(),
    parts: z.record(z.string(), z.object({ ok: z.boolean(), detail: z.string().optional() })),
  })
  .openapi("Readiness");

const json = <S extends z.ZodType>(description: string, schema: S, example: z.input<S>) => ({
  description,
  content: { "application/json": { schema, example } },
});

const liveRoute = createRoute({
  method: "get",
  path: "/livez",
  operationId: "getLiveness",
  security: [],
  tags: [TAG.operations],
  summary: "Should this process be left alone?",
  description: "503 means that only a restart helps. A database that is away is no reason for one.",
  responses: {
    200: json("It works.", Liveness, { alive: true }),
    503: json("It is stuck.", Liveness, { alive: false, reason: "the relay loop has not turned for 60 s" }),
    ...problems(),
  },
});

const readyRoute = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  security: [],
  tags: [TAG.operations],
  summary: "Can this process serve requests now?",
  description: "With every part it depends on, and what is wrong with it.",
  responses: {
    200: json("It can.", Readiness, { ready: true, parts: { database: { ok: true } } }),
    503: json("It cannot, for now.", Readiness, {
      ready: false,
      parts: { database: { ok: false, detail: "connection refused" } },
    }),
    ...problems(),
  },
});

/** The name of the security scheme in the OpenAPI document. */
const TOKEN_SCHEME = "metricsToken";

const METRICS = {
  method: "get" as const,
  path: "/metrics" as const,
  operationId: "getMetrics",
  tags: [TAG.operations],
  summary: "Metrics of this process, for Prometheus",
  description: "In the text format that Prometheus scrapes.",
};

const METRICS_ANSWER = {
  description: "One metric a line.",
  content: { "text/plain": { schema: z.string(), example: "process_uptime_seconds 42\n" } },
};

const openRoute = createRoute({
  ...METRICS,
  security: [],
  responses: { 200: METRICS_ANSWER, ...problems() },
});

const closedRoute = (token: string) =>
  createRoute({
    ...METRICS,
    security: [{ [TOKEN_SCHEME]: [] }],
    middleware: onlyWithToken(token),
    responses: { 200: METRICS_ANSWER, ...problems("unauthenticated") },
  });

/** For load balancers and monitoring; outside the API, so without its version. */
export function addOperations(
  app: OpenAPIHono<ApiEnv>,
  dependencies: Pick<ApiDependencies, "alive" | "ready" | "metrics" | "metricsToken">,
): void {
  app.openapi(liveRoute, (c) => {
    const liveness = dependencies.alive();
    return liveness.alive ? c.json(liveness, 200) : c.json(liveness, 503);
  });

  app.openapi(readyRoute, (c) => {
    const readiness = dependencies.ready();
    return readiness.ready ? c.json(readiness, 200) : c.json(readiness, 503);
  });

  const { metrics, metricsToken } = dependencies;
  if (metrics === undefined) return;
  if (metricsToken !== undefined)
    app.openAPIRegistry.registerComponent("securitySchemes", TOKEN_SCHEME, {
      type: "http",
      scheme: "bearer",
      description: "`metrics.token` of the configuration.",
    });
  app.openapi(metricsToken === undefined ? openRoute : closedRoute(metricsToken), async (c) => {
    const { contentType, body } = await metrics();
    return c.text(body, 200, { "Content-Type": contentType });
  });
}

/** In time that does not tell how much of it was right. */
function onlyWithToken(token: string): MiddlewareHandler<ApiEnv> {
  const digestOf = (text: string) => createHash("sha256").update(text).digest();
  const right = digestOf(token);
  return async (c, next) => {
    const given = /^Bearer +(\S+) *$/i.exec(c.req.header("Authorization") ?? "")?.[1];
    if (given === undefined || !timingSafeEqual(digestOf(given), right)) {
      c.header("WWW-Authenticate", 'Bearer realm="outbox-relayer metrics"');
      throw new ProblemError("unauthenticated", "Send metrics.token: Authorization: Bearer <token>.");
    }
    await next();
  };
}
