import type { Context } from "hono";
import type { Cursors, Position, Scope } from "./cursor.ts";
import type { ApiEnv } from "./dependencies.ts";

export interface Page<Row> {
  readonly rows: readonly Row[];
  readonly next_cursor: string | null;
}

/**
 * One page of a list that ends. `read` is asked for one row more than the page holds, which shows whether there is a next one;
 * its cursor also becomes the answer's `Link` with rel="next" (RFC 8288).
 */
export async function page<Row>(
  c: Context<ApiEnv>,
  cursors: Cursors,
  asked: { readonly cursor: string | undefined; readonly limit: number; readonly scope: Scope },
  read: (from: Position | undefined, count: number) => Promise<readonly Row[]>,
  positionOf: (row: Row) => Position,
): Promise<Page<Row>> {
  const from = asked.cursor === undefined ? undefined : await cursors.open(asked.cursor, asked.scope);
  const found = await read(from, asked.limit + 1);
  const rows = found.slice(0, asked.limit);
  const last = rows.at(-1);
  if (found.length <= asked.limit || last === undefined) return { rows, next_cursor: null };
  const next_cursor = await cursors.seal(positionOf(last), asked.scope);
  linkNext(c, next_cursor);
  return { rows, next_cursor };
}

/** The same request, from there on. Relative, because behind a proxy nobody here knows the server's name. */
export function linkNext(c: Context<ApiEnv>, cursor: string): void {
  const { pathname, searchParams } = new URL(c.req.url);
  searchParams.set("cursor", cursor);
  c.header("Link", `<${pathname}?${searchParams}>; rel="next"`);
}
