import { z } from "@hono/zod-openapi";
import { maskNumber, withoutAnswer } from "./pii.ts";

export const time = z.iso.datetime().openapi({ format: "date-time" });

/** An id is a JSON number, and stays below 2^53. */
export const id = z.int().openapi({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

/** What every message has, wherever it stands. A column's meaning is that of the table, see docs/sql.md. */
export const messageShape = {
  id,
  gateway: z.string(),
  priority: z.int().openapi({ description: "0, 1 or 2; 0 goes first." }),
  recipient: z
    .string()
    .openapi({ description: "E.164. Without the scope read_pii its middle is masked: `+90********67`." }),
  content: z.string().optional().openapi({ description: "Left out without the scope read_pii." }),
  metadata: z.record(z.string(), z.unknown()).openapi({ description: "The producer's own." }),
  dedupe_key: z.string().nullable(),
  attempts: z.int(),
  available_at: time,
  expires_at: time.nullable(),
  created_at: time,
  last_error: z.string().nullable().openapi({
    description:
      "Of the last attempt that failed. Without the scope read_pii only the status of the gateway's answer.",
  }),
};

/** The columns of `messageShape`, for a select list. */
export const MESSAGE_COLUMNS = Object.keys(messageShape).join(", ");

interface Personal {
  readonly recipient: string;
  readonly content?: string | undefined;
  readonly last_error: string | null;
  readonly error?: string | null;
}

/** A message as its reader may see it. */
export function forReader<M extends Personal>(message: M, mayReadPii: boolean): M {
  if (mayReadPii) return message;
  const { content: _, ...rest } = message;
  return {
    ...rest,
    recipient: maskNumber(message.recipient),
    last_error: withoutAnswer(message.last_error),
    ...(message.error === undefined ? {} : { error: withoutAnswer(message.error) }),
  } as M;
}
