import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Accesses } from "../access.ts";
import { onConnection, type Query } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, problems, READING, TAG } from "../documentation.ts";
import { write } from "../query-store/write.ts";

const Scheduler = z
  .object({
    running: z.boolean().openapi({ description: "Whether messages are relayed." }),
    changed_at: z.iso.datetime().openapi({ format: "date-time" }),
    changed_by: z.string().openapi({ description: "Who started or stopped it last." }),
  })
  .openapi("Scheduler");

type Scheduler = z.infer<typeof Scheduler>;

const answers = (description: string, running: boolean) => ({
  200: {
    description,
    content: {
      "application/json": {
        schema: Scheduler,
        example: { running, changed_at: "2026-11-23T09:30:00.123456Z", changed_by: "api" },
      },
    },
  },
});

const getRoute = createRoute({
  method: "get",
  path: `${API}/scheduler`,
  operationId: "getScheduler",
  tags: [TAG.scheduler],
  summary: "Is the relay running?",
  description: "One switch for all relayers of this database. It survives restarts.",
  responses: { ...answers("The switch.", true), ...problems(...READING) },
});

const changes = {
  toggle: {
    operationId: "toggleScheduler",
    summary: "Start the relay if it is stopped, stop it if it runs",
    description:
      "Not to be repeated blindly: a second call undoes the first. `start` and `stop` may be repeated.",
    running: false,
    sql: "select outbox.toggle(actor => $1)",
  },
  start: {
    operationId: "startScheduler",
    summary: "Start the relay",
    description: "What waits goes out, in order. If it runs already, it stays so.",
    running: true,
    sql: "select outbox.resume(gateway => null, actor => $1)",
  },
  stop: {
    operationId: "stopScheduler",
    summary: "Stop the relay",
    description:
      "Once this is answered no relayer takes another message; what is being sent at that moment is still " +
      "recorded. Messages can be put in as before, and wait.",
    running: false,
    sql: "select outbox.pause(gateway => null, actor => $1)",
  },
} as const;

export function addScheduler(app: OpenAPIHono<ApiEnv>, { pool }: ApiDependencies, access: Accesses): void {
  app.openapi({ ...getRoute, ...access.read }, async (c) =>
    c.json(await c.get("read")((pool) => onConnection(pool, readScheduler)), 200),
  );

  for (const [name, { sql, running, ...texts }] of Object.entries(changes)) {
    const route = createRoute({
      method: "post",
      path: `${API}/scheduler/${name}`,
      tags: [TAG.scheduler],
      ...texts,
      ...access.operate,
      responses: { ...answers("The switch, after the change.", running), ...problems(...CHANGING) },
    });
    app.openapi(route, async (c) => {
      // Read in a second statement of the same transaction: it sees this change, and no later one.
      const scheduler = await write(c, pool, async (query) => {
        await query(sql, [c.get("caller").name]);
        return readScheduler(query);
      });
      return c.json(scheduler, 200);
    });
  }
}

async function readScheduler(query: Query): Promise<Scheduler> {
  const [scheduler] = await query<Scheduler>(
    "select running, changed_at, changed_by from outbox.scheduler",
    [],
  );
  if (scheduler === undefined) throw new Error("outbox.scheduler has no row");
  return scheduler;
}
