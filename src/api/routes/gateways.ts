import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, problems, READING, TAG } from "../documentation.ts";
import { GATEWAY_EXAMPLE, Gateway, readGateway, readGateways, shownGateway } from "../gateway.ts";
import * as parameters from "../list-parameters.ts";
import { ProblemError } from "../problem.ts";
import { write } from "../query-store/write.ts";

const Gateways = z.object({ gateways: z.array(Gateway) }).openapi("Gateways");

const one = z.strictObject({ name: parameters.gateway.openapi({ description: "The name of a gateway." }) });

const answer = (description: string, example: Gateway) => ({
  200: { description, content: { "application/json": { schema: Gateway, example } } },
});

const listRoute = createRoute({
  method: "get",
  path: `${API}/gateways`,
  operationId: "listGateways",
  tags: [TAG.gateways],
  summary: "List the gateways",
  description:
    "Each by its name: is it relayed to, if not why and until when, what waits for it, and what is set for it. Settings are " +
    "changed in the configuration or in `outbox.gateways`.",
  responses: {
    200: {
      description: "All of them.",
      content: { "application/json": { schema: Gateways, example: { gateways: [GATEWAY_EXAMPLE] } } },
    },
    ...problems(...READING),
  },
});

const getRoute = createRoute({
  method: "get",
  path: `${API}/gateways/{name}`,
  operationId: "getGateway",
  tags: [TAG.gateways],
  summary: "Is a gateway relayed to?",
  description: "If not why and until when, what waits for it, and what is set for it.",
  request: { params: one },
  responses: {
    ...answer("The gateway.", GATEWAY_EXAMPLE),
    ...problems("unknown-gateway", ...READING),
  },
});

const changes = {
  pause: {
    operationId: "pauseGateway",
    summary: "Stop relaying to a gateway",
    description:
      "Once this is answered no relayer takes another message for it; what is being sent at that moment is still recorded. " +
      "The others go on. If it is paused already, it stays so.",
    example: { ...GATEWAY_EXAMPLE, state: "paused", paused: true },
    sql: "select outbox.pause(gateway => $1, actor => $2)",
  },
  resume: {
    operationId: "resumeGateway",
    summary: "Relay to a gateway again",
    description: "Ends a pause, and a hold as well, and closes its circuit: what waits goes out, in order.",
    example: GATEWAY_EXAMPLE,
    sql: "select outbox.resume(gateway => $1, actor => $2)",
  },
} as const;

export function addGateways(app: OpenAPIHono<ApiEnv>, { pool }: ApiDependencies, access: Accesses): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const gateways = await c.get("read")((pool) => onConnection(pool, readGateways));
    return c.json({ gateways: gateways.map((gateway) => shownGateway(gateway, mayReadPii(c))) }, 200);
  });

  app.openapi({ ...getRoute, ...access.read }, async (c) => {
    const { name } = c.req.valid("param");
    const gateway = await c.get("read")((pool) => onConnection(pool, (query) => readGateway(query, name)));
    return c.json(shownGateway(known(gateway, name), mayReadPii(c)), 200);
  });

  for (const [change, { sql, example, ...texts }] of Object.entries(changes)) {
    const route = createRoute({
      method: "post",
      path: `${API}/gateways/{name}/${change}`,
      tags: [TAG.gateways],
      ...texts,
      ...access.operate,
      request: { params: one },
      responses: {
        ...answer("The gateway, after the change.", example),
        ...problems("invalid-request", "unknown-gateway", ...CHANGING),
      },
    });
    app.openapi(route, async (c) => {
      const { name } = c.req.valid("param");
      const gateway = await write(c, pool, async (query) => {
        const there = await query("select from outbox.gateways where name = $1", [name]);
        if (there.length === 0) return undefined;
        await query(sql, [name, c.get("caller").name]);
        return readGateway(query, name);
      });
      return c.json(shownGateway(known(gateway, name), mayReadPii(c)), 200);
    });
  }
}

function known(gateway: Gateway | undefined, name: string): Gateway {
  if (gateway === undefined)
    throw new ProblemError(
      "unknown-gateway",
      `There is no gateway "${name}". GET ${API}/gateways lists them.`,
    );
  return gateway;
}
