import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii } from "../access.ts";
import { onConnection, patient } from "../connection.ts";
import type { Cursors, Position } from "../cursor.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, NEXT_LINK, problems, READING, TAG } from "../documentation.ts";
import { keysetQuery } from "../keyset.ts";
import * as parameters from "../list-parameters.ts";
import { id, time } from "../message.ts";
import { page } from "../paging.ts";
import { maskNumbersDeep } from "../pii.ts";

const AuditEntry = z
  .object({
    id,
    at: time,
    actor: z
      .string()
      .openapi({ description: "Who: the name of the key, or a database role where it was done in SQL." }),
    db_role: z.string().openapi({ description: "The database role that was logged in." }),
    action: z.string().openapi({ description: "What: pause, resume, cancel, edit, replay, replay_where, …" }),
    target: z
      .string()
      .nullable()
      .openapi({ description: "On what: a gateway's name, a message's id; null: everything." }),
    affected: z.int().openapi({ description: "How many things it changed." }),
    details: z.record(z.string(), z.unknown()).openapi({
      description: "The rest; never a recipient or a text. Without the scope read_pii numbers are masked.",
    }),
  })
  .openapi("AuditEntry");

const AuditPage = z
  .object({ entries: z.array(AuditEntry), next_cursor: z.string().nullable() })
  .openapi("AuditPage");

type AuditRow = z.infer<typeof AuditEntry>;

const listRoute = createRoute({
  method: "get",
  path: `${API}/audit`,
  operationId: "listAudit",
  tags: [TAG.insight],
  summary: "Who did what?",
  description:
    "Every action of an operator, from SQL or REST, the newest first. Pages by `at`, then `id`: give `next_cursor` back as " +
    "`cursor`, with the same filters; it is null on the last page.",
  request: {
    query: z.strictObject({
      limit: parameters.limit,
      actor: parameters.text
        .optional()
        .openapi({ description: "Only what this one did.", examples: ["api"] }),
      action: parameters.text.optional().openapi({ description: "Only this.", examples: ["pause"] }),
      target: parameters.text.optional().openapi({
        description: "Only what was done to it: a gateway's name, a message's id.",
        examples: ["42"],
      }),
      after: parameters.instant.optional().openapi({ description: "Only what was done later than this." }),
      before: parameters.instant.optional().openapi({ description: "Only what was done earlier than this." }),
      cursor: parameters.cursor.optional(),
    }),
  },
  responses: {
    200: {
      description: "A page of entries; empty when there are none.",
      headers: NEXT_LINK,
      content: {
        "application/json": {
          schema: AuditPage,
          example: {
            entries: [
              {
                id: 12,
                at: "2026-11-23T09:30:00.123456Z",
                actor: "night-shift",
                db_role: "outbox",
                action: "pause",
                target: "default",
                affected: 1,
                details: {},
              },
            ],
            next_cursor: null,
          },
        },
      },
    },
    ...problems(...READING),
  },
});

interface AuditFilters {
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly target?: string | undefined;
  readonly after?: string | undefined;
  readonly before?: string | undefined;
}

const PATIENT = patient("Narrow it with after and before.");

export function auditQuery(filters: AuditFilters, from: Position | undefined, count: number) {
  return keysetQuery({
    select: "select id, at, actor, db_role, action, target, affected, details from outbox.audit",
    time: "at",
    order: "desc",
    from,
    conditions: [
      ["at >", filters.after],
      ["at <", filters.before],
      ["actor =", filters.actor],
      ["action =", filters.action],
      ["target =", filters.target],
    ],
    count,
  });
}

export function addAudit(app: OpenAPIHono<ApiEnv>, access: Accesses, cursors: Cursors): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const { limit, cursor, ...filters } = c.req.valid("query");
    const { rows, next_cursor } = await page(
      c,
      cursors,
      { cursor, limit, scope: { list: "audit", filters } },
      (from, count) => {
        const { text, values } = auditQuery(filters, from, count);
        return c.get("read")((pool) => onConnection(pool, (query) => query<AuditRow>(text, values, PATIENT)));
      },
      ({ at, id }) => ({ at, id }),
    );
    const entries = mayReadPii(c)
      ? [...rows]
      : rows.map((row) => ({ ...row, details: maskNumbersDeep(row.details) }));
    return c.json({ entries, next_cursor }, 200);
  });
}
