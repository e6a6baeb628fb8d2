import type pg from "pg";
import { createApp } from "../../src/api/app.ts";
import type { ApiDependencies, Readiness } from "../../src/api/dependencies.ts";
import { createPool } from "../../src/db/pool.ts";
import { type ExpectDocumented, expectingDocumented, type OpenApiDocument } from "./documented-answers.ts";

export const READY: Readiness = { ready: true, parts: { database: { ok: true } } };

export interface LogLine {
  readonly level: string;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface ApiUnderTest {
  readonly app: ReturnType<typeof createApp>;
  readonly log: LogLine[];
  /** As `app.request`; and every answer is held against the OpenAPI document. */
  readonly request: (url: string, init?: RequestInit) => Promise<Response>;
  readonly json: <Body>(url: string, init?: RequestInit) => Promise<Body>;
}

export function apiUnderTest(
  pool: ApiDependencies["pool"],
  overrides: Partial<ApiDependencies> = {},
): ApiUnderTest {
  const log: LogLine[] = [];
  const app = createApp({
    pool,
    ready: () => READY,
    alive: () => ({ alive: true }),
    metrics: async () => ({ contentType: "text/plain; version=0.0.4; charset=utf-8", body: "up 1\n" }),
    version: "1.2.3",
    log: (level, fields, message) => log.push({ level, fields, message }),
    ...overrides,
  });
  let expectDocumented: Promise<ExpectDocumented> | undefined;
  const request = async (url: string, init: RequestInit = {}) => {
    const answer = await app.request(url, init);
    const method = init.method ?? "GET";
    expectDocumented ??= expecting(app);
    if (method !== "HEAD") await (await expectDocumented)(method, url, answer.clone());
    return answer;
  };
  return {
    app,
    log,
    request,
    json: async <Body>(url: string, init?: RequestInit) => (await (await request(url, init)).json()) as Body,
  };
}

async function expecting(app: ReturnType<typeof createApp>): Promise<ExpectDocumented> {
  return expectingDocumented((await (await app.request("/api/v1/openapi.json")).json()) as OpenApiDocument);
}

/** A pool as the program makes it: its values are what the API expects. */
export function poolFor(url: string): pg.Pool {
  return createPool({ connectionString: url, max: 4, applicationName: "api-test", log: () => {} });
}

/** Port 1 is nobody's. */
export const NOBODY = "postgres://outbox@127.0.0.1:1/outbox";

/** For tests whose requests never get as far as a database. */
export const noPool = poolFor(NOBODY);
