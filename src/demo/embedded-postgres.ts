import { resolve } from "node:path";
import { Client } from "pg";
import { type LocalPostgres, startLocalPostgres } from "./local-postgres.ts";

/** The database of a start with nothing configured. Other relayers may share it: whoever stops last stops it. */
export async function startEmbeddedPostgres(
  { dataDir, port }: { readonly dataDir: string; readonly port: number },
  root: string,
): Promise<LocalPostgres> {
  const postgres = await startLocalPostgres({
    dataDir: resolve(root, dataDir),
    port,
    user: "outbox",
    password: "outbox",
    database: "outbox",
  });
  return {
    ...postgres,
    async stop(mode) {
      if (!(await inUse(postgres.url()))) await postgres.stop(mode);
    },
  };
}

/** Is another relayer alive on it? What cannot be asked is not in use. */
async function inUse(connectionString: string): Promise<boolean> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 2_000, query_timeout: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ others: number }>(
      "select count(*)::int as others from outbox.relayers where outbox.relayer_is_alive(id, heartbeat_at)",
    );
    return rows[0]?.others !== 0;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
