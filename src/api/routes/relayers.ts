import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Accesses } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, problems, READING, TAG } from "../documentation.ts";
import { time } from "../message.ts";
import { milliseconds, msColumn } from "../milliseconds.ts";

const Relayer = z
  .object({
    id: z.int().openapi({ description: "Its number: `claimed_by` of a message." }),
    name: z.string().openapi({ description: "Host and process id." }),
    version: z.string(),
    alive: z.boolean().openapi({
      description:
        "It holds its lock, which Postgres frees when the process is gone, and was heard of within 30 s.",
    }),
    started_at: time.openapi({
      format: "date-time",
      description: "When it took its number; it takes a new one after its connection was lost.",
    }),
    heartbeat_at: time
      .nullable()
      .openapi({ description: "When it was last heard of. Null: taken for dead." }),
    heartbeat_age_ms: milliseconds("How long ago; about a second when all is well.").nullable(),
    in_flight: z.int().openapi({ description: "Messages it has claimed." }),
    oldest_claim_age_ms: milliseconds(
      "How long it has had the oldest of them. Above its gateway's timeout: it hangs, or cannot record what it did.",
    ).nullable(),
  })
  .openapi("Relayer");

const Relayers = z.object({ relayers: z.array(Relayer) }).openapi("Relayers");

const listRoute = createRoute({
  method: "get",
  path: `${API}/relayers`,
  operationId: "listRelayers",
  tags: [TAG.insight],
  summary: "Which processes relay?",
  description:
    "Each by its number: does it live, and what has it claimed. One that is gone is here until another has freed its " +
    "claims, about a second.",
  responses: {
    200: {
      description: "All of them.",
      content: {
        "application/json": {
          schema: Relayers,
          example: {
            relayers: [
              {
                id: 3,
                name: "relay-1:4711",
                version: "0.1.0",
                alive: true,
                started_at: "2026-11-23T06:00:00.000000Z",
                heartbeat_at: "2026-11-23T09:30:00.123456Z",
                heartbeat_age_ms: 412,
                in_flight: 64,
                oldest_claim_age_ms: 38,
              },
            ],
          },
        },
      },
    },
    ...problems(...READING),
  },
});

const SELECT = `
    select
      id, name, version, alive, started_at, heartbeat_at, ${msColumn("heartbeat_age")}, in_flight,
      ${msColumn("oldest_claim_age")}
    from outbox.relayer_status
    order by id`;

export function addRelayers(app: OpenAPIHono<ApiEnv>, access: Accesses): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const relayers = await c.get("read")((pool) =>
      onConnection(pool, (query) => query<z.infer<typeof Relayer>>(SELECT, [])),
    );
    return c.json({ relayers }, 200);
  });
}
