import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Accesses } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, problems, READING, TAG } from "../documentation.ts";
import { id } from "../message.ts";
import { messageId } from "../message-id.ts";
import { ProblemError } from "../problem.ts";

const Explanation = z
  .object({
    id,
    explanation: z.array(z.string()).openapi({
      description: "Sentences: the verdict first, then what happened, each with its time in UTC.",
    }),
  })
  .openapi("Explanation");

const route = createRoute({
  method: "get",
  path: `${API}/messages/{id}/explanation`,
  operationId: "explainMessage",
  tags: [TAG.messages],
  summary: "Why has this message gone, or not gone?",
  description: "For people: what `select outbox.explain(id)` says. Never the recipient or the content.",
  request: { params: z.object({ id: messageId }) },
  responses: {
    200: {
      description: "The reasons, and the history.",
      content: {
        "application/json": {
          schema: Explanation,
          example: {
            id: 42,
            explanation: [
              "Message 42 waits: the scheduler was stopped by desk at 2026-11-23 09:30:00 UTC. select outbox.resume(); starts it.",
              "2026-11-23 09:31:12.345 UTC  inserted for gateway default, priority 1",
            ],
          },
        },
      },
    },
    ...problems("unknown-message", ...READING),
  },
});

export function addExplanation(app: OpenAPIHono<ApiEnv>, access: Accesses): void {
  app.openapi({ ...route, ...access.read }, async (c) => {
    const { id } = c.req.valid("param");
    const { said, there } = await c.get("read")((pool) =>
      onConnection(pool, async (query) => ({
        said: await query<{ line: string }>("select outbox.explain($1) as line", [id]),
        there: await query("select from outbox.all_messages where id = $1", [id]),
      })),
    );
    const explanation = said.map(({ line }) => line);
    // What is gone is explained, too: a 404 in the same words.
    if (there.length === 0) throw new ProblemError("unknown-message", explanation.join(" "));
    return c.json({ id, explanation }, 200);
  });
}
