import { onConnection } from "./connection.ts";
import type { ApiDependencies } from "./dependencies.ts";

/**
 * Reads outbox.cursor_keys once, when it is first needed. It is in the database, so that what one relayer has signed is
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
    query<{ key: Buffer }>("select key from outbox.cursor_keys", []),
  );
  if (row === undefined) throw new Error("outbox.cursor_keys has no row");
  return row.key;
}
