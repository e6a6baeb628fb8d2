/*
 * npm run bench -- [NAME] [--messages N]
 *
 * Prints figures, not verdicts. Everything runs on this machine: a PostgreSQL with durable settings, a gateway in a process of
 * its own, the relayer in this one.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Pool } from "pg";
import { migrate } from "../src/db/migrate.ts";
import { startLocalPostgres } from "../src/demo/local-postgres.ts";
import { throughput } from "./throughput.ts";

const BENCHES = { throughput } as const;
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { messages: { type: "string", default: "100000" } },
});
const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
const unknown = names.filter((name) => !(name in BENCHES));
const messages = Number(values.messages);
if (unknown.length > 0 || !Number.isInteger(messages) || messages < 100) {
  console.error(`npm run bench -- [${Object.keys(BENCHES).join("|")}] [--messages N, at least 100]`);
  process.exit(1);
}

const dataDir = join(tmpdir(), `outbox-bench-${process.pid}`);
const postgres = await startLocalPostgres({
  dataDir,
  port: 54_000 + (process.pid % 1_000),
  user: "outbox",
  password: "outbox",
  database: "outbox",
  settings: { fsync: "on", synchronous_commit: "on", shared_buffers: "512MB", max_wal_size: "4GB" },
});
await migrate({ connectionString: postgres.url(), log: () => {} });
const pool = new Pool({ connectionString: postgres.url(), max: 2 });
const gateway = fork(here("gateway.ts"), { stdio: "inherit" });
try {
  const [port] = (await once(gateway, "message")) as [number];
  for (const name of names as (keyof typeof BENCHES)[]) {
    const figures = await BENCHES[name](pool, postgres.url(), `http://127.0.0.1:${port}/`, messages);
    console.table(
      Object.fromEntries(Object.entries(figures).map(([figure, value]) => [figure, { value: round(value) }])),
    );
    const result = {
      bench: name,
      messages,
      cpus: cpus().length,
      node: process.version,
      at: new Date().toISOString(),
      ...figures,
    };
    console.log(JSON.stringify(result));
    mkdirSync(here("results"), { recursive: true });
    writeFileSync(here(`results/${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
  }
} finally {
  gateway.disconnect();
  await pool.end();
  await postgres.stop("immediate");
  rmSync(dataDir, { recursive: true, force: true });
}

function round(value: number): number {
  return value < 10 ? Math.round(value * 1_000) / 1_000 : Math.round(value);
}
