import { expect, onTestFinished, test } from "vitest";
import { startServer } from "../../src/api/server.ts";
import { migrate } from "../../src/db/migrate.ts";
import { eventually } from "../support/eventually.ts";
import { backends, queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { apiUnderTest, poolFor } from "./api-under-test.ts";

const postgres = usePrivatePostgres();
/** What a client may be kept waiting while the database is away: our deadlines are 2 s. */
const PROMPT_MS = 4_000;

async function serve() {
  const url = await postgres.createDatabase();
  await migrate({ connectionString: url, log: () => {} });
  const pool = poolFor(url);
  // In this test it is the database, and nothing before it, that says whether it is there.
  const api = apiUnderTest(pool);
  const server = await startServer({ app: api.app, host: "127.0.0.1", port: 0, graceMs: 1_000 });
  onTestFinished(async () => {
    await server.stop();
    await pool.end();
  });
  const ask = async (method: string, path: string) => {
    const start = performance.now();
    const answer = await fetch(`${server.url}/api/v1${path}`, { method });
    const body = (await answer.json()) as { type?: string; running?: boolean };
    return { status: answer.status, headers: answer.headers, body, ms: performance.now() - start };
  };
  return { url, api, ask };
}

test.each(["fast", "immediate"] as const)(
  "while Postgres restarts (%s) each request is answered at once, rightly or with a 503, and what was said is true",
  async (mode) => {
    const { url, api, ask } = await serve();
    expect((await ask("GET", "/scheduler")).status).toBe(200);

    const answers: Awaited<ReturnType<typeof ask>>[] = [];
    let over = false;
    const clients = [
      "GET /scheduler",
      "GET /messages/sent",
      "POST /scheduler/stop",
      "POST /scheduler/start",
    ].map(async (request) => {
      const [method = "", path = ""] = request.split(" ");
      while (!over) answers.push(await ask(method, path));
    });
    await postgres.stop(mode);
    await eventually(
      async () => answers.map(({ status }) => status),
      (all) => all.includes(503),
    );
    await postgres.start();
    const before = answers.length;
    const after = async () => answers.slice(before).filter(({ status }) => status === 200).length;
    await eventually(after, (answered) => answered > 20);
    over = true;
    await Promise.all(clients);

    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 503]));
    for (const { status, headers, body, ms } of answers) {
      expect(ms).toBeLessThan(PROMPT_MS);
      if (status === 200) continue;
      expect(body.type).toMatch(/:(database-unavailable|query-too-slow)$/);
      expect(headers.get("Retry-After")).toMatch(/^\d+$/);
    }
    // A pause that was answered is on record, and stopped the scheduler: what changes nothing is not audited.
    const [audit] = await queryOnce<{ changes: number }>(
      url,
      "select count(*)::int as changes from outbox.audit where actor = 'api'",
    );
    expect(audit?.changes).toBeGreaterThan(0);
    expect(api.log.filter(({ level }) => level === "error")).toEqual([]);
  },
);

test("a connection on which Postgres hangs is a 503 within seconds, and is not used again", async () => {
  const { url, ask } = await serve();
  expect((await ask("GET", "/scheduler")).status).toBe(200);
  const frozen = await backends(url, "api-test");
  expect(frozen).toHaveLength(1);
  for (const pid of frozen) process.kill(pid, "SIGSTOP");
  onTestFinished(() => {
    for (const pid of frozen) process.kill(pid, "SIGCONT");
  });
  const answer = await ask("GET", "/scheduler");
  expect(answer).toMatchObject({
    status: 503,
    body: { type: "urn:outbox-relayer:problem:database-unavailable" },
  });
  expect(answer.ms).toBeLessThan(PROMPT_MS);
  expect((await ask("GET", "/scheduler")).status).toBe(200);
});
