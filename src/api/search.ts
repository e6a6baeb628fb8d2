import { z } from "@hono/zod-openapi";
import { onConnection } from "./connection.ts";
import type { ApiDependencies } from "./dependencies.ts";

/** Something to look for: in what has no letter and no digit, Postgres finds no word. */
const PATTERN = "^[^\\x00]*[\\p{L}\\p{Nd}][^\\x00]*$";

/** What a message's content and metadata are searched for, in the form of web searches. */
export const q = z
  .string()
  .refine((text) => text !== "" && [...text].length <= 200 && !text.includes("\0"), {
    error: "must be a text of 1 to 200 characters",
    abort: true,
  })
  .regex(new RegExp(PATTERN, "u"), "must have a word to look for: a letter or a digit")
  .openapi({
    type: "string",
    minLength: 1,
    maxLength: 200,
    pattern: PATTERN,
    description:
      "Only messages with these words in their content or metadata, whatever their case: all of them, or with `or` any; " +
      '`"words in a row"`; `-word` for those without it. Whole words, as they are written. Takes a key with the scope read_pii, and a database with ' +
      "indexes for it: 501 where there are none.",
    examples: ["parcel", '"at the door" -cancelled'],
  });

/** The condition, of outbox.all_messages; `parameter` stands for what is looked for. */
export function searchCondition(parameter: string): string {
  return `outbox.search_vector(content, metadata) @@ websearch_to_tsquery('pg_catalog.simple', ${parameter})`;
}

export const SEARCH_UNAVAILABLE = {
  queryStore:
    "The query store has no indexes for it. A logical subscriber gets them by npm run query-store -- init, a physical standby from the " +
    "primary: select outbox.create_search_indexes().",
  primary:
    "The database has no indexes for it. Set up a query store (npm run query-store -- init, QUERY_DATABASE_URL), or make them on this " +
    "one, where each message then costs more: select outbox.create_search_indexes().",
} as const;

const ASKED_EVERY_MS = 1_000;

/** Whether the primary has the indexes; asked now and then, not for each search. */
export function createSearchability(pool: ApiDependencies["pool"]): () => Promise<boolean> {
  let known: { readonly untilMs: number; readonly searchable: Promise<boolean> } | undefined;
  return () => {
    const now = performance.now();
    if (known === undefined || known.untilMs < now) {
      const asked = { untilMs: now + ASKED_EVERY_MS, searchable: ask(pool) };
      known = asked;
      asked.searchable.catch(() => {
        if (known === asked) known = undefined;
      });
    }
    return known.searchable;
  };
}

async function ask(pool: ApiDependencies["pool"]): Promise<boolean> {
  const [row] = await onConnection(pool, (query) =>
    query<{ searchable: boolean }>("select searchable from outbox.query_store_state()", []),
  );
  return row?.searchable ?? false;
}
