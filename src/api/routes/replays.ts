import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii } from "../access.ts";
import { onConnection } from "../connection.ts";
import type { Cursors } from "../cursor.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, NEXT_LINK, problems, READING, TAG } from "../documentation.ts";
import { keysetQuery } from "../keyset.ts";
import * as parameters from "../list-parameters.ts";
import { page } from "../paging.ts";
import { ProblemError } from "../problem.ts";
import { write } from "../query-store/write.ts";
import {
  REPLAY_EXAMPLE,
  REPLAY_STATUSES,
  Replay,
  type ReplayRow,
  readReplay,
  SELECT_REPLAYS,
  shownReplay,
} from "../replay.ts";

const ReplayPage = z
  .object({ replays: z.array(Replay), next_cursor: z.string().nullable() })
  .openapi("ReplayPage");

const one = z.strictObject({ id: parameters.id.openapi({ description: "The number of a replay." }) });

const answer = (description: string, example: Replay) => ({
  200: { description, content: { "application/json": { schema: Replay, example } } },
});

const listRoute = createRoute({
  method: "get",
  path: `${API}/replays`,
  operationId: "listReplays",
  tags: [TAG.deadLetters],
  summary: "List the replays of many dead letters",
  description:
    "The newest first: what was asked for, by whom, and how far each is. `next_cursor` is null on the last page. A single " +
    "message's replay is not among them; `GET /audit` has all.",
  request: {
    query: z.strictObject({
      limit: parameters.limit,
      status: z
        .enum(REPLAY_STATUSES, `must be one of ${REPLAY_STATUSES.join(", ")}`)
        .optional()
        .openapi({ description: "Only those in this state." }),
      cursor: parameters.cursor.optional(),
    }),
  },
  responses: {
    200: {
      description: "A page of replays; empty when there are none.",
      headers: NEXT_LINK,
      content: {
        "application/json": { schema: ReplayPage, example: { replays: [REPLAY_EXAMPLE], next_cursor: null } },
      },
    },
    ...problems(...READING),
  },
});

const getRoute = createRoute({
  method: "get",
  path: `${API}/replays/{id}`,
  operationId: "getReplay",
  tags: [TAG.deadLetters],
  summary: "How far is a replay?",
  description:
    "The relayers do it in slices, no faster than the gateways take what goes back. It is done when `status` says so; with " +
    "`replayed` and `skipped` it comes to `matched`, or to fewer if messages left the dead letters otherwise.",
  request: { params: one },
  responses: {
    ...answer("The replay.", REPLAY_EXAMPLE),
    ...problems("unknown-replay", ...READING),
  },
});

const cancelRoute = createRoute({
  method: "post",
  path: `${API}/replays/{id}/cancel`,
  operationId: "cancelReplay",
  tags: [TAG.deadLetters],
  summary: "End a replay",
  description:
    "The rest stays with the dead letters. What went back before stays in the outbox, and is sent.",
  request: { params: one },
  responses: {
    ...answer("The replay, which has ended.", {
      ...REPLAY_EXAMPLE,
      status: "cancelled",
      finished_at: "2026-11-23T09:31:00.123456Z",
    }),
    ...problems("invalid-request", "unknown-replay", "replay-not-running", ...CHANGING),
  },
});

export function addReplays(
  app: OpenAPIHono<ApiEnv>,
  { pool }: ApiDependencies,
  access: Accesses,
  cursors: Cursors,
): void {
  app.openapi({ ...listRoute, ...access.read }, async (c) => {
    const { limit, cursor, status } = c.req.valid("query");
    const { rows, next_cursor } = await page(
      c,
      cursors,
      { cursor, limit, scope: { list: "replays", filters: { status } } },
      (from, count) => {
        const { text, values } = keysetQuery({
          select: SELECT_REPLAYS,
          order: "desc",
          from,
          conditions: [["status =", status]],
          count,
        });
        return c.get("read")((pool) => onConnection(pool, (query) => query<ReplayRow>(text, values)));
      },
      ({ id }) => ({ id }),
    );
    return c.json({ replays: rows.map((row) => shownReplay(row, mayReadPii(c))), next_cursor }, 200);
  });

  app.openapi({ ...getRoute, ...access.read }, async (c) => {
    const { id } = c.req.valid("param");
    const row = await c.get("read")((pool) => onConnection(pool, (query) => readReplay(query, id)));
    return c.json(shownReplay(known(row, id), mayReadPii(c)), 200);
  });

  app.openapi({ ...cancelRoute, ...access.operate }, async (c) => {
    const { id } = c.req.valid("param");
    const row = await write(c, pool, async (query) => {
      if ((await readReplay(query, id)) === undefined) return undefined;
      await query("select outbox.cancel_replay($1, actor => $2)", [id, c.get("caller").name]);
      return readReplay(query, id);
    });
    return c.json(shownReplay(known(row, id), mayReadPii(c)), 200);
  });
}

function known(row: ReplayRow | undefined, id: number): ReplayRow {
  if (row === undefined) throw new ProblemError("unknown-replay", `There is no replay ${id}.`);
  return row;
}
