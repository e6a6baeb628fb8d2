import { onConnection } from "./connection.ts";
import type { ApiDependencies } from "./dependencies.ts";

/**
 * Reads outbox.scheduler.cursor_key once, when it is first needed. It is in the database, so that what one relayer has signed is
 * good at every other, and after a restart.
 */
export function createSigningKey(pool: ApiDependencies["pool"]): () => Promise<Buffer> {
  let known: Promise<Buffer> | undefined;
  return () => {
    known ??= read(pool);
    known.catch(() => {
      known = undefined;
    });
    return known;
  };
}

async function read(pool: ApiDependencies["pool"]): Promise<Buffer> {
  const [row] = await onConnection(pool, (query) =>
    query<{ cursor_key: Buffer }>("select cursor_key from outbox.scheduler", []),
  );
  if (row === undefined) throw new Error("outbox.scheduler has no row");
  return row.cursor_key;
}
