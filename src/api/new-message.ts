import { z } from "@hono/zod-openapi";
import { instant } from "./instant.ts";
import { METADATA_SCHEMA, metadata } from "./metadata.ts";
import { isStorable, STORABLE, UNSTORABLE } from "./storable.ts";

// Here stand the shapes. The rules (which numbers, how long, which gateways) are the table's, so that SQL and REST cannot
// disagree, and so that every fault of a batch is told at once. The document states them all the same.

const text = (what: string) => z.string(`must be ${what}`).refine(isStorable, UNSTORABLE);

const E164 = /^\+[1-9][0-9]{6,14}$/;
const LONGEST = 1_600;
const PRIORITIES = { minimum: 0, maximum: 2 } as const;

export const recipient = text("a number in E.164 form").openapi({
  pattern: E164.source,
  description: "E.164: a plus sign and 7 to 15 digits.",
});

export const content = text("a text").openapi({
  minLength: 1,
  maxLength: LONGEST,
  pattern: STORABLE,
  description: "1 to 1,600 characters.",
});

const SMALLINT = "must be 0, 1 or 2";

export const priority = z
  .int(SMALLINT)
  .min(-32_768, SMALLINT)
  .max(32_767, SMALLINT)
  .openapi({ ...PRIORITIES, description: "0 goes first (one-time codes), 1 is normal, 2 is bulk." });

export const availableAt = instant.openapi({ description: "Not sent before." });

export const expiresAt = instant
  .nullable()
  .openapi({ description: "Never sent after; has to be in the future. Null: never expires." });

export const NewMessage = z
  .strictObject(
    {
      recipient,
      content,
      gateway: text("the name of a gateway").optional().openapi({
        pattern: "^[a-z][a-z0-9_-]{0,62}$",
        description: "One of outbox.gateways; `default` unless given.",
      }),
      priority: priority.optional(),
      available_at: availableAt.optional(),
      expires_at: expiresAt.optional(),
      metadata: metadata.optional().openapi({
        ...METADATA_SCHEMA,
        description: "Yours: an object that stays with the message, and is never sent.",
      }),
      dedupe_key: text("a text")
        .nullable()
        .optional()
        .openapi({
          minLength: 1,
          maxLength: 200,
          pattern: STORABLE,
          description:
            "A second message with the same key, within the gateway's window (24 h unless set otherwise), is not put in: the answer " +
            "is the first one.",
        }),
      traceparent: z
        .string("must be a text")
        .regex(
          /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/,
          "must be a traceparent of version 00 (W3C Trace Context)",
        )
        .nullable()
        .optional()
        .openapi({
          description:
            "W3C trace context, passed on to the gateway; by default that of the request's header. Null: none.",
        }),
    },
    "must be a message",
  )
  .openapi("NewMessage");

const MOST = 1_000;

export const NewMessages = z.union(
  [
    NewMessage,
    z
      .array(NewMessage, "must be messages")
      .min(1, `must be 1 to ${MOST.toLocaleString("en")} messages`)
      .max(MOST, `must be 1 to ${MOST.toLocaleString("en")} messages`),
  ],
  "must be a message, or an array of messages",
);

export type NewMessages = z.infer<typeof NewMessages>;

/**
 * The rules that the document states and only the table checks, by the names of its constraints: for a message that the table does
 * not see, because another one has its dedupe_key. None of time: what was in the future at first may be past when it is sent again.
 */
export function brokenForm({ recipient, content, priority = 1 }: z.infer<typeof NewMessage>): string[] {
  const length = [...content].length;
  return [
    ...(E164.test(recipient) ? [] : ["recipient_not_e164"]),
    ...(length >= 1 && length <= LONGEST ? [] : ["content_empty_or_over_1600"]),
    ...(priority >= PRIORITIES.minimum && priority <= PRIORITIES.maximum ? [] : ["priority_not_0_1_or_2"]),
  ];
}
