import { z } from "@hono/zod-openapi";

const BARE = "[!#-~][!-~]{0,199}";
/** A string of RFC 8941, which is the form of the IETF's draft for this header. */
const QUOTED = '"(?:[!#-\\[\\]-~]|\\\\["\\\\]){1,200}"';
const PATTERN = `^(?:${BARE}|${QUOTED})$`;

/** `abc`, or `"abc"`, which is the same key. */
export const idempotencyKey = z
  .string()
  .regex(new RegExp(PATTERN), "must be 1 to 200 visible ASCII characters, or such in quotation marks")
  .transform((text) => (text.startsWith('"') ? text.slice(1, -1).replace(/\\(.)/g, "$1") : text))
  .optional()
  .openapi({
    type: "string",
    pattern: PATTERN,
    description:
      "Makes it safe to send the request again: for 24 hours, the same key with the same JSON (whatever the order of its keys, and its " +
      "spaces) gives the same messages again, and with other JSON a 422. Each API key's name has keys of its own.",
  });
