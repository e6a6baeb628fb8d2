import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayFilterByRecipient, mayReadPii } from "../access.ts";
import type { Cursors, Position, Scope } from "../cursor.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, NEXT_LINK, problems, READING, TAG } from "../documentation.ts";
import * as parameters from "../list-parameters.ts";
import { forReader, messageShape, time } from "../message.ts";
import { linkNext } from "../paging.ts";
import { readSent, type SentFilters, type SentRow } from "../sent-messages.ts";

const SentMessage = z
  .object({
    ...messageShape,
    status: z.literal("sent"),
    sent_at: time,
    gateway_message_id: z.string().openapi({ description: "The id the gateway gave it." }),
    duration_ms: z.int().openapi({ description: "How long the gateway took to accept it." }),
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
      headers: NEXT_LINK,
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
    ...problems(...READING),
  },
});

export function addSentMessages(app: OpenAPIHono<ApiEnv>, access: Accesses, cursors: Cursors): void {
  app.openapi({ ...listSentRoute, ...access.read }, async (c) => {
    const { limit, cursor, ...filters } = c.req.valid("query");
    mayFilterByRecipient(c, filters.recipient);
    const scope: Scope = { list: "messages/sent", filters };
    const from = cursor === undefined ? undefined : await cursors.open(cursor, scope);

    // One more than asked for shows whether there is a next page.
    const rows = await c.get("read")((pool) => readSent(pool, filters, from, limit + 1));
    const page = rows.slice(0, limit);
    const next = nextPosition(filters.order, page, rows.length > limit, from);
    const next_cursor = next === undefined ? null : await cursors.seal(next, scope);
    if (next_cursor !== null) linkNext(c, next_cursor);
    const messages = page.map((row) => forReader({ ...row, status: "sent" as const }, mayReadPii(c)));
    return c.json({ messages, next_cursor }, 200);
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
