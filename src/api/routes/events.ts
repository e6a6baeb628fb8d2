import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type Accesses, mayReadPii } from "../access.ts";
import type { Cursors, Scope } from "../cursor.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { API, problems, READING_NOW, TAG } from "../documentation.ts";
import { each, type Of, type Place, readLog } from "../events/log.ts";
import { addEventShapes, componentOf, EVENT_TYPES, type EventType, forReader } from "../events/shapes.ts";
import { block, createStreams, keepAlive, opening } from "../events/stream.ts";
import * as parameters from "../list-parameters.ts";
import { ProblemError } from "../problem.ts";

/** No filters: an id says what has been passed, not what was shown, so it goes with any. */
const ids = (parameter: string): Scope => ({
  list: "events",
  filters: {},
  called: { parameter, given: "the id of the last event" },
});
const LAST_EVENT_ID = "Last-Event-ID";
const BY_HEADER = ids(LAST_EVENT_ID);
const BY_QUERY = ids("last_event_id");

const lastEventId = z
  .string()
  .regex(
    /^[\w-]{40,300}$/,
    "is damaged: send the id of the last event as it came, or leave it out to start again",
  )
  .openapi({ format: "cursor" });

const isEventType = (text: string): text is EventType => (EVENT_TYPES as string[]).includes(text);

const types = z
  .string()
  .refine(
    (text) => text.split(",").every(isEventType),
    `must be some of ${EVENT_TYPES.join(", ")}, with commas between them`,
  )
  .transform((text) => text.split(",").filter(isEventType));

const HEADERS = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-store",
  // nginx would collect events until it has a few kilobytes.
  "X-Accel-Buffering": "no",
} as const;

const EXAMPLE_ID = "MjAyNi0xMS0yM1QwOTozMDowMC4xMjM0NTZaIDQyIDIwMjYtMTEtMjNUMDk6MzA6MDAuMDAwMDAwWiAw";
const EXAMPLE = [
  opening(EXAMPLE_ID),
  block("settled", EXAMPLE_ID, {
    id: 42,
    gateway: "default",
    priority: 1,
    attempts: 1,
    gateway_message_id: "67f2f8a8-ea58-4ed0-a6f9-ff217df4d849",
    duration_ms: 38,
    sent_at: "2026-11-23T09:30:00.123456Z",
  }),
  block("dead", EXAMPLE_ID, {
    id: 43,
    gateway: "default",
    priority: 1,
    attempts: 1,
    reason: "rejected",
    http_status: 422,
    died_at: "2026-11-23T09:30:01.000042Z",
  }),
  block("gateway_held", EXAMPLE_ID, {
    gateway: "default",
    reason: "circuit_open",
    held_until: "2026-11-23T09:31:02.123456Z",
    detail: "5 failures in a row; the last: HTTP 500",
    actor: null,
    changed_at: "2026-11-23T09:31:00.123456Z",
  }),
  keepAlive(EXAMPLE_ID),
  block("gateway_resumed", EXAMPLE_ID, {
    gateway: "default",
    reason: "circuit_open",
    actor: null,
    changed_at: "2026-11-23T09:31:03.123456Z",
  }),
  block("scheduler", EXAMPLE_ID, {
    running: false,
    changed_by: "ali",
    changed_at: "2026-11-23T09:40:00.123456Z",
  }),
].join("");

/** OpenAPI 3.1 has no other place for it, and the types of this library have none at all. */
const OF_DATA: object = {
  contentSchema: {
    anyOf: EVENT_TYPES.map((type) => ({ $ref: `#/components/schemas/${componentOf(type)}` })),
  },
};

const streamRoute = createRoute({
  method: "get",
  path: `${API}/events`,
  operationId: "streamEvents",
  tags: [TAG.insight],
  summary: "Listen to what happens",
  description: `
Server-sent events, as they happen, within about a second. \`data\` is one line of JSON, without recipients and contents:

| \`event\` | \`data\` |
|---|---|
${EVENT_TYPES.map((type) => `| \`${type}\` | [${componentOf(type)}](#/components/schemas/${componentOf(type)}) |`).join("\n")}

It begins now, or after the event whose id is given as \`Last-Event-ID\`: then nothing is missed and nothing comes twice,
whichever relayer answers. Keep the last \`id\` that came, also one that came without data, as it does at the start and with each keep-alive.
Ids are good for as long as events are kept (\`retention.events\`, and \`retention.sent\`), and with any filter.

The order is that of time. A transaction in which somebody cancels messages or pauses a gateway, and which stays open for longer than a
second, holds back all events but \`settled\`; they come when it ends, so compare \`sent_at\` and \`died_at\`.

The primary is asked also where there is a query store: what happens is told at once, and not when it has got there.

A browser's EventSource sends no key: use fetch where the server has keys.`.trim(),
  request: {
    query: z.strictObject({
      types: types.optional().openapi({
        type: "array",
        items: { type: "string", enum: EVENT_TYPES },
        minItems: 1,
        description: "Only these, with commas between them; without it, all.",
        param: { style: "form", explode: false },
        examples: [["dead", "gateway_held", "gateway_resumed"]],
      }),
      gateway: parameters.gateway.optional().openapi({
        description: "Only what concerns this gateway, which `scheduler` does.",
      }),
      last_event_id: lastEventId.optional().openapi({
        description: `As the header ${LAST_EVENT_ID}, for who cannot set headers. The header, which browsers send when they connect again, comes first.`,
      }),
    }),
    headers: z.object({
      [LAST_EVENT_ID]: lastEventId.optional().openapi({
        description:
          "The last `id` that came; its content is not part of the API. Without it, the stream begins now.",
      }),
    }),
  },
  responses: {
    200: {
      description: "The stream. It ends when the key expires or the server stops.",
      headers: {
        "Cache-Control": { description: "Not to be kept.", schema: { type: "string" } },
        "X-Accel-Buffering": { description: "Nor collected on the way.", schema: { type: "string" } },
      },
      content: {
        "text/event-stream": {
          schema: z.string().openapi({
            description:
              "As the HTML standard describes it, in UTF-8. `contentSchema` is that of an event's `data`.",
            ...OF_DATA,
          }),
          example: EXAMPLE,
        },
      },
    },
    ...problems("invalid-request", "events-gone", "too-many-streams", ...READING_NOW),
  },
});

export function addEvents(
  app: OpenAPIHono<ApiEnv>,
  dependencies: ApiDependencies,
  access: Accesses,
  cursors: Cursors,
): void {
  const { pool, log, stopping, eventsKeptMs = Number.POSITIVE_INFINITY } = dependencies;
  const streams = createStreams({ pool, log, stopping });
  addEventShapes(app);

  app.openapi({ ...streamRoute, ...access.stream }, async (c) => {
    const { types = EVENT_TYPES, gateway, last_event_id } = c.req.valid("query");
    const header = c.req.valid("header")[LAST_EVENT_ID];
    const from = await placesOf(header ?? last_event_id, header === undefined ? BY_QUERY : BY_HEADER);
    // Nobody would read it, nor end it.
    if (c.req.method === "HEAD") return c.body(null, 200, HEADERS);

    const stream = await streams.open({
      from,
      sources: [
        ...(types.includes("settled") ? (["sent"] as const) : []),
        ...(types.some((type) => type !== "settled") ? (["events"] as const) : []),
      ],
      wants: ({ type, data }) =>
        types.includes(type) &&
        (gateway === undefined || data.gateway === undefined || data.gateway === gateway),
      show: ({ data }) => forReader(data, mayReadPii(c)),
      idOf: ({ sent, events }) => cursors.sealAll([sent, events], BY_HEADER),
      expiresAt: c.get("caller").expiresAt,
      drop: () => c.env?.outgoing?.destroy(),
      fields: { request_id: c.get("requestId"), key: c.get("caller").name },
    });
    return c.body(stream, 200, HEADERS);
  });

  /** Asks the database also when the stream begins now: one that is away is better told at once. */
  async function placesOf(id: string | undefined, scope: Scope): Promise<Of<Place>> {
    const now = await readLog(pool, { sent: "now", events: "now" }, 0);
    if (id === undefined) return each((source) => now[source].until);
    const [sent, events] = (await cursors.openAll(id, scope)) as [Place, Place];
    const places = { sent, events };
    const gone = each(
      (source) => Date.parse(places[source].at) < Date.parse(now[source].until.at) - eventsKeptMs,
    );
    if (gone.sent || gone.events) throw new ProblemError("events-gone", `It was reached at ${events.at}.`);
    return places;
  }
}
