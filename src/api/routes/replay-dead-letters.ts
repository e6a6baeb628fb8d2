import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii, withBody } from "../access.ts";
import { inTransaction, patient, type Query } from "../connection.ts";
import { DEAD_REASONS } from "../dead-letters.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, CHANGING, problems, TAG, WITH_BODY } from "../documentation.ts";
import { instant } from "../instant.ts";
import * as parameters from "../list-parameters.ts";
import { id, time } from "../message.ts";
import { withoutAnswer } from "../pii.ts";
import { ProblemError } from "../problem.ts";
import { write } from "../query-store/write.ts";
import { REPLAY_EXAMPLE, Replay, readReplay, shownReplay } from "../replay.ts";

const OBSTACLES = ["needs_force", "needs_expires_at", "unknown_gateway", "dedupe_key_used_again"] as const;

/** What Postgres takes for a pattern: no NUL, and no escape of nothing. */
const PATTERN = /^([^\\\0]|\\[^\0])*$/;

const ReplayRequest = z
  .strictObject(
    {
      reason: z
        .enum(DEAD_REASONS, `must be one of ${DEAD_REASONS.join(", ")}`)
        .optional()
        .openapi({ description: "Only dead letters of this reason." }),
      gateway: parameters.gateway.optional().openapi({ description: "Only those of this gateway." }),
      since: instant
        .optional()
        .openapi({ format: "date-time", description: "Only those that died at this time or later." }),
      until: instant
        .optional()
        .openapi({ format: "date-time", description: "Only those that died before this time." }),
      error_like: z
        .string("must be a text")
        .min(1, "must not be empty")
        .max(200, "must be at most 200 characters long")
        .regex(PATTERN, "must not contain NUL, nor end with the escape character \\")
        .optional()
        .openapi({
          description:
            "Only those whose `error` matches this pattern, whatever its case: % stands for any text, _ for any character, " +
            "\\ before one takes it literally. Without the scope read_pii the only digits in it may be an HTTP status, as in " +
            "`%HTTP 503%`, for an error may quote a number.",
          examples: ["%HTTP 503%"],
        }),
      max_messages: z.int("must be a whole number").min(1, "must be at least 1").optional().openapi({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "At most so many go back, the oldest first.",
      }),
      dry_run: z.boolean("must be true or false").default(true).openapi({
        description: "Only look. What goes back is sent: say `false` once you know what that is.",
      }),
      force: z.boolean("must be true or false").default(false).openapi({
        description: "Those of unknown_outcome too, which may then arrive twice (with one Idempotency-Key).",
      }),
      expires_at: instant
        .nullable()
        .optional()
        .openapi({
          format: "date-time",
          description:
            "The new end of all that go back; null: they never expire. Left out, each keeps its own, and those that expired " +
            "are skipped.",
        }),
    },
    "must be a JSON object",
  )
  .openapi("ReplayRequest");

const DryRun = z
  .object({
    dry_run: z.literal(true),
    matched: z.int().openapi({ description: "How many dead letters match." }),
    replayable: z.int().openapi({ description: "How many of them would go back." }),
    sample: z.array(
      z.object({
        id,
        died_at: time,
        gateway: z.string(),
        reason: z.enum(DEAD_REASONS),
        error: z
          .string()
          .nullable()
          .openapi({ description: "Without the scope read_pii of the gateway's answer only the status." }),
        obstacle: z.enum(OBSTACLES).nullable().openapi({ description: "What keeps it here; null: nothing." }),
      }),
    ),
  })
  .openapi("ReplayDryRun");

type DryRun = z.infer<typeof DryRun>;

const replayRoute = createRoute({
  method: "post",
  path: `${API}/dead-letters/replay`,
  operationId: "replayDeadLetters",
  tags: [TAG.deadLetters],
  summary: "Send dead letters back to the outbox, all that match",
  description:
    "Same id, same Idempotency-Key, all attempts to go, the oldest first. It only looks until `dry_run` is false. Then a " +
    "thousand go back at once and the relayers do the rest in slices, no faster than the gateways take them, so that what " +
    "is new does not wait behind them: the answer is a replay, which says how far it is and can be cancelled. What cannot " +
    "go is skipped.",
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: ReplayRequest,
          example: { reason: "exhausted", gateway: "default", error_like: "%HTTP 503%", dry_run: true },
        },
      },
    },
  },
  responses: {
    200: {
      description: "A dry run: what would go back, with the first ten of what matches. Nothing was changed.",
      content: {
        "application/json": {
          schema: DryRun,
          example: {
            dry_run: true as const,
            matched: 5_002,
            replayable: 5_000,
            sample: [
              {
                id: 42,
                died_at: "2026-11-23T04:11:00.123456Z",
                gateway: "default",
                reason: "exhausted" as const,
                error: "HTTP 503: try later",
                obstacle: null,
              },
            ],
          },
        },
      },
    },
    202: {
      description: "It has begun, and is done already where it was small.",
      headers: {
        Location: { description: "Where the replay is found.", schema: { type: "string" as const } },
      },
      content: { "application/json": { schema: Replay, example: REPLAY_EXAMPLE } },
    },
    ...problems("refused-message", ...WITH_BODY, ...CHANGING),
  },
});

export function addReplayDeadLetters(
  app: OpenAPIHono<ApiEnv>,
  { pool }: ApiDependencies,
  access: Accesses,
): void {
  const operate = withBody(access.operate, replayRoute.request.body);
  app.openapi({ ...replayRoute, ...operate }, async (c) => {
    const asked = c.req.valid("json");
    const pii = mayReadPii(c);
    if (!pii) mayFindNoNumber(asked.error_like);
    const actor = c.get("caller").name;

    if (asked.dry_run) {
      const { sample, ...found } = await inTransaction(pool, (query) => look(query, asked, actor));
      const masked = sample.map((one) => ({ ...one, error: pii ? one.error : withoutAnswer(one.error) }));
      return c.json({ dry_run: true as const, ...found, sample: masked }, 200);
    }
    const replay = await write(c, pool, async (query) => {
      const { replay_id } = await replayWhere(query, asked, actor);
      return readReplay(query, replay_id ?? 0);
    });
    if (replay === undefined) throw new Error("outbox.replay_where() made no replay");
    return c.json(shownReplay(replay, pii), 202, { Location: `${API}/replays/${replay.id}` });
  });
}

/** To ask which errors hold these digits, and be told how many, is to read the numbers in them. */
function mayFindNoNumber(pattern = ""): void {
  if (!/\d/.test(pattern.replace(/\bHTTP [1-5]\d\d(?!\d)/gi, ""))) return;
  throw new ProblemError(
    "insufficient-scope",
    "error_like with digits other than an HTTP status (HTTP 503) takes a key with the scope read_pii.",
  );
}

interface Found {
  readonly matched: number;
  readonly replayable: number;
  readonly sample: object[];
  readonly replay_id: number | null;
}

const PATIENT = patient("Nothing was changed. Narrow it with since and until.");

async function replayWhere(
  query: Query,
  asked: z.infer<typeof ReplayRequest>,
  actor: string,
): Promise<Found> {
  const [found] = await query<Found>(
    `
    select matched, replayable, sample, replay_id
    from outbox.replay_where(
      reason => $1, gateway => $2, since => $3, until => $4, error_like => $5, max_messages => $6,
      dry_run => $7, force => $8, expires_at => $9, actor => $10
    )`,
    [
      asked.reason,
      asked.gateway,
      asked.since,
      asked.until,
      asked.error_like,
      asked.max_messages,
      asked.dry_run,
      asked.force,
      asked.expires_at === null ? "infinity" : asked.expires_at,
      actor,
    ],
    PATIENT,
  );
  if (found === undefined) throw new Error("outbox.replay_where() answered nothing");
  return found;
}

async function look(
  query: Query,
  asked: z.infer<typeof ReplayRequest>,
  actor: string,
): Promise<Omit<DryRun, "dry_run">> {
  const { matched, replayable, sample } = await replayWhere(query, asked, actor);
  // Out of JSON again, where a time is a text of the session's time zone.
  const rows = await query<DryRun["sample"][number]>(
    `
    select id, died_at, gateway, reason, error, obstacle
    from jsonb_to_recordset($1) as sample (
      id bigint, died_at timestamptz, gateway text, reason text, error text, obstacle text
    )
    order by died_at, id`,
    [JSON.stringify(sample)],
  );
  return { matched, replayable, sample: rows };
}
