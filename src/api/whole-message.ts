import { z } from "@hono/zod-openapi";
import { DEAD_REASONS } from "./dead-letters.ts";
import { forReader, messageShape, time } from "./message.ts";
import { withoutAnswer } from "./pii.ts";

export const STATUSES = ["pending", "sending", "sent", "failed", "expired", "cancelled"] as const;

export type Status = (typeof STATUSES)[number];

/** Every column of outbox.all_messages; null where it does not apply. */
const wholeShape = {
  ...messageShape,
  status: z.enum(STATUSES).openapi({
    description:
      "pending: waits. sending: a relayer has claimed it. sent: the gateway accepted it. failed, expired, cancelled: it ended without " +
      "being sent.",
  }),
  claimed_by: z.int().nullable().openapi({ description: "The relayer that has it, or had it last." }),
  claimed_at: time.nullable(),
  traceparent: z.string().nullable().openapi({ description: "W3C trace context, passed on to the gateway." }),
  sent_at: time.nullable(),
  gateway_message_id: z.string().nullable().openapi({ description: "The id the gateway gave it." }),
  duration_ms: z.int().nullable().openapi({ description: "How long the gateway took to accept it." }),
  died_at: time.nullable().openapi({ description: "When it ended without being sent." }),
  reason: z.enum(DEAD_REASONS).nullable().openapi({ description: "Why it ended without being sent." }),
  http_status: z
    .int()
    .nullable()
    .openapi({ description: "What the gateway answered last, if it ended unsent." }),
  error: z.string().nullable().openapi({ description: "The same for a person." }),
  revision: z.int().openapi({ description: "Part of the gateway's Idempotency-Key where it is above 0." }),
};

export const COLUMNS = Object.keys(wholeShape).join(", ");

export const Message = z.object(wholeShape).openapi("Message");

export type Message = z.infer<typeof Message>;

const Attempt = z
  .object({
    attempt: z.int().openapi({
      description: "Which try it was. `throttled` and `hold` do not count: the next one has the same number.",
    }),
    gateway: z.string(),
    relayer: z.int().openapi({ description: "The number of the relayer that made it." }),
    outcome: z.enum(["accepted", "rejected", "retry", "throttled", "unknown", "hold"]),
    http_status: z.int().nullable(),
    gateway_message_id: z.string().nullable(),
    error: z.string().nullable().openapi({ description: "What went wrong, for a person." }),
    duration_ms: z.int().nullable(),
    ended_at: time,
  })
  .openapi("Attempt");

export type Attempt = z.infer<typeof Attempt>;

export const MessageWithHistory = z
  .object({
    ...wholeShape,
    history: z.array(Attempt).openapi({
      description: "Its attempts, oldest first; the last 100, as far as they are kept.",
    }),
  })
  .openapi("MessageWithHistory");

export type MessageWithHistory = z.infer<typeof MessageWithHistory>;

/** A message and its history as their reader may see them. */
export function historyForReader(message: MessageWithHistory, mayReadPii: boolean): MessageWithHistory {
  if (mayReadPii) return message;
  const history = message.history.map((attempt) => ({ ...attempt, error: withoutAnswer(attempt.error) }));
  return { ...forReader(message, mayReadPii), history };
}

export const MESSAGE_EXAMPLE: Message = {
  id: 42,
  status: "pending",
  gateway: "default",
  priority: 1,
  recipient: "+905551234567",
  content: "Your parcel is at the door.",
  metadata: { order: 1001 },
  dedupe_key: "order-1001-at-the-door",
  attempts: 1,
  available_at: "2026-11-23T09:30:01.084000Z",
  expires_at: "2026-11-23T12:00:00.000000Z",
  claimed_by: null,
  claimed_at: null,
  last_error: "HTTP 503",
  traceparent: null,
  created_at: "2026-11-23T09:30:00.000000Z",
  sent_at: null,
  gateway_message_id: null,
  duration_ms: null,
  died_at: null,
  reason: null,
  http_status: null,
  error: null,
  revision: 0,
};

export const HISTORY_EXAMPLE: MessageWithHistory = {
  ...MESSAGE_EXAMPLE,
  history: [
    {
      attempt: 1,
      gateway: "default",
      relayer: 7,
      outcome: "retry",
      http_status: 503,
      gateway_message_id: null,
      error: "HTTP 503",
      duration_ms: 38,
      ended_at: "2026-11-23T09:30:00.123456Z",
    },
  ],
};
