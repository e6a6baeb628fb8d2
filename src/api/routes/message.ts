import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, problems, READING, TAG } from "../documentation.ts";
import { createEtags, ETAG, ifNoneMatch, isOneOf } from "../etag.ts";
import { messageId } from "../message-id.ts";
import { readMessage } from "../one-message.ts";
import { HISTORY_EXAMPLE, historyForReader, MessageWithHistory } from "../whole-message.ts";

const getRoute = createRoute({
  method: "get",
  path: `${API}/messages/{id}`,
  operationId: "getMessage",
  tags: [TAG.messages],
  summary: "Get a message, wherever it is, with its attempts",
  description: "Its `ETag` changes with everything that is shown here.",
  request: {
    params: z.object({ id: messageId }),
    headers: z.object({ "If-None-Match": ifNoneMatch }),
  },
  responses: {
    200: {
      description: "The message.",
      headers: ETAG,
      content: { "application/json": { schema: MessageWithHistory, example: HISTORY_EXAMPLE } },
    },
    304: { description: "It is as it was.", headers: ETAG },
    ...problems("unknown-message", ...READING),
  },
});

export function addMessage(app: OpenAPIHono<ApiEnv>, { pool }: ApiDependencies, access: Accesses): void {
  const etags = createEtags(pool);

  app.openapi({ ...getRoute, ...access.read }, async (c) => {
    const { id } = c.req.valid("param");
    const known = c.req.valid("header")["If-None-Match"];
    const whole = mayReadPii(c);
    const message = await c.get("read")((pool) => onConnection(pool, (query) => readMessage(query, id)));
    const etag = (await etags()).of(message, whole);
    c.header("ETag", etag);
    if (known !== undefined && isOneOf(etag, known)) return c.body(null, 304);
    return c.json(historyForReader(message, whole), 200);
  });
}
