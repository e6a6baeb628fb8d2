import { z } from "@hono/zod-openapi";
import { INSTANT_PATTERN, isInstant, NOT_AN_INSTANT } from "./instant.ts";

// A query is text. These schemas say what the text may be, and what it becomes. Their examples are `examples`,
// because Swagger UI fills a filter's `example` in, and would ask for next to nothing.

/** A literal "+" in a query means a space; where a space makes no sense, the sender meant "+". */
const PLUS_READ_AS_SPACE = / (?=[\d:]+$)/;

export const limit = z
  .string()
  .regex(/^\d{1,9}$/, "must be a whole number from 1 to 200")
  .transform(Number)
  .refine((n) => n >= 1 && n <= 200, "must be a whole number from 1 to 200")
  .default(50)
  .openapi({
    type: "integer",
    minimum: 1,
    maximum: 200,
    default: 50,
    description: "How many to answer at most.",
  });

export const order = z
  .enum(["asc", "desc"], "must be asc or desc")
  .default("desc")
  .openapi({ description: "desc: newest first. asc: oldest first." });

export const gateway = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,62}$/, "must be the name of a gateway: a to z, 0 to 9, _ and -")
  .openapi({ description: "Only messages of this gateway.", examples: ["default"] });

export const recipient = z
  .string()
  .transform((text) => text.replace(PLUS_READ_AS_SPACE, "+"))
  .refine((text) => /^\+[1-9]\d{6,14}$/.test(text), "must be a number in E.164 form, such as +905551234567")
  .openapi({
    type: "string",
    pattern: "^\\+[1-9]\\d{6,14}$",
    description:
      "Only messages to this number, in E.164 form. Write its + as %2B (a bare + is understood too).",
    examples: ["+905551234567"],
  });

export const instant = z
  .string()
  .transform((text) => text.replace(PLUS_READ_AS_SPACE, "+"))
  .refine(isInstant, NOT_AN_INSTANT)
  .openapi({
    type: "string",
    format: "date-time",
    pattern: INSTANT_PATTERN,
    examples: ["2026-11-23T09:30:00.123456Z"],
  });

export const cursor = z
  .string()
  .regex(/^[\w-]{40,200}$/, "is damaged: send next_cursor as it came, or leave it out to start again")
  .openapi({
    format: "cursor", // no standard one; it says that a text of one's own making will not do
    description:
      "The `next_cursor` of the page before, with the same filters. Its content is not part of the API.",
  });

export const text = z
  .string()
  .regex(/^[^\0]{1,200}$/, "must be a text of 1 to 200 characters")
  .openapi({ pattern: "^[^\\x00]{1,200}$" });

/** In a path. */
export const id = z
  .string()
  .regex(/^[1-9]\d{0,15}$/, "must be a whole number from 1 to 9007199254740991")
  .transform(Number)
  .refine(Number.isSafeInteger, "must be a whole number from 1 to 9007199254740991")
  .openapi({ type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
