import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayFilterByRecipient, mayReadPii } from "../access.ts";
import type { Cursors } from "../cursor.ts";
import { DEAD_REASONS, readDeadLetters } from "../dead-letters.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, NEXT_LINK, problems, READING, TAG } from "../documentation.ts";
import * as parameters from "../list-parameters.ts";
import { forReader, messageShape, time } from "../message.ts";
import { page } from "../paging.ts";

const DeadLetter = z
  .object({
    ...messageShape,
    status: z
      .enum(["failed", "expired", "cancelled"])
      .openapi({ description: "failed: rejected, exhausted or unknown_outcome." }),
    claimed_by: z
      .int()
      .nullable()
      .openapi({ description: "The relayer whose attempt was the last, if it died of one." }),
    claimed_at: time.nullable().openapi({ description: "When that relayer claimed it." }),
    traceparent: z.string().nullable().openapi({ description: "W3C trace context, as inserted." }),
    revision: z.int().openapi({ description: "Part of its Idempotency-Key where it is above 0." }),
    died_at: time,
    reason: z.enum(DEAD_REASONS).openapi({ description: "Why it ended without being sent." }),
    http_status: z
      .int()
      .nullable()
      .openapi({ description: "The gateway's last status, if it died of an answer." }),
    error: z.string().nullable().openapi({
      description:
        "The same for a person, with the gateway's answer. Without the scope read_pii only with its status.",
    }),
  })
  .openapi("DeadLetter");

const DeadLetterPage = z
  .object({ dead_letters: z.array(DeadLetter), next_cursor: z.string().nullable() })
  .openapi("DeadLetterPage");

const listRoute = createRoute({
  method: "get",
  path: `${API}/dead-letters`,
  operationId: "listDeadLetters",
  tags: [TAG.deadLetters],
  summary: "List the messages that ended without being sent",
  description:
    "Pages by `died_at`, then `id`: give `next_cursor` back as `cursor`, with the same filters; it is null on the last " +
    "page. One that was replayed is in the outbox again, and not here.",
  request: {
    query: z.strictObject({
      limit: parameters.limit,
      order: parameters.order,
      reason: z
        .enum(DEAD_REASONS, `must be one of ${DEAD_REASONS.join(", ")}`)
        .optional()
        .openapi({ description: "Only those that ended for this reason." }),
      gateway: parameters.gateway.optional(),
      recipient: parameters.recipient.optional(),
      died_after: parameters.instant
        .optional()
        .openapi({ description: "Only messages that ended later than this." }),
      died_before: parameters.instant
        .optional()
        .openapi({ description: "Only messages that ended earlier than this." }),
      cursor: parameters.cursor.optional(),
    }),
  },
  responses: {
    200: {
      description: "A page of dead letters; empty when there are none.",
      headers: NEXT_LINK,
      content: {
        "application/json": {
          schema: DeadLetterPage,
          example: {
            dead_letters: [
              {
                id: 42,
                status: "failed" as const,
                gateway: "default",
                priority: 1,
                recipient: "+905551234567",
                content: "Your parcel is at the door.",
                metadata: { order: 1001 },
                dedupe_key: null,
                attempts: 1,
                available_at: "2026-11-23T09:30:00.000000Z",
                expires_at: null,
                created_at: "2026-11-23T09:30:00.000000Z",
                last_error: "HTTP 400: unknown number",
                claimed_by: 3,
                claimed_at: "2026-11-23T09:30:00.100000Z",
                traceparent: null,
                revision: 0,
                died_at: "2026-11-23T09:30:00.123456Z",
                reason: "rejected" as const,
                http_status: 400,
                error: "HTTP 400: unknown number",
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

export function addDeadLetters(app: OpenAPIHono<ApiEnv>, access: Accesses, cursors: Cursors): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const { limit, cursor, ...filters } = c.req.valid("query");
    mayFilterByRecipient(c, filters.recipient);
    const { rows, next_cursor } = await page(
      c,
      cursors,
      { cursor, limit, scope: { list: "dead-letters", filters } },
      (from, count) => c.get("read")((pool) => readDeadLetters(pool, filters, from, count)),
      ({ died_at, id }) => ({ at: died_at, id }),
    );
    return c.json({ dead_letters: rows.map((row) => forReader(row, mayReadPii(c))), next_cursor }, 200);
  });
}
