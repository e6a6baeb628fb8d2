import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Accesses } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, problems, READING_NOW, TAG } from "../documentation.ts";
import { id, time } from "../message.ts";

const Alert = z
  .object({
    id,
    kind: z.string().openapi({
      description:
        "What sort of thing: new_dead_letters, dead_letters, oldest_due_age, gateway_held, gateway_paused, " +
        "scheduler_stopped, no_relayer, query_store_lag, slot_wal or notices_unsent.",
    }),
    key: z.string().openapi({
      description: "The kind, and what it is about; the same each time that it comes again.",
    }),
    severity: z.enum(["critical", "warning"]),
    summary: z.string().openapi({ description: "What, in a sentence, without numbers and texts." }),
    since: time.openapi({
      format: "date-time",
      description: "Since when it is so; where that is not known, since it was found.",
    }),
    last_seen_at: time.openapi({ format: "date-time", description: "When it was found last." }),
    resolved_at: time.nullable().openapi({ description: "When it was found to be over; null: it is open." }),
    count: z.int().nullable().openapi({ description: "How many messages; null: it is not about messages." }),
    sample_ids: z.array(id).openapi({ description: "Some of them." }),
    help: z.string().nullable().openapi({ description: "What helps, in SQL." }),
    request: z
      .string()
      .nullable()
      .openapi({ description: "What helps over REST: a method, and a path below /api/v1." }),
    notified_at: time.nullable().openapi({
      description: "When a notice of it was queued last for Slack or e-mail; null: never.",
    }),
    notices: z.int().openapi({ description: "How often it was told so." }),
  })
  .openapi("Alert");

const Alerts = z.object({ alerts: z.array(Alert) }).openapi("Alerts");

const listRoute = createRoute({
  method: "get",
  path: `${API}/alerts`,
  operationId: "listAlerts",
  tags: [TAG.insight],
  summary: "What is wrong, and what was?",
  description:
    "What is open, the critical first; then the last 100 that are over, the newest first, of at most 30 days. The relayers " +
    "look each minute (the line `alert` of the crontab), and tell it by Slack and e-mail where these are configured. The primary is " +
    "asked also where there is a query store, which may be what is wrong.",
  responses: {
    200: {
      description: "All that is open, and what was lately.",
      content: {
        "application/json": {
          schema: Alerts,
          example: {
            alerts: [
              {
                id: 7,
                kind: "new_dead_letters",
                key: "new_dead_letters:default:rejected",
                severity: "warning",
                summary: "3 new dead letters within 10 minutes at gateway default: rejected",
                since: "2026-11-23T09:21:07.001532Z",
                last_seen_at: "2026-11-23T09:30:00.123456Z",
                resolved_at: null,
                count: 3,
                sample_ids: [44, 43, 42],
                help: "select outbox.explain(44);",
                request: "GET /dead-letters?gateway=default&reason=rejected",
                notified_at: "2026-11-23T09:22:00.104221Z",
                notices: 1,
              },
            ],
          },
        },
      },
    },
    ...problems(...READING_NOW),
  },
});

const COLUMNS =
  "id, kind, key, severity, summary, since, last_seen_at, resolved_at, count, sample_ids, help, request, notified_at, notices";

const SELECT = `
    (
      select ${COLUMNS}
      from outbox.alerts
      where resolved_at is null and opened_at is not null
      order by severity, since, id
    )
    union all
    (
      select ${COLUMNS}
      from outbox.alerts
      where resolved_at is not null
      order by resolved_at desc, id desc
      limit 100
    )`;

export function addAlerts(app: OpenAPIHono<ApiEnv>, { pool }: ApiDependencies, access: Accesses): void {
  app.openapi({ ...listRoute, ...access.readNow }, async (c) => {
    const alerts = await onConnection(pool, (query) => query<z.infer<typeof Alert>>(SELECT, []));
    return c.json({ alerts }, 200);
  });
}
