import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { traceparentOfHeader } from "../../gateway/traceparent.ts";
import { type Accesses, mayReadPii, withBody } from "../access.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, problems, TAG, WITH_BODY } from "../documentation.ts";
import { enqueue } from "../enqueue.ts";
import { createEtags, ETAG } from "../etag.ts";
import { idempotencyKey } from "../idempotency-key.ts";
import { forReader } from "../message.ts";
import { documentMetadata } from "../metadata.ts";
import { NewMessages } from "../new-message.ts";
import { readMessage } from "../one-message.ts";
import { write } from "../query-store/write.ts";
import { historyForReader, MESSAGE_EXAMPLE, Message, MessageWithHistory } from "../whole-message.ts";

const EnqueuedMessages = z
  .object({
    messages: z.array(Message).openapi({ description: "In the order of the request." }),
    created: z.int().openapi({
      description:
        "How many of them this request has put in; the others have a `dedupe_key` that was used before.",
    }),
  })
  .openapi("EnqueuedMessages");

const WAITING: Message = { ...MESSAGE_EXAMPLE, attempts: 0, last_error: null };

const content = {
  "application/json": {
    schema: z.union([MessageWithHistory, EnqueuedMessages]),
    examples: {
      one: { summary: "One message", value: { ...WAITING, history: [] } },
      many: { summary: "An array of messages", value: { messages: [WAITING], created: 1 } },
    },
  },
};

const REPLAYED = {
  "Idempotency-Replayed": {
    description: "`true`: the same request was answered before, and nothing was put in now.",
    schema: { type: "string" },
  },
} as const;

const postRoute = createRoute({
  method: "post",
  path: `${API}/messages`,
  operationId: "createMessages",
  tags: [TAG.messages],
  summary: "Put in a message, or up to 1,000 at once",
  description:
    "All of an array are put in, or none: `errors` then names every rule that any of them breaks. They go out as soon as this is " +
    "answered, in the order of their priority, or at their `available_at`.\n\n" +
    "Safe to be sent again with an `Idempotency-Key`. A `dedupe_key` is another thing: it says that two messages are one, whoever " +
    "puts them in, and in which request.",
  request: {
    headers: z.object({
      "Idempotency-Key": idempotencyKey,
      traceparent: z
        .string()
        .optional()
        .openapi({
          description:
            "W3C Trace Context: the trace of the messages that name none themselves. One that is malformed is ignored. (`tracestate` is not kept.)",
          examples: ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        }),
    }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: NewMessages,
          examples: {
            one: {
              summary: "One message",
              value: { recipient: "+905551234567", content: "Your code is 123456", priority: 0 },
            },
            many: {
              summary: "Several messages, with data of yours",
              value: [
                {
                  recipient: "+905551234567",
                  content: "Your parcel is at the door.",
                  metadata: { order: 1001 },
                },
                {
                  recipient: "+905557654321",
                  content: "Your parcel is on its way.",
                  metadata: { order: 1002 },
                },
              ],
            },
          },
        },
      },
    },
  },
  responses: {
    200: {
      description:
        "Nothing new: each `dedupe_key` was used before. The message (or the messages) that have it.",
      headers: { ...ETAG, ...REPLAYED },
      content,
    },
    201: {
      description: "The message, or the messages, as they wait to be sent.",
      headers: {
        Location: { description: "Of the one message.", schema: { type: "string" } },
        ...ETAG,
        ...REPLAYED,
      },
      content,
    },
    ...problems("refused-message", "idempotency-key-reused", "unknown-message", ...CHANGING, ...WITH_BODY),
  },
});

export function addNewMessages(app: OpenAPIHono<ApiEnv>, { pool }: ApiDependencies, access: Accesses): void {
  const etags = createEtags(pool);
  documentMetadata(app);

  app.openapi({ ...postRoute, ...withBody(access.write, postRoute.request.body) }, async (c) => {
    const body = c.req.valid("json");
    const { "Idempotency-Key": key, traceparent } = c.req.valid("header");
    const once = { key, actor: c.get("caller").name, traceparent: traceparentOfHeader(traceparent) };
    const whole = mayReadPii(c);
    const tags = await etags();

    const { enqueued, one } = await write(c, pool, async (query) => {
      const enqueued = await enqueue(query, body, once);
      const [first] = enqueued.messages;
      if (Array.isArray(body) || first === undefined) return { enqueued, one: undefined };
      const isNew = enqueued.created > 0 && !enqueued.replayed;
      return { enqueued, one: isNew ? { ...first, history: [] } : await readMessage(query, first.id) };
    });

    const { created, replayed } = enqueued;
    const status = created > 0 ? 201 : 200;
    if (replayed) c.header("Idempotency-Replayed", "true");
    if (one === undefined) {
      const messages = enqueued.messages.map((message) => forReader(message, whole));
      return c.json({ messages, created }, status);
    }
    c.header("ETag", tags.of(one, whole));
    if (created > 0) c.header("Location", `${API}/messages/${one.id}`);
    return c.json(historyForReader(one, whole), status);
  });
}
