import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { type Accesses, mayReadPii, withBody } from "../access.ts";
import type { Query } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, problems, TAG, WITH_BODY } from "../documentation.ts";
import { createEtags, type EntityTags, ETAG, ifMatch } from "../etag.ts";
import { messageId } from "../message-id.ts";
import { availableAt, content, expiresAt, priority, recipient } from "../new-message.ts";
import { readMessage } from "../one-message.ts";
import { ProblemError } from "../problem.ts";
import { write } from "../query-store/write.ts";
import { HISTORY_EXAMPLE, historyForReader, MessageWithHistory } from "../whole-message.ts";

const request = {
  params: z.object({ id: messageId }),
  headers: z.object({ "If-Match": ifMatch }),
};

const answer = (description: string, example: Partial<MessageWithHistory> = {}) => ({
  200: {
    description,
    headers: ETAG,
    content: {
      "application/json": { schema: MessageWithHistory, example: { ...HISTORY_EXAMPLE, ...example } },
    },
  },
});

const KNOWN = ["invalid-request", "unknown-message", "wrong-state", "precondition-failed"] as const;

const Change = z
  .strictObject(
    {
      recipient: recipient.optional(),
      content: content.optional(),
      available_at: availableAt.optional(),
      expires_at: expiresAt.optional(),
      priority: priority.optional(),
    },
    "must be a JSON object",
  )
  .refine((change) => Object.keys(change).length > 0, "must have something that is to be changed")
  .openapi("MessageChange", { minProperties: 1 });

const changeBody = { schema: Change, example: { content: "Your code is 654321" } };

const patchRoute = createRoute({
  method: "patch",
  path: `${API}/messages/{id}`,
  operationId: "changeMessage",
  tags: [TAG.messages],
  summary: "Change a message that waits, or that ended without being sent",
  description:
    "What is left out stays as it is (RFC 7396). One that ended stays where it is until it is replayed. Another recipient or " +
    "content of a rejected message raises its `revision`, so that the gateway takes it for another one.",
  request: {
    ...request,
    body: {
      required: true,
      content: { "application/json": changeBody, "application/merge-patch+json": changeBody },
    },
  },
  responses: {
    ...answer("The message, after the change.", { content: "Your code is 654321" }),
    ...problems(...KNOWN, "refused-message", ...CHANGING, ...WITH_BODY),
  },
});

const cancelRoute = createRoute({
  method: "post",
  path: `${API}/messages/{id}/cancel`,
  operationId: "cancelMessage",
  tags: [TAG.messages],
  summary: "Withdraw a message that waits",
  description: "Once this is answered, it is never sent, unless it is replayed.",
  request,
  responses: {
    ...answer("The message, cancelled.", {
      status: "cancelled",
      reason: "cancelled",
      died_at: "2026-11-23T09:30:00.500000Z",
    }),
    ...problems(...KNOWN, ...CHANGING),
  },
});

const Replay = z
  .strictObject(
    {
      recipient: recipient.optional(),
      content: content.optional(),
      expires_at: expiresAt.optional(),
      force: z
        .boolean("must be true or false")
        .optional()
        .openapi({ description: "Also if it was sent, or may have been: it may arrive twice." }),
    },
    "must be a JSON object",
  )
  .openapi("MessageReplay");

const replayRoute = createRoute({
  method: "post",
  path: `${API}/messages/{id}/replay`,
  operationId: "replayMessage",
  tags: [TAG.messages],
  summary: "Send a message again that has ended",
  description:
    "It goes back to the outbox: the same id, all attempts to go, its history kept. What is given is changed as by a PATCH; a " +
    "message that was sent can only be given another `expires_at`.",
  request: {
    ...request,
    body: {
      required: false,
      content: { "application/json": { schema: Replay, example: { expires_at: "2026-11-24T12:00:00Z" } } },
    },
  },
  responses: {
    ...answer("The message, as it waits to be sent.", { attempts: 0 }),
    ...problems(
      ...KNOWN,
      "replay-needs-force",
      "replay-needs-expires-at",
      "dedupe-key-used",
      "refused-message",
      ...CHANGING,
      ...WITH_BODY,
    ),
  },
});

export function addMessageChanges(
  app: OpenAPIHono<ApiEnv>,
  { pool }: ApiDependencies,
  access: Accesses,
): void {
  const etags = createEtags(pool);

  app.openapi({ ...patchRoute, ...withBody(access.write, patchRoute.request.body) }, async (c) => {
    const { id } = c.req.valid("param");
    const { recipient, content, available_at, expires_at, priority } = c.req.valid("json");
    const message = await change(c, id, c.req.valid("header")["If-Match"], (query, actor) =>
      query(
        `select outbox.edit($1, recipient => $2, content => $3, available_at => $4, expires_at => $5, priority => $6,
           actor => $7)`,
        [id, recipient, content, available_at, orNever(expires_at), priority, actor],
      ),
    );
    return c.json(message, 200);
  });

  app.openapi({ ...cancelRoute, ...access.write }, async (c) => {
    const { id } = c.req.valid("param");
    const message = await change(c, id, c.req.valid("header")["If-Match"], (query, actor) =>
      query("select outbox.cancel($1, actor => $2)", [id, actor]),
    );
    return c.json(message, 200);
  });

  app.openapi({ ...replayRoute, ...withBody(access.operate, replayRoute.request.body) }, async (c) => {
    const { id } = c.req.valid("param");
    const { recipient, content, expires_at, force = false } = c.req.valid("json");
    const message = await change(c, id, c.req.valid("header")["If-Match"], (query, actor) =>
      query(
        "select outbox.replay($1, recipient => $2, content => $3, expires_at => $4, force => $5, actor => $6)",
        [id, recipient, content, orNever(expires_at), force, actor],
      ),
    );
    return c.json(message, 200);
  });

  /** Locked before it is compared: between the two nobody else can change it. Answers what it has become. */
  async function change(
    c: Context<ApiEnv>,
    id: number,
    wanted: EntityTags | undefined,
    act: (query: Query, actor: string) => Promise<unknown>,
  ): Promise<MessageWithHistory> {
    const whole = mayReadPii(c);
    const tags = await etags();
    const message = await write(c, pool, async (query) => {
      if (wanted !== undefined) {
        await query("select from outbox.lock_message($1)", [id]);
        if (!tags.match(wanted, await readMessage(query, id)))
          throw new ProblemError("precondition-failed", `Message ${id} is not as If-Match says any more.`);
      }
      await act(query, c.get("caller").name);
      return readMessage(query, id);
    });
    c.header("ETag", tags.of(message, whole));
    return historyForReader(message, whole);
  }
}

/** JSON's null is SQL's 'infinity' here: where nothing is given, the column stays as it is. */
function orNever(expiresAt: string | null | undefined): string | undefined {
  return expiresAt === null ? "infinity" : expiresAt;
}
