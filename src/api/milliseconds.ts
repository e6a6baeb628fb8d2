import { z } from "@hono/zod-openapi";

/** In JSON a duration is a whole number of milliseconds, and its name says so. */
export const milliseconds = (description: string) => z.int().openapi({ description });

/** The same in a select list: `gateways.timeout` → `timeout_ms`. */
export function msColumn(interval: string): string {
  return `(extract(epoch from ${interval}) * 1000)::bigint as ${interval.split(".").at(-1)}_ms`;
}
