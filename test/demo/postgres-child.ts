import { type LocalPostgresOptions, startLocalPostgres } from "../../src/demo/local-postgres.ts";

/*
 * A process of its own with a built-in PostgreSQL, for what only a process can show: being killed, being someone else,
 * being two. Tells its parent what came of the start, and then lives until it is killed.
 */
const options = JSON.parse(process.argv[2] ?? "") as LocalPostgresOptions;
const keepAlive = setInterval(() => {}, 60_000);
try {
  const postgres = await startLocalPostgres(options);
  process.send?.({
    url: postgres.url(),
    pid: postgres.pid,
    port: postgres.port,
    attached: postgres.attached,
  });
} catch (error) {
  process.send?.({ error: (error as Error).name, message: (error as Error).message });
  clearInterval(keepAlive);
  process.disconnect?.();
}
