import { z } from "@hono/zod-openapi";
import { ProblemError } from "../problem.ts";

/** A place in the primary's write-ahead log, as Postgres writes a pg_lsn: `0/16B3748`. */
export const LSN_HEADER = "X-Outbox-LSN";

const PATTERN = "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$";

const lsn = z.string().regex(new RegExp(PATTERN));

/** The JSON Schema of the header. */
export const LSN_SCHEMA = { type: "string", pattern: PATTERN, examples: ["0/16B3748"] } as const;

/** What a request wants a reader to have seen; throws invalid-request. */
export function lsnOf(header: string | undefined): bigint | undefined {
  if (header === undefined) return undefined;
  if (lsn.safeParse(header).success) return parseLsn(header);
  throw new ProblemError("invalid-request", undefined, [
    { detail: `is damaged: send the ${LSN_HEADER} of a write as it came, or none`, parameter: LSN_HEADER },
  ]);
}

/** As a number, for Postgres' order of them is not that of their texts. */
export function parseLsn(text: string): bigint {
  const [high = "", low = ""] = text.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}
