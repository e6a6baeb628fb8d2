import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { FAILURES } from "../../src/api/access.ts";
import { startServer } from "../../src/api/server.ts";
import { type ApiKey, type Scope, sha256Of } from "../../src/config/api-keys.ts";
import { useDatabase } from "../support/database.ts";
import { type ApiUnderTest, apiUnderTest, poolFor } from "./api-under-test.ts";
import { insertSent } from "./sent-fixture.ts";

const database = useDatabase();
let pool: ReturnType<typeof poolFor>;
let api: ApiUnderTest;

const key = (name: string, scopes: Scope[], expiresAt?: Date): ApiKey => ({
  name,
  scopes,
  sha256: sha256Of(`key-${name}`),
  expiresAt,
});
const KEYS = [
  key("reader", ["read"]),
  key("writer", ["write"]),
  key("operator", ["read", "operate"]),
  key("support", ["read", "read_pii"]),
  key("past", ["read"], new Date("2020-01-01T00:00:00Z")),
  key("future", ["read"], new Date("2999-01-01T00:00:00Z")),
];
const as = (name: string, init: RequestInit = {}): RequestInit => ({
  ...init,
  headers: { Authorization: `Bearer key-${name}` },
});

beforeAll(() => {
  pool = poolFor(database.url);
});
beforeEach(() => {
  api = apiUnderTest(pool, { keys: KEYS });
});
afterAll(() => pool.end());

const SCHEDULER = "/api/v1/scheduler";
const LIST = "/api/v1/messages/sent";
const POST = { method: "POST" };

describe("a key", () => {
  test.each([
    ["reader", "GET", SCHEDULER, 200],
    ["future", "GET", SCHEDULER, 200],
    ["reader", "POST", `${SCHEDULER}/start`, 403],
    ["writer", "GET", SCHEDULER, 403],
    ["writer", "POST", `${SCHEDULER}/start`, 403],
    ["operator", "POST", `${SCHEDULER}/start`, 200],
    ["past", "GET", SCHEDULER, 401],
    ["nobody", "GET", SCHEDULER, 401],
  ])("%s: %s %s is %i", async (name, method, path, status) => {
    expect((await api.request(path, as(name, { method }))).status).toBe(status);
  });

  test("that lacks the scope is told which", async () => {
    const answer = await api.request(`${SCHEDULER}/stop`, as("reader", POST));
    expect(answer.headers.get("WWW-Authenticate")).toBe('Bearer error="insufficient_scope", scope="operate"');
    expect(await answer.json()).toMatchObject({
      type: "urn:outbox-relayer:problem:insufficient-scope",
      detail: "This needs a key with the scope operate.",
    });
    expect((await pool.query("select running from outbox.scheduler")).rows).toEqual([{ running: true }]);
  });

  test("that has expired is told when", async () => {
    const answer = await api.request(SCHEDULER, as("past"));
    expect(await answer.json()).toMatchObject({ detail: "This key expired at 2020-01-01T00:00:00.000Z." });
  });

  test("that is missing is asked for", async () => {
    const answer = await api.request(SCHEDULER);
    expect(answer.status).toBe(401);
    expect(answer.headers.get("WWW-Authenticate")).toBe('Bearer realm="outbox-relayer"');
    expect(await answer.json()).toMatchObject({
      type: "urn:outbox-relayer:problem:unauthenticated",
      detail: "Send a key: Authorization: Bearer <key>.",
    });
  });

  test.each(["key-reader", "Basic key-reader", "Bearer", "Bearer key-reader key-reader", "Bearer key-readé"])(
    "given as %j is none",
    async (Authorization) => {
      const headers = { Authorization: encodeURI(Authorization).replaceAll("%20", " ") };
      expect((await api.request(SCHEDULER, { headers })).status).toBe(401);
    },
  );

  test.each(["bearer", "BEARER", "Bearer "])("may be given as %j, too", async (scheme) => {
    const headers = { Authorization: `${scheme} key-reader` };
    expect((await api.request(SCHEDULER, { headers })).status).toBe(200);
  });

  test("its name is what the audit and the log know", async () => {
    await api.request(`${SCHEDULER}/stop`, as("operator", POST));
    expect(await api.json(`${SCHEDULER}/start`, as("operator", POST))).toMatchObject({
      changed_by: "operator",
    });
    const { rows } = await pool.query("select actor from outbox.audit order by id desc limit 2");
    expect(rows).toEqual([{ actor: "operator" }, { actor: "operator" }]);
    expect(api.log.find(({ fields }) => fields.path === `${SCHEDULER}/start`)?.fields).toMatchObject({
      key: "operator",
      status: 200,
    });
  });

  test("is not needed for probes, the document and its page", async () => {
    for (const path of [
      "/livez",
      "/readyz",
      "/metrics",
      "/api/v1/openapi.json",
      "/api/v1/swagger/index.html",
    ])
      expect((await api.request(path)).status, path).toBe(200);
  });

  test("never reaches the log", async () => {
    await api.request(SCHEDULER, as("reader"));
    await api.request(SCHEDULER, as("a-wrong-one"));
    expect(JSON.stringify(api.log)).not.toMatch(/key-reader|a-wrong-one/);
  });
});

test("every operation of the API needs a key, but for the document itself", async () => {
  const { paths } = await api.json<{ paths: Record<string, Record<string, object>> }>("/api/v1/openapi.json");
  const open: string[] = [];
  for (const [template, methods] of Object.entries(paths)) {
    const path = template.replaceAll(/\{\w+\}/g, "1");
    for (const method of Object.keys(methods)) {
      const fresh = apiUnderTest(pool, { keys: KEYS });
      const answer = await fresh.app.request(path, { method: method.toUpperCase() });
      if (answer.status !== 401) open.push(`${method} ${template}`);
    }
  }
  expect(open.sort()).toEqual(["get /api/v1/openapi.json", "get /livez", "get /metrics", "get /readyz"]);
});

test("without keys whoever is on this machine may do everything", async () => {
  const open = apiUnderTest(pool);
  expect(await open.json(`${SCHEDULER}/start`, POST)).toMatchObject({ running: true });
});

describe("numbers and contents", () => {
  beforeAll(async () => {
    const last_error = "HTTP 500: no route to +905551234567, nor to 905551234567";
    await insertSent(pool, [{ id: 1, sent_at: "2026-01-01T00:00:00Z", last_error }]);
  });
  const first = async (name: string) =>
    (await api.json<{ messages: Record<string, unknown>[] }>(LIST, as(name))).messages[0] ?? {};

  test("are for those who may read them", async () => {
    expect(await first("support")).toMatchObject({
      recipient: "+905551234567",
      content: "text 1",
      last_error: "HTTP 500: no route to +905551234567, nor to 905551234567",
    });
  });

  test("are masked and left out for others", async () => {
    const message = await first("reader");
    expect(message).toMatchObject({
      recipient: "+90********67",
      last_error: "HTTP 500",
    });
    expect(message).not.toHaveProperty("content");
  });

  test("cannot be guessed by a filter either", async () => {
    const url = `${LIST}?recipient=%2B905551234567`;
    expect((await api.request(url, as("reader"))).status).toBe(403);
    expect((await api.request(url, as("support"))).status).toBe(200);
  });
});

describe("failed authentications", () => {
  const exhaust = async (request: () => Promise<Response>) => {
    const answers: Response[] = [];
    for (let n = 0; n <= FAILURES.points; n++) answers.push(await request());
    return answers;
  };

  test("are limited, and each answer says how many are left", async () => {
    const answers = await exhaust(() => api.request(SCHEDULER, as("nobody")));
    expect(answers.map(({ status }) => status)).toEqual([...Array(FAILURES.points).fill(401), 429]);
    expect(answers[0]?.headers.get("RateLimit-Policy")).toBe('"failed-authentications";q=20;w=60');
    expect(answers[0]?.headers.get("RateLimit")).toBe('"failed-authentications";r=19;t=60');
    const last = answers.at(-1) as Response;
    expect(last.headers.get("RateLimit")).toMatch(/^"failed-authentications";r=0;t=([1-9]|[1-5]\d|60)$/);
    expect(Number(last.headers.get("Retry-After"))).toBeGreaterThanOrEqual(1);
    expect(await last.json()).toMatchObject({ type: "urn:outbox-relayer:problem:too-many-failures" });
  });

  test("do not shut out who has a key", async () => {
    await exhaust(() => api.request(SCHEDULER));
    expect((await api.request(SCHEDULER, as("reader"))).status).toBe(200);
  });

  test("are counted for each address, as the connection has it", async () => {
    const server = await startServer({ app: api.app, host: "127.0.0.1", port: 0, graceMs: 1_000 });
    try {
      const claimed = { headers: { "X-Forwarded-For": "10.1.1.1" } };
      const answers = await exhaust(() => fetch(`${server.url}${SCHEDULER}`, claimed));
      expect(answers.at(-1)?.status).toBe(429);
      // In process there is no address: another one, so to say.
      expect((await api.request(SCHEDULER)).status).toBe(401);
      expect(api.log.find(({ fields }) => fields.address === "127.0.0.1")).toMatchObject({ level: "warn" });
    } finally {
      await server.stop();
    }
  });

  test("beyond the limit do not fill the log", async () => {
    await exhaust(() => api.request(SCHEDULER));
    await exhaust(() => api.request(SCHEDULER));
    expect(api.log.filter(({ level }) => level === "warn")).toHaveLength(FAILURES.points);
  });
});

describe("other web sites", () => {
  const DESK = "https://desk.example";
  const preflight = {
    method: "OPTIONS",
    headers: {
      Origin: DESK,
      "Access-Control-Request-Method": "POST",
      "Access-Control-Request-Headers": "authorization",
    },
  };
  const post = (origin: string) => ({
    method: "POST",
    headers: { Origin: origin, "Sec-Fetch-Site": "cross-site", Authorization: "Bearer key-operator" },
  });

  test("get nothing from us by default", async () => {
    const answer = await api.request(SCHEDULER, {
      headers: { Origin: DESK, Authorization: "Bearer key-reader" },
    });
    expect(answer.headers.get("Access-Control-Allow-Origin")).toBeNull();
    expect((await api.request(`${SCHEDULER}/start`, preflight)).status).toBe(405);
    expect((await api.request(`${SCHEDULER}/start`, post(DESK))).status).toBe(403);
  });

  test("that are configured may use the API, and no others", async () => {
    const friendly = apiUnderTest(pool, { keys: KEYS, corsOrigins: [DESK] });
    const allowed = await friendly.app.request(`${SCHEDULER}/start`, preflight);
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get("Access-Control-Allow-Origin")).toBe(DESK);
    expect(allowed.headers.get("Access-Control-Allow-Headers")).toContain("Authorization");
    expect(allowed.headers.get("Access-Control-Allow-Credentials")).toBeNull();

    const answer = await friendly.request(`${SCHEDULER}/start`, post(DESK));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("Access-Control-Allow-Origin")).toBe(DESK);
    expect(answer.headers.get("Access-Control-Expose-Headers")).toContain("ETag");

    const other = await friendly.request(`${SCHEDULER}/start`, post("https://evil.example"));
    expect(other.status).toBe(403);
    expect(other.headers.get("Access-Control-Allow-Origin")).toBeNull();
  });
});
