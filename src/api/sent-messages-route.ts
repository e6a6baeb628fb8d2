import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Position, scopeOf, sealCursor } from "./cursor.ts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { API, problems, TAG } from "./documentation.ts";
import { onlyJsonWanted, whenReady } from "./guards.ts";
import * as parameters from "./list-parameters.ts";
import { ProblemError } from "./problem.ts";
import { readSent, type SentFilters, type SentRow } from "./sent-messages.ts";

const time = z.iso.datetime().openapi({ format: "date-time" });

const SentMessage = z
  .object({
    id: z.int(),
    status: z.literal("sent"),
    gateway: z.string(),
    priority: z.int().openapi({ description: "0, 1 or 2; 0 goes first." }),
    recipient: z.string().openapi({ description: "E.164." }),
    content: z.string(),
    metadata: z.record(z.string(), z.unknown()).openapi({ description: "The producer's own." }),
    dedupe_key: z.string().nullable(),
    attempts: z.int(),
    available_at: time,
    expires_at: time.nullable(),
    created_at: time,
    sent_at: time,
    gateway_message_id: z.string().openapi({ description: "The id the gateway gave it." }),
    duration_ms: z.int().openapi({ description: "How long the gateway took to accept it." }),
    last_error: z
      .string()
      .nullable()
      .openapi({ description: "Of an attempt before the one that succeeded." }),
  })
  .openapi("SentMessage");

const SentPage = z
  .object({ messages: z.array(SentMessage), next_cursor: z.string().nullable() })
  .openapi("SentPage");

const listSentRoute = createRoute({
  method: "get",
  path: `${API}/messages/sent`,
  operationId: "listSentMessages",
  tags: [TAG.messages],
  summary: "List the messages that the gateway accepted",
  description:
    "Pages by `sent_at`, then `id`: give `next_cursor` back as `cursor`, with the same filters.\n\n" +
    "With `order=desc` it ends: `next_cursor` is null on the last page. With `order=asc` it is a feed: an empty " +
    "page gives the cursor back, so that a client can keep asking and sees every message exactly once.",
  request: {
    query: z.strictObject({
      limit: parameters.limit,
      order: parameters.order,
      after: parameters.instant.optional().openapi({ description: "Only messages sent later than this." }),
      before: parameters.instant.optional().openapi({ description: "Only messages sent earlier than this." }),
      gateway: parameters.gateway.optional(),
      recipient: parameters.recipient.optional(),
      cursor: parameters.cursor.optional(),
    }),
  },
  responses: {
    200: {
      description: "A page of messages; empty when there are none.",
      content: {
        "application/json": {
          schema: SentPage,
          example: {
            messages: [
              {
                id: 42,
                status: "sent",
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
                sent_at: "2026-11-23T09:30:00.123456Z",
                gateway_message_id: "67f2f8a8-ea58-4ed0-a6f9-ff217df4d849",
                duration_ms: 38,
                last_error: null,
              },
            ],
            next_cursor: null,
          },
        },
      },
    },
    ...problems("invalid-request", "not-acceptable", "not-ready", "database-unavailable", "query-too-slow"),
  },
});

export function addSentMessages(app: OpenAPIHono<ApiEnv>, dependencies: ApiDependencies): void {
  const middleware = [onlyJsonWanted, whenReady(dependencies)];
  app.openapi({ ...listSentRoute, middleware }, async (c) => {
    const { limit, cursor, ...filters } = c.req.valid("query");
    const scope = scopeOf("messages/sent", [
      filters.order,
      filters.gateway,
      filters.recipient,
      filters.after,
      filters.before,
    ]);
    if (cursor !== undefined && cursor.scope !== scope) throw cursorOfOtherFilters();

    // One more than asked for shows whether there is a next page.
    const rows = await readSent(dependencies.pool, filters, cursor?.position, limit + 1);
    const page = rows.slice(0, limit);
    const next = nextPosition(filters.order, page, rows.length > limit, cursor?.position);
    const next_cursor = next === undefined ? null : sealCursor({ position: next, scope });
    return c.json({ messages: page.map(toMessage), next_cursor }, 200);
  });
}

/** Down the history there is an end; up it there is always a place to wait at, once one is known. */
function nextPosition(
  order: SentFilters["order"],
  page: readonly SentRow[],
  more: boolean,
  given: Position | undefined,
): Position | undefined {
  const last = page.at(-1);
  if (order === "desc" && !more) return undefined;
  return last === undefined ? given : { at: last.sent_at, id: last.id };
}

function toMessage({ id, ...rest }: SentRow): z.infer<typeof SentMessage> {
  return { id, status: "sent", ...rest };
}

function cursorOfOtherFilters(): ProblemError {
  const detail =
    "was made for other filters: send it with the gateway, recipient, order, after and before it came with, " +
    "or leave it out to start again";
  return new ProblemError("invalid-request", undefined, [{ detail, parameter: "cursor" }]);
}
