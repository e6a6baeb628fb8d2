/* Sessions of Postgres in a process of their own: `node sessions-process.ts URL COUNT`. What it is told is in sessions.ts. */
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import type { FromSessions, ToSessions } from "./sessions.ts";

const [url, count] = process.argv.slice(2) as [string, string];

async function connect(): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client;
}

const clients = await Promise.all(Array.from({ length: Number(count) }, connect));

/** Parsed and planned once a session. */
function prepared(sql: string) {
  return { name: sql.slice(0, 63), text: sql };
}

async function repeat(sql: string, forMs: number): Promise<number> {
  const query = prepared(sql);
  const start = performance.now();
  let times = 0;
  await Promise.all(
    clients.map(async (client) => {
      for (; performance.now() - start < forMs; times++) await client.query(query);
    }),
  );
  return (times / (performance.now() - start)) * 1_000;
}

async function pace(sql: string, perSecond: number, forMs: number): Promise<number[]> {
  const query = prepared(sql);
  const intervalMs = 1_000 / perSecond;
  const start = performance.now();
  const tookMs: number[] = [];
  let turn = 0;
  await Promise.all(
    clients.map(async (client) => {
      for (;;) {
        const dueMs = turn++ * intervalMs;
        if (dueMs >= forMs) return;
        const wait = start + dueMs - performance.now();
        if (wait > 0) await pause(wait);
        const asked = performance.now();
        await client.query(query);
        tookMs.push(performance.now() - asked);
      }
    }),
  );
  return tookMs;
}

function tell(message: FromSessions): void {
  process.send?.(message);
}

process.on("message", async ({ sql, forMs, perSecond }: ToSessions) => {
  if (perSecond === undefined) tell({ perSecond: await repeat(sql, forMs) });
  else tell({ tookMs: await pace(sql, perSecond, forMs) });
});
process.on("disconnect", () => process.exit());
tell({});
