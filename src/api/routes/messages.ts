import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayFilterByRecipient, mayReadPii, maySearch } from "../access.ts";
import type { Cursors } from "../cursor.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, NEXT_LINK, problems, READING, TAG } from "../documentation.ts";
import * as parameters from "../list-parameters.ts";
import { forReader } from "../message.ts";
import { readMessages } from "../message-list.ts";
import { isObject, METADATA_SCHEMA } from "../metadata.ts";
import { page } from "../paging.ts";
import { q } from "../search.ts";
import { faultOfJson } from "../storable.ts";
import { MESSAGE_EXAMPLE, Message, STATUSES, type Status } from "../whole-message.ts";

const MessagePage = z
  .object({ messages: z.array(Message), next_cursor: z.string().nullable() })
  .openapi("MessagePage");

const STATUS_FAULT = `must be one of ${STATUSES.join(", ")}, or several with commas`;

/** In one order and each once, so that a cursor knows them again. */
const status = z
  .string()
  .transform((text) => text.split(","))
  .refine((names) => names.every((name) => STATUSES.some((known) => known === name)), STATUS_FAULT)
  .transform((names): Status[] => STATUSES.filter((known) => names.includes(known)))
  .openapi({
    param: { style: "form", explode: false },
    type: "array",
    items: { type: "string", enum: [...STATUSES] },
    minItems: 1,
    description: "Only messages in one of these states, with commas between them.",
    examples: [["failed", "expired"]],
  });

const priority = z
  .string()
  .regex(/^[012]$/, "must be 0, 1 or 2")
  .transform(Number)
  .openapi({ type: "integer", minimum: 0, maximum: 2, description: "Only messages of this priority." });

const metadata = z
  .string()
  .transform((text, ctx): Record<string, unknown> => {
    const value = parsed(text);
    const fault = isObject(value) ? faultOfJson(value) : 'must be a JSON object, such as {"order": 1001}';
    if (isObject(value) && fault === undefined) return value;
    ctx.addIssue({ code: "custom", message: fault ?? "" });
    return z.NEVER;
  })
  .openapi({
    param: { content: { "application/json": { schema: METADATA_SCHEMA } } },
    type: "string",
    description:
      "Only messages whose metadata contain this JSON object: its keys and values, and perhaps others.",
  });

const listRoute = createRoute({
  method: "get",
  path: `${API}/messages`,
  operationId: "listMessages",
  tags: [TAG.messages],
  summary: "List messages, wherever they are",
  description:
    "The newest first: give `next_cursor` back as `cursor`, with the same filters. A message that moves on meanwhile (is sent, " +
    "say) is neither missed nor listed twice. Without `status` all of the history is looked through, so a filter that few messages " +
    "match is slow; `status` and `created_after` narrow it. `q` searches the words, in a database that has indexes for it, as a query store has.",
  request: {
    query: z.strictObject({
      limit: parameters.limit,
      status: status.optional(),
      gateway: parameters.gateway.optional(),
      recipient: parameters.recipient.optional(),
      priority: priority.optional(),
      created_after: parameters.instant
        .optional()
        .openapi({ description: "Only messages created later than this." }),
      created_before: parameters.instant
        .optional()
        .openapi({ description: "Only messages created earlier than this." }),
      metadata: metadata.optional(),
      q: q.optional(),
      cursor: parameters.cursor.optional(),
    }),
  },
  responses: {
    200: {
      description: "A page of messages; empty when there are none.",
      headers: NEXT_LINK,
      content: {
        "application/json": {
          schema: MessagePage,
          example: { messages: [MESSAGE_EXAMPLE], next_cursor: null },
        },
      },
    },
    ...problems("search-unavailable", ...READING),
  },
});

export function addMessages(app: OpenAPIHono<ApiEnv>, access: Accesses, cursors: Cursors): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const { limit, cursor, ...filters } = c.req.valid("query");
    mayFilterByRecipient(c, filters.recipient);
    maySearch(c, filters.q);
    const given = {
      ...filters,
      status: filters.status?.join(),
      metadata: filters.metadata && JSON.stringify(filters.metadata),
    };
    const { rows, next_cursor } = await page(
      c,
      cursors,
      { cursor, limit, scope: { list: "messages", filters: given } },
      (from, count) =>
        c.get("read")((pool) => readMessages(pool, filters, from, count), {
          search: filters.q !== undefined,
        }),
      ({ id }) => ({ id }),
    );
    return c.json({ messages: rows.map((row) => forReader(row, mayReadPii(c))), next_cursor }, 200);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
