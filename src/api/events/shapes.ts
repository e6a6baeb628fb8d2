import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { ApiEnv } from "../dependencies.ts";
import { id, time } from "../message.ts";
import { maskNumbersIn } from "../pii.ts";

const gateway = z.string();
const message = {
  id: id.openapi({ description: "Of the message." }),
  gateway,
  priority: z.int().openapi({ description: "0, 1 or 2; 0 goes first." }),
  attempts: z.int().openapi({ description: "Attempts that were counted." }),
};
const HOLDS = ["paused", "throttled", "hold", "circuit_open"] as const;

/** The data of each type of event. */
const SHAPES = {
  settled: z
    .object({
      ...message,
      sent_at: time,
      gateway_message_id: z.string().openapi({ description: "The id the gateway gave it." }),
      duration_ms: z.int().openapi({ description: "How long the gateway took to accept it." }),
    })
    .openapi({ description: "A gateway accepted a message." }),
  dead: z
    .object({
      ...message,
      died_at: time,
      reason: z.enum(["rejected", "exhausted", "expired", "cancelled", "unknown_outcome"]),
      http_status: z.int().nullable().openapi({ description: "The gateway's last, if it was it." }),
    })
    .openapi({ description: "A message ended without being sent." }),
  gateway_held: z
    .object({
      gateway,
      reason: z.enum(HOLDS).openapi({
        description:
          "paused: by a person. throttled: it asked to be left alone. hold: its answer faults the account or the URL. " +
          "circuit_open: it fails.",
      }),
      changed_at: time,
      held_until: time.nullable().openapi({
        description:
          "When it is tried again; null: when a person says so. A throttled gateway is relayed to again at that time, with no " +
          "further event; hold and circuit_open end with an event, after a probe that passed.",
      }),
      detail: z.string().nullable().openapi({
        description:
          "The answer or the failures that led to it. Without the scope read_pii numbers in it are masked.",
      }),
      actor: z.string().nullable().openapi({ description: "The person; null: the relayer." }),
    })
    .openapi({
      description:
        "A gateway is not relayed to any more, or for another reason than before. No event tells that a hold is prolonged.",
    }),
  gateway_resumed: z
    .object({
      gateway,
      reason: z.enum(HOLDS).openapi({ description: "Why it was left alone until now." }),
      changed_at: time,
      actor: z.string().nullable().openapi({ description: "The person; null: a probe passed." }),
    })
    .openapi({ description: "A gateway is relayed to again." }),
  scheduler: z
    .object({
      running: z.boolean().openapi({ description: "Whether messages are relayed." }),
      changed_at: time,
      changed_by: z.string(),
    })
    .openapi({ description: "The relay was started or stopped." }),
} as const;

export type EventType = keyof typeof SHAPES;

export const EVENT_TYPES = Object.keys(SHAPES) as EventType[];

/** OpenAPI 3.1 cannot say what the events of a stream hold. As components of the document clients can be generated from them. */
export function addEventShapes(app: OpenAPIHono<ApiEnv>): void {
  for (const type of EVENT_TYPES) app.openAPIRegistry.register(componentOf(type), SHAPES[type]);
}

/** `gateway_held` → `GatewayHeldEvent` */
export function componentOf(type: EventType): string {
  const words = type.split("_").map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  return `${words.join("")}Event`;
}

/** The gateway's words may quote a number. */
export function forReader<Data extends Readonly<Record<string, unknown>>>(
  data: Data,
  mayReadPii: boolean,
): Data {
  if (mayReadPii || typeof data.detail !== "string") return data;
  return { ...data, detail: maskNumbersIn(data.detail) };
}
