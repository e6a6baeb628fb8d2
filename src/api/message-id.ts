import { z } from "@hono/zod-openapi";

const FAULT = "must be the id of a message: a whole number from 1 to 2^53 - 1";

/** The {id} of a path. */
export const messageId = z
  .string()
  .regex(/^[1-9]\d{0,15}$/, FAULT)
  .transform(Number)
  .refine(Number.isSafeInteger, FAULT)
  .openapi({
    type: "integer",
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description: "The message's id.",
    examples: [42],
  });
